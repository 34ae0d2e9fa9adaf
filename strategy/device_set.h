// The ways in which a strategy file names devices.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "clusters/cluster.h"
#include "strategy/strategy.h"

namespace troupe::strategy {

/// Devices by number, or so many of a kind that are yet to be chosen.
struct DeviceSet {
  std::vector<DeviceId> devices;  ///< invalid ids where still to be chosen
  std::string kind;               ///< empty: any kind
  bool chosen = true;             ///< false: the next free ones
};

/// Reads "0-7,16", [0, 1, 16], or {"kind": "h20", "count": 8}.
///
/// Errors: a finding at `where`; the set is then empty.
DeviceSet parse_devices(const Json& value, const std::string& where,
                        Findings& findings);

/// Hands out free devices in ascending order, kind by kind.
class DevicePool {
 public:
  explicit DevicePool(const clusters::Cluster& cluster);
  /// Takes a device out; ids beyond the cluster are ignored.
  void take(DeviceId device);
  /// The next `count` free devices of a kind ("" is any), or nothing and a
  /// finding at `where` when there are too few.
  std::optional<std::vector<DeviceId>> next(const std::string& kind,
                                            std::size_t count,
                                            const std::string& where,
                                            Findings& findings);

 private:
  const clusters::Cluster* cluster_;
  std::vector<bool> taken_;
  /// Where the search for a free device of a kind begins.
  std::map<std::string, std::size_t> start_;
};

}  // namespace troupe::strategy
