// From a loaded plan to the answer of a simulated step: the chain that the
// simulate command, sweeps and validation share.
#pragma once

#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "profiles/cost.h"
#include "results/metrics.h"
#include "results/run.h"
#include "schedule/disturbance.h"
#include "schedule/schedule.h"
#include "strategy/load.h"

namespace troupe::cli {

/// How a step is simulated and what is kept of it.
struct SimulationOptions {
  bool operators = false;  ///< perform every operator on every rank
  bool fold = true;        ///< simulate equal pipelines once where exact
  /// Launching an operator takes the host this long; depends on the software.
  Time host_per_operator;
  Bytes reserve;          ///< memory no task may use
  int bar_pipelines = 3;  ///< pipelines in the picture
  /// Every communication as if it had its links to itself.
  bool uncontended = false;
  /// Noise and slow devices, or null.
  const schedule::Disturbance* disturbance = nullptr;
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

/// Cost models by the device kinds they are for, each loaded once. Several
/// threads may ask.
class SharedCosts {
 public:
  explicit SharedCosts(std::string database) : database_(std::move(database)) {}

  /// The model lives as long as this object.
  ///
  /// Errors: as load_costs.
  Result<const profiles::CostModel*> of(const clusters::Cluster& cluster);

 private:
  std::string database_;
  std::mutex mutex_;
  std::vector<std::pair<std::vector<clusters::DeviceKind>,
                        std::unique_ptr<profiles::CostModel>>>
      loaded_;
};

/// Lowers phase `phase` of the plan, with its task order read when custom;
/// `like` as in `schedule::lower`.
Result<schedule::Schedule> lower_phase(const strategy::Plan& plan,
                                       std::size_t phase,
                                       const schedule::Schedule* like = {});

/// A performed step as an answer, with its hashes and `bar_pipelines` of its
/// picture.
results::RunResult answer_of(const results::Performed& step,
                             const profiles::CostModel& costs,
                             int bar_pipelines);
/// Says in an answer which plan it is of: name and content hashes.
void name_plan(const strategy::Plan& plan, results::RunResult& run);

/// Simulates phase `phase`. `inputs` and `command` are left to the caller.
Result<results::RunResult> simulate_phase(const strategy::Plan& plan,
                                          std::size_t phase,
                                          const profiles::CostModel& costs,
                                          const SimulationOptions& options);

/// Simulates a schedule that is already there.
Result<results::RunResult> simulate_schedule(const schedule::Schedule& schedule,
                                             const clusters::Cluster& cluster,
                                             const profiles::CostModel& costs,
                                             const SimulationOptions& options,
                                             std::size_t phase = 0);

}  // namespace troupe::cli
