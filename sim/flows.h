// Communications in flight: advances them as links are shared more or less.
#pragma once

#include <cstdint>
#include <vector>

#include "base/units.h"
#include "sim/network.h"

namespace troupe::sim {

/// The flows that are on the wire at a moment. The caller owns the clock:
/// it passes the time and keeps the events.
class FlowTable {
 public:
  explicit FlowTable(std::size_t links) : on_link_(links), stamp_(links, 0) {}

  /// When a flow will have moved its last byte, unless something changes.
  struct Expected {
    std::int32_t flow = -1;
    std::uint32_t version = 0;  ///< only the newest of a flow counts
    Time at;
  };

  /// Puts `activity` on the wire; appends the flows whose end is new.
  std::int32_t start(const Activity& activity, Time now,
                     std::vector<Expected>& changed);
  /// Takes a flow off the wire; appends the flows whose end is new.
  void finish(std::int32_t flow, Time now, std::vector<Expected>& changed);
  bool current(std::int32_t flow, std::uint32_t version) const {
    return flows_[static_cast<std::size_t>(flow)].version == version;
  }
  /// Flows whose rate was ever below full speed.
  std::int64_t slowed() const { return slowed_; }

 private:
  struct Flow {
    const Activity* activity = nullptr;
    double left = 1.0;  ///< of the work
    double rate = 1.0;  ///< of full speed
    Time since;         ///< when `left` was true
    std::uint32_t version = 0;
    std::uint32_t mark = 0;
    bool shared = false;  ///< was ever slowed: `left` is not exact
  };
  void share_again(const std::vector<std::int32_t>& seeds, Time now,
                   std::vector<Expected>& changed);
  std::vector<std::int32_t> component(const std::vector<std::int32_t>& seeds);
  Expected expect(std::int32_t id, Time now);

  std::vector<Flow> flows_;
  std::vector<std::int32_t> unused_;
  std::vector<std::vector<std::int32_t>> on_link_;
  std::vector<std::int32_t> stamp_;  ///< local number of a link, while solving
  std::uint32_t round_ = 0;
  std::int64_t slowed_ = 0;
};

}  // namespace troupe::sim
