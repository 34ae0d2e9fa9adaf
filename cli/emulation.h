// From a loaded plan to an emulated run, with its proof and its clock.
#pragma once

#include <filesystem>
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

/// Emulates strategy after strategy, `request.steps` steps each; parameters
/// and optimizer states move along.
///
/// Errors: input, for what has no arithmetic; infeasible, for a model too
///         large to hold here; as the ranks.
Result<EmulationAnswer> emulate_plans(const std::vector<PlannedSteps>& plans,
                                      const EmulationRequest& request);

}  // namespace troupe::cli
