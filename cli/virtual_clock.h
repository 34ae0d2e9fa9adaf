// The simulated steps that the virtual clock of emulation is to agree with,
// and the prices that it takes from them.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "emu/emulate.h"
#include "profiles/cost.h"
#include "runs/step.h"
#include "strategy/load.h"

namespace troupe::cli {

/// One step of a strategy, simulated as a whole.
struct SimulatedStep {
  runs::StepGraph graph;
  runs::StepTimeline timeline;  ///< overlapping what it may
  sim::Run alone;  ///< every communication as if it had the links to itself
  sim::Run run;    ///< sharing them
  Time step;       ///< as simulate says: switches apart where that is shorter
};

/// A strategy's steps. Neither moved nor copied: prices read its schedules.
struct VirtualJob {
  const strategy::Plan* plan = nullptr;
  std::vector<std::size_t> phases;  ///< of the plan
  std::unique_ptr<profiles::CostModel> costs;
  std::unique_ptr<sim::Network> network;
  std::optional<schedule::Disturbance> disturbance;
  Time host_per_operator;
  std::vector<schedule::Schedule> schedules;  ///< by place in `phases`
  std::vector<std::unique_ptr<sim::PriceList>> prices;
  std::vector<SimulatedStep> steps;  ///< one; bridged: by place that computes
  bool bridged = false;
  Bytes switch_memory;
  exec::JobPrices clock;
};

/// Whether a step runs one of the phases, with bridges to the first.
bool bridged(const strategy::Plan& plan,
             const std::vector<std::size_t>& phases);

struct VirtualOptions {
  std::string profiles;  ///< database, or empty
  std::optional<schedule::Disturbance> disturbance = {};
  Time host_per_operator = {};
  Bytes switch_memory = {};  ///< 0: the strategy's
};

/// Errors: as runs::perform_step.
Result<std::unique_ptr<VirtualJob>> virtual_job(
    const strategy::Plan& plan, const std::vector<std::size_t>& phases,
    const VirtualOptions& options);

/// What it takes to change the strategy: masters and moments.
struct VirtualTransition {
  exec::StepPrices clock;
  Time alone, simulated;  ///< without and with shared links
  Bytes moved;
};

/// From one job to the next without the devices of `lost`.
///
/// Errors: as reshard::plan_switch.
Result<VirtualTransition> virtual_transition(
    const VirtualJob& from, const VirtualJob& to,
    std::span<const clusters::DeviceId> lost);

/// What of a step's tasks differs between two runs, first by time: "forward of
/// micro-batch 3, phase long, pipeline 0 stage 1: ends at ... and ..."; empty
/// when nothing does.
std::string first_difference(const VirtualJob& job, const SimulatedStep& step,
                             const sim::Run& a, const sim::Run& b);

}  // namespace troupe::cli
