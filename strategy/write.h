// Writes a strategy in the full native form.
#pragma once

#include "base/json.h"
#include "strategy/strategy.h"

namespace troupe::strategy {

/// The full form of FORMAT.md: every stage with its devices and layers,
/// device lists as ranges. Reading it back gives the same strategy, provided
/// that the strategy is valid.
Json to_json(const Strategy& strategy);

}  // namespace troupe::strategy
