// How much memory the devices of a stage need, from the schedule alone:
// activations live from a forward to its backward, whatever the time between.
#pragma once

#include <vector>

#include "base/units.h"
#include "schedule/schedule.h"

namespace troupe::schedule {

/// Memory of the fullest device of a stage.
struct MemoryUse {
  Bytes parameters, gradients, optimizer;
  Bytes activations;  ///< most kept at once
  Bytes workspace;    ///< temporaries of one operator list, hand-over buffers
  Bytes total() const {
    return parameters + gradients + optimizer + activations + workspace;
  }
};

/// Bytes of activations after each task of the stage's order.
std::vector<Bytes> activation_levels(const Schedule& schedule,
                                     const Stage& stage);

MemoryUse memory_of(const Schedule& schedule, const Stage& stage);

}  // namespace troupe::schedule
