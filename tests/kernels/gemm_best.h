// How near the product that a Context chooses comes to the best that cuBLASLt
// has, on the shapes of Llama layers.
#pragma once

#include "base/result.h"

namespace troupe::kernels::testing {

/// Prints one JSON object a line, {"m", "n", "k", "form", "chosen_s",
/// "best_s", "ratio"}, as they are measured, until `seconds` are over. The
/// best is the fastest of all that the library suggests (at most 256) with
/// four times our workspace; both are timed in turn on the same operands.
///
/// Errors: what the GPU reports.
Result<void> print_gemms_against_best(int device, double seconds);

}  // namespace troupe::kernels::testing
