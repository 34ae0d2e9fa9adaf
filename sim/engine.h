// The discrete-event engine: performs a priced schedule in simulated time.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "schedule/schedule.h"
#include "sim/detail.h"
#include "sim/network.h"
#include "sim/price.h"

namespace troupe::sim {

/// When each task ran. Same inputs give the same bytes on any machine.
struct Run {
  std::vector<Time> start, end;  ///< by task
  Time step;                     ///< end of the last task
  std::int64_t events = 0;
  std::int64_t contended = 0;  ///< flows that ever shared a full link
  int folded = 0;              ///< tasks that another one stood for
};

/// Activities of a schedule's transfers and syncs, by index.
struct Activities {
  std::vector<Activity> transfers, syncs;
};
Activities activities_of(const schedule::Schedule& schedule,
                         const Network& network);
/// Applies noise to each of a phase's activities, its work and its latency.
void disturb(Activities& activities, const schedule::Disturbance& disturbance,
             std::int32_t phase);
/// The same of one activity.
Activity disturbed(Activity activity, double factor);
/// As if each had all links to itself.
Activities uncontended(Activities activities);

/// Performs the step.
///
/// Model:  a compute task starts when its dependencies and the task before it
///         in its stage have ended; a communication starts when its
///         dependencies have, shares links max-min fairly, and ends its
///         latency after its last byte. Ties go to the lower task number.
///         With `detail` every compute task is performed operator by operator
///         on every rank. With `folded` equal pipelines are performed once
///         where that is exact (sim/fold.h), which changes no time.
/// Errors: input, naming the tasks, when some can never start (deadlock);
///         interrupted.
Result<Run> perform(const schedule::Schedule& schedule, const PriceList& prices,
                    const Activities& activities, std::size_t links,
                    OperatorDetail* detail = nullptr, bool folded = false);

/// Performs tasks whose compute takes `durations`, by task; nothing is folded.
/// A layout switch is a communication like a sync: `what` is its place in
/// `activities.syncs`.
///
/// Errors: as `perform`.
Result<Run> perform_timed(const schedule::Schedule& schedule,
                          std::span<const Time> durations,
                          const Activities& activities, std::size_t links);

}  // namespace troupe::sim
