// Who keeps, reads and sums the shards of a parameter under ZeRO 2 and 3.
#pragma once

#include <map>
#include <vector>

#include "exec/pieces.h"
#include "schedule/placement.h"

namespace troupe::exec {

/// Boxes that go from or to another device (or stay on this one).
struct Peer {
  reshard::DeviceId device;
  std::vector<Box> boxes;
  bool operator==(const Peer&) const = default;
};

/// One device's part in a parameter; peers by ascending device.
struct Sharing {
  std::vector<Peer> reads;  ///< who keeps what its compute copy is made of
  std::vector<Peer> gives;  ///< who keeps the sums of its gradients
  std::vector<Peer> takes;  ///< whose gradients are summed here
  bool operator==(const Sharing&) const = default;
};

/// The parts of all devices of a parameter.
///
/// Model:  what several keep is read from oneself, else from one of them in
///         turn. A summand that several hold is given by the owner itself,
///         else by one of them in turn; every owner of a sum is given all of
///         its summands. Groups may be unequal in any way.
/// Errors: infeasible when the layouts cut the tensor too finely.
Result<std::map<reshard::DeviceId, Sharing>> plan_sharing(
    const schedule::Placement& placement);

}  // namespace troupe::exec
