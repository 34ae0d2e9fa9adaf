// Runs cases on a GPU.
#pragma once

#include "kernels/cuda.h"
#include "tests/kernels/cuda_cases.h"

namespace troupe::kernels::testing {

/// Puts operands on the context's GPU, runs the call there, and brings them
/// back. `offset` bytes lie before each operand: 0 keeps the alignment of
/// allocations. Each operand is followed by bytes that must stay as they are.
///
/// Errors: what the GPU reports; io, naming the operand, where a kernel wrote
///         past the end of one.
Perform perform_on(cuda::Context& context, std::int64_t offset = 0);

}  // namespace troupe::kernels::testing
