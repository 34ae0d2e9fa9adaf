// From a loaded plan to the answer of a simulated step: the chain that the
// simulate command, sweeps and validation share.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "profiles/cost.h"
#include "results/run.h"
#include "schedule/schedule.h"
#include "strategy/load.h"

namespace troupe::cli {

/// How a step is simulated and what is kept of it.
struct SimulationOptions {
  bool operators = false;  ///< perform every operator on every rank
  bool fold = true;        ///< simulate equal pipelines once where exact
  /// Launching an operator takes the host this long; depends on the software.
  Time host_per_operator;
  Bytes reserve;                ///< memory no task may use
  int bar_pipelines = 3;        ///< pipelines in the picture
  std::filesystem::path trace;  ///< Chrome trace of this phase, or empty
};

/// About what a driver context and NCCL's buffers take of a device.
///
/// Source: an A100 40GB has 39.59 GiB to give of 40 GiB before any library
///         starts; NCCL's default buffers (4 MiB per channel and peer) and
///         workspaces bring it to about 1 GiB.
inline constexpr Bytes kReserve{std::int64_t{1} << 30};

/// Opens the profile database and loads the costs of a cluster's kinds; a
/// missing default database is made from the shipped measurements first.
Result<std::unique_ptr<profiles::CostModel>> load_costs(
    const std::string& database, const clusters::Cluster& cluster);

/// Lowers phase `phase` of the plan, with its task order read when custom.
Result<schedule::Schedule> lower_phase(const strategy::Plan& plan,
                                       std::size_t phase);

/// Simulates phase `phase`. `inputs` and `command` are left to the caller.
Result<results::RunResult> simulate_phase(const strategy::Plan& plan,
                                          std::size_t phase,
                                          const profiles::CostModel& costs,
                                          const SimulationOptions& options);

/// Simulates a schedule that is already there.
Result<results::RunResult> simulate_schedule(const schedule::Schedule& schedule,
                                             const clusters::Cluster& cluster,
                                             const profiles::CostModel& costs,
                                             const SimulationOptions& options);

}  // namespace troupe::cli
