// Reductions of any form: the ways that always work, whatever the layouts.
#pragma once

#include <vector>

#include "reshard/movement.h"

namespace troupe::reshard {

/// Where sums are made.
enum class Reducing : std::uint8_t {
  spread,     ///< every group of holders reduce-scatters its share of a block
  at_needer,  ///< at a holder who needs the sum; spread where there is none
  at_every,   ///< each who needs the sum gets all summands and adds them
};

/// Reduces, then moves; or for `at_every`, moves, then reduces. With several
/// holders of a summand each group of holders takes a share of the block.
///
/// Errors: infeasible when the layouts cut the tensor too finely.
Result<std::vector<Step>> reduce_and_move(const Problem& problem,
                                          Reducing where, SenderRule rule,
                                          const Routes& routes,
                                          std::int64_t element_bytes);

}  // namespace troupe::reshard
