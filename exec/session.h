// A job that changes its layout: several phases in one step (hot switching),
// and another strategy for the next steps.
#pragma once

#include <memory>
#include <optional>
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
///         A bridged job's step (Hydraulis) runs one of the phases: parameters
///         come from the first one's masters, gradients go back there.
struct Job {
  std::vector<Program> phases;
  bool bridged = false;
  /// By phase: from the phase that runs before it (the first one's parameters
  /// are there when a step begins). Bridged: to the phase, and back from it.
  std::vector<Move> parameters, gradients;
  RankOf rank_of;  ///< of all devices of all phases
  /// Phases in the order that step `number` (from 0) runs them: all, or of a
  /// bridged job one, in turns, and the first.
  std::vector<std::size_t> order(std::int64_t number = 0) const;
};

/// Errors: as reshard::plan_switch.
Result<Job> make_job(std::vector<Program> phases,
                     const clusters::Cluster& cluster, bool bridged = false);

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
  /// devices and perhaps more; both and `prices` must outlive this. Without
  /// prices no virtual time passes.
  Session(const Job& job, reshard::DeviceId self, Device& device,
          Communicator& world, const RankOf& rank_of,
          const JobPrices* prices = nullptr);
  ~Session();

  Result<void> initialise(const Values& values);
  /// One step, number `step` from 1; `batches` by phase.
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
  Interpreter* updater() { return interpreter(0); }
  /// The same of any phase.
  Interpreter* interpreter(std::size_t phase) {
    return phases_[phase].interpreter.get();
  }
  const Job& job() const { return job_; }
  /// Times of the last step, by its tasks; null without prices.
  const StepClock* clock() const { return clock_ ? &*clock_ : nullptr; }

 private:
  struct Phase {
    std::unique_ptr<Communicator> communicator;
    std::unique_ptr<Interpreter> interpreter;
  };
  Result<void> switch_to(std::size_t phase, std::size_t before, bool carries);
  Result<void> bridge(std::size_t phase, bool back);
  Result<double> run_all(std::span<const data::Batch> batches,
                         std::int64_t labels);
  Result<double> run_bridged(std::span<const data::Batch> batches,
                             std::int64_t labels, std::size_t phase);
  /// Begins part `part`, which is of `phase`.
  Result<void> begin_part(std::size_t part, std::size_t phase);
  Result<double> share_loss(double loss);
  std::vector<RankId> everyone_of_job() const;

  const Job& job_;
  reshard::DeviceId self_;
  Device& device_;
  Communicator& world_;
  const RankOf& rank_of_;
  const JobPrices* prices_;
  std::vector<Phase> phases_;
  std::optional<StepClock> clock_;
};

}  // namespace troupe::exec
