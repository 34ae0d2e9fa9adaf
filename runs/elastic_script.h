// A trace counted in steps, not by the clock: what runs between its events,
// and what every change of strategy takes from where. For who performs it.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runs/elastic_run.h"
#include "runs/recovery_plan.h"

namespace troupe::runs {

/// What an event comes to.
struct Act {
  int event = -1;     ///< of the trace; -1: the start
  std::string title;  ///< of the event
  int runs = -1;      ///< which of the script's strategies from now on, or none
  bool changes = true;  ///< whether the state moves, perhaps to the same one
  std::vector<DeviceId> missing = {};  ///< that cannot be used from now on
  clusters::Cluster cluster = {};      ///< as it is now
  reshard::Rates rates = {};
  std::string stopped = {};  ///< why nothing runs, or empty
};

struct Script {
  std::vector<Candidate> strategies;  ///< those that run, each once
  std::vector<Act> acts;              ///< the start, then one for each event
};

/// Who runs when, with the rules of `run_trace` under Policy::elastic.
///
/// Model:  a change of strategy is at its end before the next event, and no
///         state is looked at: whether a change can be carried out is the
///         history's affair.
/// Errors: of the machinery; infeasible, when nothing fits at the start.
[[nodiscard]] Result<Script> script_of(const Trace& trace,
                                       const Machinery& machinery);

/// Steps between two events.
struct Stretch {
  std::size_t act = 0;
  int runs = 0;             ///< which of the script's strategies
  std::int64_t begins = 0;  ///< steps that its state has gone through
  std::int64_t steps = 0;
  std::int64_t voided = 0;  ///< steps of the ones before that it undoes
  bool moves = false;       ///< not for the first one, or one that goes on
  std::vector<DeviceId> lost = {};  ///< whose memory is gone when it begins
  Reading reading = Reading::nothing;
  Survival survival = {};  ///< of the state before
  Recovery recovery = {};
};

struct History {
  std::vector<Stretch> stretches;
  std::string stopped;         ///< why it ends before the trace does, or empty
  std::size_t stopped_by = 0;  ///< the act
};

/// Steps of every act that runs, and how their state comes about: from what is
/// left of the one before, or from the last checkpoint.
///
/// Model:    as `run_trace` does after a loss; a checkpoint is made after every
///           `every_steps` steps, at once. `advice`: what to do where there is
///           no checkpoint.
///
/// Requires: `keepings` by strategy of the script, all of `parameters`.
/// Errors:   of planning.
[[nodiscard]] Result<History> history_of(
    std::span<const Act> acts,
    const std::vector<std::unique_ptr<Keeping>>& keepings,
    const std::vector<models::Parameter>& parameters, const Options& options,
    std::int64_t steps, std::string_view advice = kTraceAdvice);

}  // namespace troupe::runs
