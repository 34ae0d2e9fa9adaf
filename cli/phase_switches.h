// What simulate says of a strategy with several phases: the step that runs
// them all on one clock, the bridges to and from where optimizer states are,
// or the switches between steps.
#pragma once

#include <filesystem>
#include <span>

#include "base/json.h"
#include "base/result.h"
#include "profiles/cost.h"
#include "reshard/plan_cache.h"
#include "schedule/disturbance.h"
#include "strategy/load.h"

namespace troupe::cli {

/// How phases belong together; their rules say.
enum class Together : std::uint8_t {
  one_step,       ///< by sequence length: one step runs them all
  alternatives,   ///< always: every step chooses one, states stay in the first
  between_steps,  ///< by steps or events: states move
};
Together together(const strategy::Strategy& strategy,
                  std::span<const std::size_t> phases);

struct SwitchView {
  const profiles::CostModel& costs;
  Bytes memory;  ///< most for packing and receiving on a device; 0: any
  Time host_per_operator;
  const reshard::PlanCache* cache = nullptr;
  std::filesystem::path trace = {};  ///< for the whole step, or empty
  const schedule::Disturbance* disturbance = nullptr;  ///< or none
};

/// {"switches": [...], "switches_s": sum, "full_step": {...}}, or "bridges",
/// or "switches" alone; an empty object for a single phase.
///
/// Errors: as runs::perform_step.
Result<Json> switches_json(const strategy::Plan& plan,
                           std::span<const std::size_t> phases,
                           const SwitchView& view);

/// The same as tables on standard output.
void print_switches(const Json& switches);

}  // namespace troupe::cli
