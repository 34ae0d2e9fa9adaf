// Performs a communication plan (reshard/plan.h) on one rank: the change of a
// tensor from one layout to another.
#pragma once

#include <map>

#include "exec/communicator.h"
#include "exec/pieces.h"
#include "reshard/plan.h"

namespace troupe::exec {

/// Which rank a device is.
using RankOf = std::map<reshard::DeviceId, RankId>;

/// One rank's part of a plan.
struct Change {
  const reshard::Plan* plan = nullptr;
  Tag tag = 0;  ///< differs between plans; low 32 bits are free
  const Storage* source = nullptr;       ///< null: holds nothing
  const Storage* destination = nullptr;  ///< null: gets nothing
};

/// Steps wave by wave: copies, messages, then groups in the plan's order.
///
/// Requires: the destination is zero.
/// Errors:   of the device and the communicator.
Result<void> transform(const Change& change, reshard::DeviceId self,
                       const RankOf& ranks, Device& device,
                       Communicator& communicator, Time& time);

}  // namespace troupe::exec
