#include "reshard/phases.h"

namespace troupe::reshard {

Result<std::vector<PhaseSwitch>> phase_switches(
    const strategy::Plan& plan, std::span<const std::size_t> phases) {
  std::vector<PhaseSwitch> switches;
  if (phases.size() < 2) return switches;
  const Rates rates = rates_of(plan.cluster);
  const Routes routes(plan.cluster, rates);
  std::vector<strategy::Layouts> layouts;
  for (const std::size_t p : phases) {
    layouts.emplace_back(plan.strategy, plan.strategy.phases[p], plan.model);
  }
  const std::size_t n = phases.size();
  for (std::size_t k = 0; k < n; ++k) {
    const std::size_t from = k == 0 ? 0 : n - k;
    const std::size_t to = n - k - 1;
    PhaseSwitch one{phases[from], phases[to], {}, {}, k > 0};
    const auto parameters =
        parameter_changes(layouts[from], layouts[to], plan.model,
                          strategy::Use::compute, plan.strategy.dtype);
    TRY(one.parameters, plan_switch(parameters, routes));
    if (one.carries_gradients) {
      const auto gradients = parameter_changes(
          layouts[from], layouts[to], plan.model, strategy::Use::optimizer,
          plan.strategy.gradient_dtype);
      TRY(one.gradients, plan_switch(gradients, routes));
    }
    switches.push_back(std::move(one));
  }
  return switches;
}

}  // namespace troupe::reshard
