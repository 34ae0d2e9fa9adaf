// What it takes to go from one phase of a strategy to another while a step
// is under way.
#pragma once

#include <span>
#include <vector>

#include "reshard/switch.h"
#include "strategy/load.h"

namespace troupe::reshard {

/// One transition. Optimizer states stay where they are (the first phase's
/// layout); what moves is what the next micro-batches need.
struct PhaseSwitch {
  std::size_t from = 0, to = 0;  ///< phases of the strategy
  SwitchPlan parameters;         ///< compute copies, in the strategy's type
  /// Gradients summed so far, between the layouts that they are synchronised
  /// into; nothing has been summed before the first switch of a step.
  SwitchPlan gradients;
  bool carries_gradients = false;
  /// Parameters, then gradients: both cross the same links.
  Time predicted() const {
    return parameters.predicted +
           (carries_gradients ? gradients.predicted : Time{});
  }
};

/// The switches of one step that runs every one of `phases` once, as HotSPa
/// orders them: the first phase's parameters are there; then the others from
/// the last to the second, then the first again, which also updates.
///
/// Errors: as `plan_switch`.
Result<std::vector<PhaseSwitch>> phase_switches(
    const strategy::Plan& plan, std::span<const std::size_t> phases);

}  // namespace troupe::reshard
