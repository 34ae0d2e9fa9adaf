#include "reshard/phases.h"

#include <algorithm>

namespace troupe::reshard {
namespace {

constexpr const std::optional<CachedPlan> PhaseSwitch::* kParts[] = {
    &PhaseSwitch::parameters, &PhaseSwitch::gradients, &PhaseSwitch::states};

}  // namespace

std::vector<TensorChange> state_changes(const strategy::Layouts& from,
                                        const strategy::Layouts& to,
                                        const models::Model& model) {
  std::vector<TensorChange> out;
  const auto one = parameter_changes(from, to, model, strategy::Use::optimizer,
                                     kernels::DType::fp32);
  for (const char* part : {"master", "mean", "variance"}) {
    for (const TensorChange& change : one) {
      out.push_back(change);
      out.back().name += std::string(".") + part;
    }
  }
  return out;
}

Time PhaseSwitch::predicted() const {
  Time sum;
  for (const auto part : kParts) {
    if (this->*part) sum += (this->*part)->plan.predicted;
  }
  return sum;
}

Bytes PhaseSwitch::moved() const {
  Bytes sum;
  for (const auto part : kParts) {
    if (this->*part) sum += (this->*part)->plan.moved;
  }
  return sum;
}

Bytes PhaseSwitch::peak() const {
  Bytes most;
  for (const auto part : kParts) {
    if (this->*part) most = std::max(most, (this->*part)->plan.peak);
  }
  return most;
}

std::vector<std::size_t> execution_order(std::span<const std::size_t> phases) {
  if (phases.size() < 2) return {phases.begin(), phases.end()};
  std::vector<std::size_t> out(phases.begin() + 1, phases.end());
  out.push_back(phases.front());
  return out;
}

Result<PhaseSwitch> phase_switch(const strategy::Plan& plan, std::size_t from,
                                 std::size_t to, const Moves& moves,
                                 const SwitchSettings& settings) {
  const Rates nominal = settings.rates ? Rates{} : rates_of(plan.cluster);
  const Routes routes(plan.cluster, settings.rates ? *settings.rates : nominal);
  const strategy::Strategy& s = plan.strategy;
  const strategy::Layouts before(s, s.phases[from], plan.model);
  const strategy::Layouts after(s, s.phases[to], plan.model);
  const auto planned = [&](const std::vector<TensorChange>& changes) {
    return switch_plan(settings.cache, changes, routes, settings.options);
  };
  PhaseSwitch out;
  out.from = from;
  out.to = to;
  if (moves.parameters) {
    TRY(out.parameters,
        planned(parameter_changes(before, after, plan.model,
                                  strategy::Use::compute, s.dtype)));
  }
  if (moves.gradients) {
    TRY(out.gradients,
        planned(parameter_changes(before, after, plan.model,
                                  strategy::Use::optimizer, s.gradient_dtype)));
  }
  if (moves.states) {
    TRY(out.states, planned(state_changes(before, after, plan.model)));
  }
  return out;
}

Result<std::vector<PhaseSwitch>> phase_switches(
    const strategy::Plan& plan, std::span<const std::size_t> phases,
    const SwitchSettings& settings) {
  std::vector<PhaseSwitch> switches;
  if (phases.size() < 2) return switches;
  std::size_t from = phases.front();
  RunLevel before = RunLevel::allocate;
  const std::vector<std::size_t> order = execution_order(phases);
  for (std::size_t k = 0; k < order.size(); ++k) {
    const bool last = k + 1 == order.size();
    const RunLevel after = last ? RunLevel::update : RunLevel::gradient;
    TRY(const Moves moves, moves_between(before, after, true));
    TRY(PhaseSwitch one, phase_switch(plan, from, order[k], moves, settings));
    one.before = before;
    one.after = after;
    switches.push_back(std::move(one));
    from = order[k];
    before = after;
  }
  return switches;
}

Result<std::vector<PhaseSwitch>> bridges(const strategy::Plan& plan,
                                         std::size_t states,
                                         std::size_t compute,
                                         const SwitchSettings& settings) {
  const Rates nominal = settings.rates ? Rates{} : rates_of(plan.cluster);
  const Routes routes(plan.cluster, settings.rates ? *settings.rates : nominal);
  const strategy::Strategy& s = plan.strategy;
  const strategy::Layouts kept(s, s.phases[states], plan.model);
  const strategy::Layouts used(s, s.phases[compute], plan.model);
  const auto parameters =
      parameter_changes(kept, strategy::Use::optimizer, used,
                        strategy::Use::compute, plan.model, s.dtype);
  const auto gradients = parameter_changes(
      used, kept, plan.model, strategy::Use::optimizer, s.gradient_dtype);
  std::vector<PhaseSwitch> out(2);
  out[0].from = out[1].to = states;
  out[0].to = out[1].from = compute;
  out[0].before = RunLevel::update;
  out[0].after = RunLevel::gradient;
  out[1].before = RunLevel::gradient;
  out[1].after = RunLevel::update;
  TRY(out[0].parameters,
      switch_plan(settings.cache, parameters, routes, settings.options));
  TRY(out[1].gradients,
      switch_plan(settings.cache, gradients, routes, settings.options));
  return out;
}

}  // namespace troupe::reshard
