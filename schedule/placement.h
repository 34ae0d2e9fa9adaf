// Where every parameter lies: the part of a lowered strategy that says which
// numbers a rank multiplies with, sums gradients of and updates.
#pragma once

#include <vector>

#include "models/parameters.h"
#include "strategy/annotation.h"
#include "strategy/layouts.h"
#include "strategy/strategy.h"

namespace troupe::schedule {

/// A parameter's layouts, see `strategy::Use`.
struct Placement {
  models::Parameter parameter;
  strategy::Annotation compute, gradient, optimizer;
  bool operator==(const Placement&) const = default;
};

/// Of all parameters in the order of `models::parameter_list`.
std::vector<Placement> placements(const strategy::Strategy& strategy,
                                  const strategy::Phase& phase,
                                  const models::Model& model);

}  // namespace troupe::schedule
