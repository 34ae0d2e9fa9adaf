// A job that changes its layout: several phases in one step (hot switching),
// and another strategy for the next steps.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "exec/interpreter.h"
#include "reshard/switch.h"

namespace troupe::exec {

/// Something of all parameters, from one layout to another.
struct Move {
  std::vector<reshard::Plan> plans;  ///< by parameter of the programs
  bool empty() const { return plans.empty(); }
};

/// The phases of a strategy and what moves between them. Immutable, shared.
///
/// Model:  as HotSPa orders a step: the optimizer lives in the first phase;
///         the other phases run as listed, then the first, which updates.
///         Before a phase runs, parameters come from the one before it;
///         gradients are summed into each phase's optimizer layout and carried
///         from one to the next.
struct Job {
  std::vector<Program> phases;
  /// By phase: from the phase that runs before it (the first one's parameters
  /// are there when a step begins).
  std::vector<Move> parameters, gradients;
  RankOf rank_of;  ///< of all devices of all phases
  /// Phases in the order they run.
  std::vector<std::size_t> order() const;
};

/// Errors: as reshard::plan_switch.
Result<Job> make_job(std::vector<Program> phases,
                     const clusters::Cluster& cluster);

/// From one job's optimizer layout to another's; devices of `lost` hold
/// nothing any more.
///
/// Errors: infeasible, naming parameter and elements that no other device
///         holds; as reshard::plan_switch.
Result<Move> state_move(const Job& from, const Job& to,
                        const clusters::Cluster& cluster,
                        std::span<const reshard::DeviceId> lost = {});

/// One device of a job.
class Session {
 public:
  /// `world`: a communicator whose ranks are `rank_of`, all of the job's
  /// devices and perhaps more; both must outlive this. `prices` by phase;
  /// empty: no virtual time passes.
  Session(const Job& job, reshard::DeviceId self, Device& device,
          Communicator& world, const RankOf& rank_of,
          std::span<const Prices* const> prices = {});
  ~Session();

  Result<void> initialise(const Values& values);
  /// One step; `batches` by phase.
  Result<StepResult> step(std::span<const data::Batch> batches,
                          const Training& training, std::int64_t step);
  /// Takes parameters and optimizer states over from another session, of
  /// which this device may have been no part (null).
  ///
  /// Requires: called on all devices of both jobs, `world` and `rank_of` being
  ///           of both together.
  static Result<void> take_over(const Move& move, Session* from, Session* to,
                                reshard::DeviceId self, Device& device,
                                Communicator& world, const RankOf& rank_of);

  /// The device's rank in the phase that updates; null when it has none.
  Interpreter* updater();

 private:
  struct Phase {
    std::unique_ptr<Communicator> communicator;
    std::unique_ptr<Interpreter> interpreter;
  };
  Result<void> switch_to(std::size_t phase, std::size_t before, bool carries);

  const Job& job_;
  reshard::DeviceId self_;
  Device& device_;
  Communicator& world_;
  const RankOf& rank_of_;
  std::vector<Phase> phases_;
};

}  // namespace troupe::exec
