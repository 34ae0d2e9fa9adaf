#include "schedule/placement.h"

namespace troupe::schedule {

std::vector<Placement> placements(const strategy::Strategy& strategy,
                                  const strategy::Phase& phase,
                                  const models::Model& model) {
  const strategy::Layouts layouts(strategy, phase, model);
  std::vector<Placement> out;
  for (models::Parameter& parameter : models::parameter_list(model)) {
    Placement p;
    p.compute = layouts.of(parameter, strategy::Use::compute);
    p.gradient = layouts.of(parameter, strategy::Use::gradient);
    p.optimizer = layouts.of(parameter, strategy::Use::optimizer);
    p.parameter = std::move(parameter);
    out.push_back(std::move(p));
  }
  return out;
}

}  // namespace troupe::schedule
