// Where the time of a run went: per stage, and along the critical path.
#pragma once

#include <array>
#include <vector>

#include "schedule/schedule.h"
#include "sim/engine.h"

namespace troupe::sim {

/// A stage's step on its devices' compute stream; sums to the run's step.
struct StageTimes {
  Time compute, tensor, context, data;  ///< inside compute tasks
  Time optimizer;
  Time hand_over;  ///< waiting while its input was on the wire
  Time sync;       ///< waiting while its gradients or parameters were
  Time bubble;     ///< waiting for anything else
  Time total() const {
    return compute + tensor + context + data + optimizer + hand_over + sync +
           bubble;
  }
};

/// The parts of a task that took `took`, perhaps not its price: they sum to it.
Parts parts_of(const BodyPrice& price, Time took);

/// By stage.
std::vector<StageTimes> stage_times(const schedule::Schedule& schedule,
                                    const PriceList& prices, const Run& run);

/// The stage that bounds the step: the one that waits least (lowest number
/// on a tie).
schedule::StageId critical_stage(const std::vector<StageTimes>& times);

/// Time by provenance along one longest chain of tasks from the start of the
/// step to its end; sums to the step.
ByProvenance critical_path_provenance(const schedule::Schedule& schedule,
                                      const PriceList& prices,
                                      const Activities& activities,
                                      const Run& run);

}  // namespace troupe::sim
