// What it takes to go from one phase of a strategy to another, while a step
// is under way or between steps.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "reshard/modes.h"
#include "reshard/plan_cache.h"
#include "strategy/load.h"

namespace troupe::reshard {

/// How switches are planned.
struct SwitchSettings {
  SwitchOptions options;
  const PlanCache* cache = nullptr;  ///< or no cache
  const Rates* rates = nullptr;      ///< or nominal bandwidths
};

/// One transition. Optimizer states stay where they are (the first phase's
/// layout) while a step is under way; what moves is what the next
/// micro-batches need.
struct PhaseSwitch {
  std::size_t from = 0, to = 0;  ///< phases of the strategy
  RunLevel before = RunLevel::allocate, after = RunLevel::gradient;
  /// Compute copies, in the strategy's type.
  std::optional<CachedPlan> parameters;
  /// Gradients summed so far, between the layouts that they are synchronised
  /// into; nothing has been summed before the first switch of a step.
  std::optional<CachedPlan> gradients;
  /// fp32 masters and both moments.
  std::optional<CachedPlan> states;

  /// Parameters, then gradients, then states: all cross the same links.
  Time predicted() const;
  Bytes moved() const;
  Bytes peak() const;  ///< of the fullest bucket
};

/// Optimizer states between two phases' layouts, perhaps of two strategies:
/// each parameter's fp32 master and its two moments.
std::vector<TensorChange> state_changes(const strategy::Layouts& from,
                                        const strategy::Layouts& to,
                                        const models::Model& model);

/// The order in which a step runs `phases`: as listed, then the first again,
/// which also updates. (HotSPa lists the strategy of the longest sequences
/// first, then the others from the shortest up.)
std::vector<std::size_t> execution_order(std::span<const std::size_t> phases);

/// One transition of a strategy, with what `moves` says.
///
/// Errors: as `plan_switch`.
Result<PhaseSwitch> phase_switch(const strategy::Plan& plan, std::size_t from,
                                 std::size_t to, const Moves& moves,
                                 const SwitchSettings& settings = {});

/// The switches of one step that runs every one of `phases`: the first
/// phase's parameters are there; then as `execution_order` says.
///
/// Errors: as `plan_switch`.
Result<std::vector<PhaseSwitch>> phase_switches(
    const strategy::Plan& plan, std::span<const std::size_t> phases,
    const SwitchSettings& settings = {});

/// The bridges of a step that computes under phase `compute` and keeps its
/// optimizer states in the layout of phase `states`: parameters from their
/// masters' layout to the compute layout, then gradients from the layout that
/// the computing phase synchronises them into to the masters'. Where both are
/// the same phase the gradients have nothing to move.
///
/// Errors: as `plan_switch`.
Result<std::vector<PhaseSwitch>> bridges(const strategy::Plan& plan,
                                         std::size_t states,
                                         std::size_t compute,
                                         const SwitchSettings& settings = {});

}  // namespace troupe::reshard
