// What the own attention kernels and cuDNN's take, on the shapes of models.
#pragma once

#include "base/result.h"

namespace troupe::kernels::testing {

/// Prints one JSON object a line as they are measured, until `seconds` are
/// over: {"attention", "backward", "deterministic", "own_s", "cudnn_s",
/// "by_cudnn", "refusal"}. `cudnn_s` is 0 where cuDNN has no plan, and the
/// refusal says why; deterministic is the way that runs take.
///
/// Errors: what the GPU reports.
Result<void> print_attention_bodies(int device, double seconds);

}  // namespace troupe::kernels::testing
