// Equal pipelines need not be simulated one by one: one stands for all where
// that is exact.
#pragma once

#include <vector>

#include "schedule/schedule.h"
#include "sim/engine.h"

namespace troupe::sim {

/// Which task each task runs like; a task that is performed stands for
/// itself.
///
/// Model: a pipeline is folded onto an earlier one when both have the same
///        tasks in the same order at the same prices, their hand-overs take
///        the same time, no hand-over of one crosses a link that another
///        pipeline's cross, and the syncs load the corresponding links alike.
///        Then both are always in the same state. Syncs are never folded.
std::vector<schedule::TaskId> fold(const schedule::Schedule& schedule,
                                   const PriceList& prices,
                                   const Activities& activities);

}  // namespace troupe::sim
