// From a loaded plan to an emulated run, with its proof and its clock.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "emu/emulate.h"
#include "results/run.h"
#include "strategy/load.h"

namespace troupe::cli {

struct EmulationRequest {
  bool shrink = false, verify = false, virtual_clock = false;
  int steps = 2;
  std::uint64_t seed = 1;
  double rate = 1e-3;
  kernels::DType precision = kernels::DType::fp64;
  std::string data, profiles;
  std::filesystem::path load, save;  ///< checkpoints, or empty
  std::filesystem::path trace;       ///< of the virtual clock, or empty
  std::string fault;                 ///< "RANK:STEP:KIND", for proofs
  int threads = 2;
};

struct EmulationAnswer {
  std::string strategy, model, precision;
  emu::Emulation emulation;
  double bound = 0;  ///< of deviations, by precision
  bool virtual_clock = false;
  Time simulated_step;
  /// Simulated without contention: what the virtual clock must agree with.
  Time uncontended_step;
  /// The last step by the virtual clock, to be kept beside simulated ones.
  std::optional<results::RunResult> run;
  std::int64_t contended = 0;  ///< simulated flows that shared a full link
  double wall_time_s = 0;
};

/// Steps under one strategy: the phases that every step runs.
struct PlannedSteps {
  const strategy::Plan* plan = nullptr;
  std::vector<std::size_t> phases;
  /// Devices that are lost before; what they held comes from others.
  std::vector<clusters::DeviceId> lost = {};
};

/// Strategy after strategy, `request.steps` steps each; parameters and
/// optimizer states move along.
class EmulationJob {
 public:
  /// With `mpi` this process is one of the ranks.
  ///
  /// Errors: input, for what has no arithmetic and for an MPI job of another
  ///         number of ranks; infeasible, for a model too large to hold here.
  static Result<EmulationJob> make(std::vector<PlannedSteps> plans,
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
