#include "strategy/device_set.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/text.h"
#include "clusters/kinds.h"
#include "strategy/draft.h"
#include "strategy/ranges.h"

namespace troupe::strategy {
namespace {

constexpr std::int64_t kMostId = 1 << 30;

void add(DeviceSet& set, std::int64_t device) {
  set.devices.push_back(DeviceId{static_cast<std::int32_t>(device)});
}

DeviceSet from_list(const Json& list, const std::string& where,
                    Findings& findings) {
  DeviceSet set;
  for (std::size_t i = 0; i < list.size(); ++i) {
    const auto number = whole_number(list[i]);
    if (!number || *number < 0 || *number > kMostId) {
      findings.error(fmt::format("{}/{}", where, i),
                     "expected a device number of 0 or more");
      return {};
    }
    add(set, *number);
  }
  return set;
}

/// The cluster's own name of a kind that may be called by another ("H800").
std::string own_name(const clusters::Cluster& cluster,
                     const std::string& kind) {
  const bool known = kind.empty() ||
                     std::any_of(cluster.kinds.begin(), cluster.kinds.end(),
                                 [&](const auto& k) { return k.name == kind; });
  if (known) return kind;
  const auto shipped = clusters::read_kind(kind);
  return shipped ? shipped->name : kind;
}

}  // namespace

DeviceSet parse_devices(const Json& value, const std::string& where,
                        Findings& findings) {
  if (value.is_array()) return from_list(value, where, findings);
  DeviceSet set;
  if (value.is_string()) {
    const auto numbers = parse_ranges(value.get<std::string>());
    if (!numbers) {
      findings.error(where, numbers.error().message);
      return set;
    }
    for (const int n : *numbers) add(set, n);
  } else if (value.is_object()) {
    JsonObject o(value, where, findings);
    set.chosen = false;
    set.kind = o.text("kind", "");
    set.devices.resize(static_cast<std::size_t>(o.integer("count", kDegree)));
    o.finish();
  } else {
    findings.error(where,
                   "expected devices: \"0-7,16\", [0, 1] or {\"kind\": "
                   "\"h20\", \"count\": 8}");
  }
  return set;
}

DevicePool::DevicePool(const clusters::Cluster& cluster)
    : cluster_(&cluster), taken_(cluster.devices.size(), false) {}

void DevicePool::take(DeviceId device) {
  if (device.v >= 0 && device.at() < taken_.size()) taken_[device.at()] = true;
}

std::optional<std::vector<DeviceId>> DevicePool::next(const std::string& kind,
                                                      std::size_t count,
                                                      const std::string& where,
                                                      Findings& findings) {
  std::vector<DeviceId> out;
  const std::string name = own_name(*cluster_, kind);
  std::size_t& d = start_[name];
  for (; d < taken_.size() && out.size() < count; ++d) {
    const DeviceId device = make_id<DeviceId>(d);
    if (taken_[d]) continue;
    if (!name.empty() && cluster_->kind_of(device).name != name) continue;
    taken_[d] = true;
    out.push_back(device);
  }
  if (out.size() == count) return out;
  std::set<std::string> kinds;
  for (const auto& device : cluster_->devices) {
    kinds.insert(cluster_->kinds[device.kind.at()].name);
  }
  const std::vector<std::string> names(kinds.begin(), kinds.end());
  findings.error(
      where, fmt::format("{} wanted, {} free in cluster {}, whose kinds are {}",
                         counted(static_cast<std::int64_t>(count),
                                 fmt::format("more {} device",
                                             kind.empty() ? "of the" : kind)),
                         out.size(), cluster_->name, join(names)) +
                 did_you_mean(kind, names));
  return {};
}

}  // namespace troupe::strategy
