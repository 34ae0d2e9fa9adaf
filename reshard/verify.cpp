#include "reshard/verify.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <unordered_map>

#include "reshard/problem.h"

namespace troupe::reshard {
namespace {

/// Number of an interned sum; kNothing where nothing was written.
using Value = std::int32_t;
constexpr Value kNothing = -1;

/// Sums as sorted lists of summand numbers; repeated ones stay repeated.
class Sums {
 public:
  Value of(std::vector<int> terms) {
    std::ranges::sort(terms);
    const auto [at, fresh] =
        index_.try_emplace(std::move(terms), static_cast<Value>(list_.size()));
    if (fresh) list_.push_back(&at->first);
    return at->second;
  }
  Value add(Value a, Value b) {
    if (list(a).empty()) return b;
    if (list(b).empty()) return a;
    const auto key =
        (static_cast<std::uint64_t>(a) << 32) | static_cast<std::uint32_t>(b);
    const auto known = added_.find(key);
    if (known != added_.end()) return known->second;
    std::vector<int> both = list(a);
    both.insert(both.end(), list(b).begin(), list(b).end());
    const Value sum = of(std::move(both));
    added_.emplace(key, sum);
    return sum;
  }
  const std::vector<int>& list(Value v) const {
    return *list_[static_cast<std::size_t>(v)];
  }

 private:
  std::map<std::vector<int>, Value> index_;
  std::vector<const std::vector<int>*> list_;
  std::unordered_map<std::uint64_t, Value> added_;
};

std::vector<const Box*> boxes_of(const Plan& plan, const Layout& source,
                                 const Layout& destination) {
  std::vector<const Box*> out;
  for (const Layout* layout : {&source, &destination}) {
    for (const Held& held : *layout) {
      for (const Box& box : held.boxes) out.push_back(&box);
    }
  }
  for (const Step& step : plan.steps) {
    for (const Copy& copy : step.copies) out.push_back(&copy.box);
    for (const Message& m : step.messages) out.push_back(&m.box);
    for (const Group& group : step.groups) {
      for (const Part& part : group.reads) out.push_back(&part.box);
      for (const Part& part : group.writes) out.push_back(&part.box);
    }
  }
  return out;
}

/// Whether a plan's indices are what they must be before it is carried out.
bool well_formed(const Plan& plan, std::vector<std::string>& wrong) {
  const auto box_fits = [&](const Box& box) {
    if (box.size() != plan.shape.size()) return false;
    for (std::size_t d = 0; d < box.size(); ++d) {
      const bool inside = box[d].first >= 0 && box[d].first < box[d].last &&
                          box[d].last <= plan.shape[d];
      if (!inside) return false;
    }
    return true;
  };
  bool good = true;
  const auto expect = [&](bool holds, const char* what) {
    if (!holds && good) wrong.emplace_back(what);
    good = good && holds;
  };
  int wave = 0;
  for (const Step& step : plan.steps) {
    expect(step.wave >= wave, "waves are out of order");
    wave = step.wave;
    for (const Copy& c : step.copies) {
      expect(box_fits(c.box), "a box outside of the tensor");
    }
    for (const Message& m : step.messages) {
      expect(box_fits(m.box), "a box outside of the tensor");
      expect(m.from != m.to, "a device sends to itself");
    }
    for (const Group& g : step.groups) {
      const auto check_part = [&](const Part& p) {
        expect(box_fits(p.box), "a box outside of the tensor");
        expect(p.member >= 0 && p.member < std::ssize(g.devices),
               "a part of no member");
      };
      std::ranges::for_each(g.reads, check_part);
      std::ranges::for_each(g.writes, check_part);
      std::vector<DeviceId> devices = g.devices;
      std::ranges::sort(devices);
      expect(std::ranges::adjacent_find(devices) == devices.end(),
             "a device is twice in a group");
    }
  }
  return good;
}

/// Carries a plan out.
class Machine {
 public:
  Machine(const Plan& plan, const Cells& cells, const Layout& source,
          const Layout& destination, std::vector<std::string>& wrong)
      : plan_(plan), cells_(cells), wrong_(wrong) {
    for (const Held& held : source) {
      const Value value = sums_.of({held.summand});
      auto& memory = memory_of(held.device, kSource);
      for (const Box& box : held.boxes) {
        cells_.inside(box, [&](std::size_t c) { memory[c] = value; });
      }
    }
    for (const Held& held : destination) {
      auto& wanted = wanted_[held.device];
      wanted.resize(cells_.size(), 0);
      for (const Box& box : held.boxes) {
        cells_.inside(box, [&](std::size_t c) { wanted[c] = 1; });
      }
    }
  }

  void run() {
    for (std::size_t i = 0; i < plan_.steps.size();) {
      const int wave = plan_.steps[i].wave;
      for (; i < plan_.steps.size() && plan_.steps[i].wave == wave; ++i) {
        run_step(plan_.steps[i]);
      }
      apply();
      if (!wrong_.empty()) return;
    }
  }

  /// Compares what is there with what the destination asks for.
  void compare(const Layout& source, const Layout& destination) {
    int most = 0;
    for (const Held& held : source) most = std::max(most, held.summand);
    for (const Held& held : destination) compare_values(held);
    if (!wrong_.empty()) return;
    const Holders holders(cells_, destination);
    const Holders givers(cells_, source);
    for (std::size_t c = 0; c < cells_.size() && wrong_.empty(); ++c) {
      compare_cell(c, holders.at(c), givers.at(c), source, destination);
    }
  }

 private:
  using Memory = std::vector<Value>;
  struct Write {
    Memory* memory = nullptr;
    std::size_t cell = 0;
    Value value = kNothing;
    bool add = false;
  };

  Memory& memory_of(DeviceId device, int buffer) {
    Memory& memory = memories_[{device, buffer}];
    if (memory.empty()) memory.assign(cells_.size(), kNothing);
    return memory;
  }

  void complain(std::string what, std::size_t cell, DeviceId device) {
    if (wrong_.size() >= 8) return;
    const Box box = cells_.box(cell);
    std::string where;
    for (const Span& s : box) where += fmt::format("[{},{})", s.first, s.last);
    wrong_.push_back(fmt::format("device {}: {} {}", device.v, where, what));
  }

  Value read(DeviceId device, int buffer, std::size_t cell) {
    if (buffer == kZeros) return sums_.of({});
    const Value value = memory_of(device, buffer)[cell];
    if (value == kNothing) {
      complain(
          fmt::format("of buffer {} is read but was never written", buffer),
          cell, device);
      return sums_.of({});
    }
    return value;
  }

  void write(DeviceId device, int buffer, std::size_t cell, Value value,
             bool add) {
    if (buffer == kSource) {
      complain("of the source is overwritten", cell, device);
      return;
    }
    if (buffer == kDestination) {
      const auto wanted = wanted_.find(device);
      if (wanted == wanted_.end() || !wanted->second[cell]) {
        complain("is written but not part of the destination", cell, device);
        return;
      }
    }
    writes_.push_back({&memory_of(device, buffer), cell, value, add});
    targets_.push_back({device, buffer});
  }

  void run_step(const Step& step) {
    for (const Copy& c : step.copies) {
      cells_.inside(c.box, [&](std::size_t cell) {
        write(c.device, c.to, cell, read(c.device, c.from, cell), c.add);
      });
    }
    for (const Message& m : step.messages) {
      cells_.inside(m.box, [&](std::size_t cell) {
        write(m.to, m.to_buffer, cell, read(m.from, m.from_buffer, cell),
              false);
      });
    }
    for (const Group& group : step.groups) run_group(step.operation, group);
  }

  /// The sum of the members' reads in every cell, and their number.
  void run_group(Operation operation, const Group& group) {
    std::map<std::size_t, std::pair<Value, int>> sums;
    std::vector<std::map<std::size_t, int>> reads(group.devices.size());
    for (const Part& part : group.reads) {
      const auto member = static_cast<std::size_t>(part.member);
      cells_.inside(part.box, [&](std::size_t cell) {
        const Value value = read(group.devices[member], part.buffer, cell);
        const auto [at, fresh] = sums.try_emplace(cell, std::pair(value, 1));
        if (fresh) return;
        at->second.first = sums_.add(at->second.first, value);
        ++at->second.second;
      });
    }
    check_form(operation, group, sums);
    for (const Part& part : group.writes) {
      const DeviceId device =
          group.devices[static_cast<std::size_t>(part.member)];
      cells_.inside(part.box, [&](std::size_t cell) {
        const auto sum = sums.find(cell);
        if (sum == sums.end()) {
          complain("is written by a group that does not read it", cell, device);
          return;
        }
        write(device, part.buffer, cell, sum->second.first, false);
      });
    }
  }

  void check_form(Operation operation, const Group& group,
                  const std::map<std::size_t, std::pair<Value, int>>& sums) {
    const bool reduces = operation == Operation::all_reduce ||
                         operation == Operation::reduce_scatter ||
                         operation == Operation::split_all_reduce ||
                         operation == Operation::split_reduce_scatter;
    const bool gathers = operation == Operation::all_gather ||
                         operation == Operation::split_all_gather ||
                         operation == Operation::all_to_all;
    if (!reduces && !gathers) {
      wrong_.push_back(fmt::format("{} has groups", name_of(operation)));
    }
    const int expected = reduces ? static_cast<int>(group.devices.size()) : 1;
    for (const auto& [cell, sum] : sums) {
      if (sum.second == expected) continue;
      complain(fmt::format("is read by {} members of a group, expected {}",
                           sum.second, expected),
               cell, group.devices.front());
    }
  }

  /// Puts the writes of a wave in place; sets go before additions.
  void apply() {
    for (const bool adds : {false, true}) {
      for (std::size_t i = 0; i < writes_.size(); ++i) {
        const Write& w = writes_[i];
        if (w.add != adds) continue;
        Value& value = (*w.memory)[w.cell];
        if (!w.add && value != kNothing) {
          complain(
              fmt::format("of buffer {} arrives twice", targets_[i].second),
              w.cell, targets_[i].first);
        } else if (w.add && value == kNothing) {
          complain("is added to but was never written", w.cell,
                   targets_[i].first);
        } else {
          value = w.add ? sums_.add(value, w.value) : w.value;
        }
      }
    }
    writes_.clear();
    targets_.clear();
  }

  void compare_values(const Held& held) {
    const Memory& memory = memory_of(held.device, kDestination);
    for (const Box& box : held.boxes) {
      cells_.inside(box, [&](std::size_t cell) {
        if (memory[cell] == kNothing) {
          complain("never arrives", cell, held.device);
        }
      });
    }
  }

  void compare_cell(std::size_t cell, std::span<const std::int32_t> holders,
                    std::span<const std::int32_t> givers, const Layout& source,
                    const Layout& destination) {
    if (holders.empty()) return;
    std::map<int, Value> by_summand;
    for (const std::int32_t h : holders) {
      const Held& held = destination[static_cast<std::size_t>(h)];
      const Value value = memory_of(held.device, kDestination)[cell];
      const auto [at, fresh] = by_summand.try_emplace(held.summand, value);
      if (!fresh && at->second != value) {
        complain("differs from another copy", cell, held.device);
        return;
      }
    }
    std::vector<int> all;
    for (const auto& [summand, value] : by_summand) {
      const auto& terms = sums_.list(value);
      all.insert(all.end(), terms.begin(), terms.end());
    }
    std::ranges::sort(all);
    std::vector<int> expected;
    for (const std::int32_t g : givers) {
      expected.push_back(source[static_cast<std::size_t>(g)].summand);
    }
    std::ranges::sort(expected);
    expected.erase(std::unique(expected.begin(), expected.end()),
                   expected.end());
    if (all != expected) {
      complain(fmt::format("is the sum of summands [{}], expected [{}]",
                           fmt::join(all, " "), fmt::join(expected, " ")),
               cell, destination[static_cast<std::size_t>(holders[0])].device);
    }
  }

  const Plan& plan_;
  const Cells& cells_;
  std::vector<std::string>& wrong_;
  Sums sums_;
  std::map<std::pair<DeviceId, int>, Memory> memories_;
  std::map<DeviceId, std::vector<char>> wanted_;
  std::vector<Write> writes_;
  std::vector<std::pair<DeviceId, int>> targets_;
};

}  // namespace

Result<std::vector<std::string>> wrong_with(const Plan& plan) {
  return wrong_with(plan, layout_of(plan.source, plan.shape, kSource));
}

Result<std::vector<std::string>> wrong_with(const Plan& plan,
                                            const Layout& source) {
  std::vector<std::string> wrong;
  if (!well_formed(plan, wrong)) return wrong;
  const Layout destination =
      layout_of(plan.destination, plan.shape, kDestination);
  const std::vector<const Box*> boxes = boxes_of(plan, source, destination);
  TRY(const Cells cells,
      Cells::of(std::span<const Box* const>(boxes), plan.shape.size()));
  Machine machine(plan, cells, source, destination, wrong);
  machine.run();
  if (wrong.empty()) machine.compare(source, destination);
  return wrong;
}

Result<std::int64_t> least_elements(const Plan& plan) {
  TRY(const auto problem,
      Problem::of(layout_of(plan.source, plan.shape, kSource),
                  layout_of(plan.destination, plan.shape, kDestination),
                  plan.shape.size()));
  std::int64_t least = 0;
  for (std::size_t c = 0; c < problem->cells().size(); ++c) {
    const auto have = problem->have().at(c);
    std::map<int, std::pair<std::int64_t, bool>> needers;
    std::int64_t crossings = 0;
    for (const std::int32_t w : problem->want().at(c)) {
      const Held& want = problem->destination()[static_cast<std::size_t>(w)];
      const std::vector<int>& terms = problem->terms(want.summand);
      bool holds = false;
      for (const int term : terms) {
        holds = holds || problem->holder(want.device, term, have) >= 0;
      }
      if (terms.size() == 1 && !holds) ++crossings;
      if (terms.size() < 2) continue;
      auto& [count, some] = needers[want.summand];
      ++count;
      some = some || holds;
    }
    for (const auto& [summand, needer] : needers) {
      crossings += std::ssize(problem->terms(summand)) - 1 + needer.first - 1 +
                   (needer.second ? 0 : 1);
    }
    least += crossings * problem->cells().elements(c);
  }
  return least;
}

Result<BytesRatio> bytes_ratio(const Plan& plan) {
  BytesRatio out;
  for (const Step& step : plan.steps) out.moved += moved_elements(step);
  TRY(out.least, least_elements(plan));
  if (out.least > 0) {
    out.ratio = static_cast<double>(out.moved) / static_cast<double>(out.least);
  }
  return out;
}

}  // namespace troupe::reshard
