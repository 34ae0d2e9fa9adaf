// A job that changes its layout: several phases in one step (hot switching),
// and another strategy for the next steps.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "exec/interpreter.h"
#include "exec/spares.h"
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

/// Everything that is kept between steps, from one job to another.
struct StateMove {
  std::vector<Move> by_state;  ///< a move for each state, or one for all
  const Move& of(State state) const {
    return by_state.size() == 1 ? by_state[0]
                                : by_state[static_cast<std::size_t>(state)];
  }
};

/// From one job's optimizer layout to another's.
///
/// Errors: as reshard::plan_switch.
Result<StateMove> state_move(const Job& from, const Job& to,
                             const clusters::Cluster& cluster);

/// Copies of states on devices that do not own them, against a loss.
struct PeerCopies {
  SpareLayouts held;
  Move update;  ///< of each state, from the optimizer's layout
};

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
  /// which this device may have been no part (null), and from what it has
  /// besides (`spares`, null for nothing; not the same elements).
  ///
  /// Requires: called on all devices of both jobs, `world` and `rank_of` being
  ///           of both together.
  struct Givers {
    Session* session = nullptr;
    std::vector<Spares*> spares;
  };
  static Result<void> take_over(const StateMove& move, const Givers& from,
                                Session* to, reshard::DeviceId self,
                                Device& device, Communicator& world,
                                const RankOf& rank_of);
  /// Brings the copies on peers up to date; `mine` may be null.
  ///
  /// Requires: called on all devices of the job.
  Result<void> update_copies(const PeerCopies& copies, Spares* mine);

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
