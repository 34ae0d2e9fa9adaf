// From a loaded plan to an emulated run, with its proof and its clock.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/emulation_data.h"
#include "emu/emulate.h"
#include "results/run.h"
#include "results/timeline.h"
#include "runs/elastic_script.h"
#include "strategy/load.h"

namespace troupe::cli {

/// Steps under one strategy: the phases that every step runs.
struct PlannedSteps {
  const strategy::Plan* plan = nullptr;
  std::vector<std::size_t> phases;
};

/// Strategies, and what happens before each act.
struct Course {
  std::string source;  ///< as the user called it
  std::vector<PlannedSteps> strategies;
  std::vector<runs::Act> acts;  ///< `runs` counts the strategies
  runs::Options options;        ///< copies on peers and checkpoints
  /// Whether state that is lost ends the run; else it is an error.
  bool is_trace = false;
  /// Against lost state.
  std::string_view advice = runs::kTraceAdvice;
};

struct EmulationRequest {
  bool shrink = false, verify = false, virtual_clock = false;
  int steps = 2;
  std::uint64_t seed = 1;
  double rate = 1e-3;
  kernels::DType precision = kernels::DType::fp64;
  DataRequest data;
  std::string profiles;
  std::filesystem::path load, save;  ///< checkpoints, or empty
  std::filesystem::path trace;       ///< of the virtual clock, or empty
  std::string fault;                 ///< "RANK:STEP:KIND", for proofs
  int threads = 2;
  /// GPUs that ranks are dealt to in turn; empty: host memory.
  std::vector<int> gpus;
  /// Of the virtual clock: noise, slow devices.
  std::optional<schedule::Disturbance> disturbance;
  double sleep = 0;  ///< share of the virtual time that ranks really wait
};

/// A change of strategy by the virtual clock's rules.
struct SimulatedTransition {
  Time emulated;
  Time alone, shared;  ///< simulated, without and with shared links
  Bytes moved;
};

struct EmulationAnswer {
  std::string strategy, model, precision;
  DataAnswer data;
  emu::Emulation emulation;
  double bound = 0;  ///< of deviations, by precision
  bool virtual_clock = false;
  double sleep = 0;  ///< as asked for
  Time simulated_step;
  /// Simulated without contention: what the virtual clock must agree with.
  Time uncontended_step;
  /// The first task of the last step that the simulator (without contention)
  /// has at other times; empty when all are equal, to the picosecond.
  std::string difference;
  std::vector<SimulatedTransition> transitions;  ///< before all but the first
  /// The last step by the virtual clock, to be kept beside simulated ones.
  std::optional<results::RunResult> run;
  results::Timeline timeline;
  std::int64_t contended = 0;  ///< simulated flows that shared a full link
  double wall_time_s = 0;
  std::vector<std::int64_t> step_numbers;  ///< of this run, from 1
  /// Of one step under the last strategy.
  std::int64_t tokens = 0;
  Flops model_flops;
  runs::History history;
};

/// Act after act, `request.steps` steps each; parameters and optimizer states
/// move along.
class EmulationJob {
 public:
  /// With `mpi` this process is one of the ranks.
  ///
  /// Errors: input, for what has no arithmetic and for an MPI job of another
  ///         number of ranks; infeasible, for a model too large to hold here.
  static Result<EmulationJob> make(Course course,
                                   const EmulationRequest& request,
                                   emu::MpiSession* mpi = nullptr);
  EmulationJob(EmulationJob&&) noexcept;
  EmulationJob& operator=(EmulationJob&&) noexcept;
  ~EmulationJob();

  /// Only rank 0 of an MPI job has the step as a run, and writes its trace.
  ///
  /// Requires: the plans are still there.
  /// Errors: as the ranks; under MPI they end the process instead.
  Result<EmulationAnswer> perform();

 private:
  struct State;
  explicit EmulationJob(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace troupe::cli
