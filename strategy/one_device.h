// The same work on one device: what every strategy is compared with.
#pragma once

#include <span>

#include "strategy/strategy.h"

namespace troupe::strategy {

/// A strategy of one device that holds all `layers` and runs one micro-batch
/// of one sequence for each of `lengths`; nothing is sharded or recomputed.
Strategy one_device(const Strategy& like, int layers,
                    std::span<const std::int32_t> lengths);

}  // namespace troupe::strategy
