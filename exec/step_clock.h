// Virtual time of a whole step: the tasks of its phases and the messages of
// the switches between them are one graph, of which every rank knows what it
// takes part in.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "exec/clock.h"
#include "exec/communicator.h"
#include "exec/transform.h"

namespace troupe::exec {

using schedule::TaskId;

/// Messages of a switch that leave together and arrive together.
struct SwitchBatch {
  TaskId task;  ///< of the step
  std::vector<reshard::DeviceId> devices;
  Time time;
};

/// A step of one or several parts (phases in the order they run). Tables only:
/// read by many ranks at once.
struct StepPrices {
  /// Tasks and what each waits for, in the step's own numbers.
  std::shared_ptr<const schedule::Schedule> graph;
  /// By part and task of its phase; no task where the part leaves it out.
  std::vector<std::vector<TaskId>> tasks_of;
  /// By part, before it; in an order that suits every rank.
  std::vector<std::vector<SwitchBatch>> switches;
  /// By task of the step: whether it waits for one of another part or switch.
  std::vector<bool> waits_outside;
};

/// Marks what waits for another part or a switch.
void find_waits_outside(StepPrices& step);

/// Prices of a job.
struct JobPrices {
  std::vector<Prices> phases;  ///< by phase of the job
  /// The step; of a bridged job by the phase that computes.
  std::vector<StepPrices> steps;
  /// Ranks really wait for this share of the virtual time; 0: they do not.
  double sleep = 0;
};

/// From start to end.
using Span = std::pair<Time, Time>;

/// What one device knows of a step's times.
class StepClock {
 public:
  StepClock(const StepPrices& prices, reshard::DeviceId self,
            const RankOf& ranks, Communicator& world)
      : prices_(&prices), self_(self), ranks_(ranks), world_(world) {}

  /// Whether the step has the task; `id` is of the part's phase.
  bool has(std::size_t part, TaskId id) const {
    return static_cast<bool>(in_step(part, id));
  }
  void note(std::size_t part, TaskId id, Time start, Time end);
  /// The latest end of what the task waits for, as far as this device knows.
  Time known_end(std::size_t part, TaskId id) const;
  /// Whether other ranks of its stage may know more.
  bool waits_outside(std::size_t part, TaskId id) const;

  /// Passes the time of the messages before a part that this device sends or
  /// receives: a batch starts when both ends of all its messages may.
  Result<void> pass_switch(std::size_t part);
  /// Tells all of `everyone` when the gradients of all phases are where they
  /// are applied.
  Result<void> meet_for_update(std::size_t part,
                               std::span<const RankId> everyone);

  /// From now on the step's time passes, `factor` times as fast.
  void begin_pacing(double factor);
  /// Waits until virtual time `at` has really come; only while pacing.
  Result<void> pace(Time at);
  /// Real time since pacing began.
  double wall_s() const;

  /// By task of the step.
  const std::map<TaskId, Span>& spans() const { return spans_; }
  Time end() const;

 private:
  TaskId in_step(std::size_t part, TaskId id) const {
    return prices_->tasks_of[part][id.at()];
  }
  Time known(TaskId step_task) const;

  const StepPrices* prices_;
  reshard::DeviceId self_;
  const RankOf& ranks_;
  Communicator& world_;
  std::map<TaskId, Span> spans_;
  Time gradients_;  ///< when an update may start
  double factor_ = 0;
  std::chrono::steady_clock::time_point began_;
};

}  // namespace troupe::exec
