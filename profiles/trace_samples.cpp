#include "profiles/trace_samples.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>

namespace troupe::profiles {

void CollectiveSamples::add(const TraceCollective& c) {
  const CollectiveRow row{.device = c.device,
                          .collective = c.collective,
                          .ranks = c.ranks,
                          .per_node = c.per_node,
                          .bytes = c.bytes};
  std::string key;
  fields(row, [&](std::string_view, const auto& value, Need) {
    key += to_text(value) + ',';
  });
  Entry& entry =
      rows_.try_emplace(std::move(key), Entry{row, {}}).first->second;
  entry.groups[c.group][c.group.empty() ? "" : c.member].push_back(
      {c.start, c.seconds});
}

void CollectiveSamples::add(const CollectiveSamples& other) {
  for (const auto& [key, theirs] : other.rows_) {
    Entry& mine = rows_.try_emplace(key, Entry{theirs.row, {}}).first->second;
    for (const auto& [group, members] : theirs.groups) {
      for (const auto& [member, samples] : members) {
        auto& all = mine.groups[group][member];
        all.insert(all.end(), samples.begin(), samples.end());
      }
    }
  }
}

std::vector<double> CollectiveSamples::least(const Members& members) {
  std::vector<std::vector<double>> times;
  for (const auto& [member, unordered] : members) {
    std::vector<Sample> samples = unordered;
    std::ranges::stable_sort(samples, {}, &Sample::start);
    auto& list = times.emplace_back();
    for (const Sample& sample : samples) list.push_back(sample.seconds);
  }
  const bool equal = std::ranges::all_of(times, [&](const auto& list) {
    return list.size() == times.front().size();
  });
  if (!equal) {
    return *std::ranges::min_element(
        times, {}, [](const auto& list) { return median_of(list); });
  }
  std::vector<double> result = times.front();
  for (const auto& list : times) {
    for (std::size_t i = 0; i < list.size(); ++i) {
      result[i] = std::min(result[i], list[i]);
    }
  }
  return result;
}

void CollectiveSamples::into(Gather& gather, const std::string& where) const {
  for (const auto& [key, entry] : rows_) {
    std::vector<double> times;
    for (const auto& [group, members] : entry.groups) {
      const std::vector<double> some = least(members);
      times.insert(times.end(), some.begin(), some.end());
    }
    gather.add(with_times(entry.row, times), where);
  }
}

void TraceSamples::leave_out(const std::string& reason, double seconds,
                             int kernels) {
  LeftOut& left = left_out[reason];
  left.kernels += kernels;
  left.seconds += seconds;
}

void TraceSamples::add(const TraceSamples& other) {
  operators.add(other.operators);
  copies.add(other.copies);
  collectives.add(other.collectives);
  for (const auto& [reason, left] : other.left_out) {
    leave_out(reason, left.seconds, left.kernels);
  }
}

void TraceSamples::into(Gather& gather, const std::string& where) const {
  operators.into(gather, where);
  collectives.into(gather, where);
  copies.into(gather, where);
  std::vector<std::pair<std::string, LeftOut>> reasons(left_out.begin(),
                                                       left_out.end());
  std::ranges::stable_sort(reasons, std::greater<>(),
                           [](const auto& r) { return r.second.seconds; });
  for (const auto& [reason, left] : reasons) {
    gather.reject(where, fmt::format("{} kernels, {:.4g} ms: {}", left.kernels,
                                     left.seconds * 1e3, reason));
  }
}

}  // namespace troupe::profiles
