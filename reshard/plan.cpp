#include "reshard/plan.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <map>

namespace troupe::reshard {
namespace {

constexpr std::array<std::string_view, 12> kOperations{"identity",
                                                       "slice",
                                                       "send_recv",
                                                       "all_reduce",
                                                       "reduce_scatter",
                                                       "all_gather",
                                                       "all_to_all",
                                                       "split_all_reduce",
                                                       "split_reduce_scatter",
                                                       "split_all_gather",
                                                       "bsr",
                                                       "local_sum"};

std::int64_t read_by_first(const Group& group) {
  std::int64_t sum = 0;
  for (const Part& part : group.reads) {
    if (part.member == 0) sum += strategy::elements(part.box);
  }
  return sum;
}

std::int64_t read_by_all(const Group& group) {
  std::int64_t sum = 0;
  for (const Part& part : group.reads) sum += strategy::elements(part.box);
  return sum;
}

std::int64_t exchanged(const Group& group) {
  std::int64_t sum = 0;
  for (const Part& write : group.writes) {
    for (const Part& read : group.reads) {
      if (read.member == write.member) continue;
      sum += strategy::elements(strategy::overlap(read.box, write.box));
    }
  }
  return sum;
}

std::int64_t moved_by(Operation operation, const Group& group) {
  const std::int64_t others = std::ssize(group.devices) - 1;
  switch (operation) {
    case Operation::all_reduce:
    case Operation::split_all_reduce:
      return 2 * others * read_by_first(group);
    case Operation::reduce_scatter:
    case Operation::split_reduce_scatter:
      return others * read_by_first(group);
    case Operation::all_gather:
    case Operation::split_all_gather:
      return others * read_by_all(group);
    case Operation::all_to_all:
      return exchanged(group);
    case Operation::identity:
    case Operation::slice:
    case Operation::send_receive:
    case Operation::batched_send_receive:
    case Operation::local_sum:
      return 0;
  }
  return 0;
}

}  // namespace

std::string_view name_of(Operation operation) {
  return kOperations[static_cast<std::size_t>(operation)];
}

std::optional<Operation> parse_operation(std::string_view name) {
  const auto found = std::ranges::find(kOperations, name);
  if (found == kOperations.end()) return {};
  return static_cast<Operation>(found - kOperations.begin());
}

std::string_view name_of(Algorithm algorithm) {
  switch (algorithm) {
    case Algorithm::direct:
      return "direct";
    case Algorithm::ring:
      return "ring";
    case Algorithm::two_level:
      return "two_level";
  }
  return "";
}

std::vector<Operation> operations(const Plan& plan) {
  std::vector<Operation> out;
  for (const Step& step : plan.steps) {
    if (step.operation == Operation::identity) continue;
    if (!out.empty() && out.back() == step.operation) continue;
    out.push_back(step.operation);
  }
  if (out.empty()) out.push_back(Operation::identity);
  return out;
}

std::int64_t moved_elements(const Step& step) {
  std::int64_t sum = 0;
  for (const Message& m : step.messages) sum += strategy::elements(m.box);
  for (const Group& group : step.groups) sum += moved_by(step.operation, group);
  return sum;
}

Bytes moved_bytes(const Plan& plan) {
  std::int64_t sum = 0;
  for (const Step& step : plan.steps) sum += moved_elements(step);
  return kernels::size_of(plan.dtype) * sum;
}

Bytes peak_temporary(const Plan& plan) {
  std::map<DeviceId, std::int64_t> used;
  for (const Step& step : plan.steps) {
    for (const Copy& copy : step.copies) {
      if (copy.to >= kFirstTemporary && !copy.add) {
        used[copy.device] += strategy::elements(copy.box);
      }
    }
    for (const Message& m : step.messages) {
      if (m.to_buffer >= kFirstTemporary) {
        used[m.to] += strategy::elements(m.box);
      }
    }
    for (const Group& group : step.groups) {
      for (const Part& part : group.writes) {
        if (part.buffer < kFirstTemporary) continue;
        used[group.devices[static_cast<std::size_t>(part.member)]] +=
            strategy::elements(part.box);
      }
    }
  }
  std::int64_t most = 0;
  for (const auto& [device, elements] : used) most = std::max(most, elements);
  return kernels::size_of(plan.dtype) * most;
}

std::string to_text(const Plan& plan) {
  std::string text;
  for (const Step& step : plan.steps) {
    text += fmt::format("wave {}: {}", step.wave, name_of(step.operation));
    if (!step.subgroups.empty()) {
      text += fmt::format(" in subgroups {}", fmt::join(step.subgroups, ", "));
    }
    if (step.dimension) text += fmt::format(" along {}", *step.dimension);
    if (step.algorithm != Algorithm::direct) {
      text += fmt::format(" ({})", name_of(step.algorithm));
    }
    for (std::size_t g = 0; g < step.groups.size(); ++g) {
      if (g == 8) {
        text += fmt::format(" ... {} groups", step.groups.size());
        break;
      }
      std::vector<int> devices;
      for (const DeviceId d : step.groups[g].devices) devices.push_back(d.v);
      text += fmt::format(" [{}]", fmt::join(devices, " "));
    }
    std::map<std::pair<int, int>, std::int64_t> pairs;
    for (const Message& m : step.messages) {
      pairs[{m.from.v, m.to.v}] += strategy::elements(m.box);
    }
    std::size_t shown = 0;
    for (const auto& [pair, count] : pairs) {
      if (++shown > 8) {
        text += fmt::format(" ... {} pairs", pairs.size());
        break;
      }
      text += fmt::format(" {}->{}", pair.first, pair.second);
    }
    text += '\n';
  }
  return text;
}

}  // namespace troupe::reshard
