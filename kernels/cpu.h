// Operators performed in host memory: the definition of every operator, to
// which the bodies for GPUs are compared, and the arithmetic of emulated
// ranks.
#pragma once

#include "base/result.h"
#include "kernels/call.h"

namespace troupe::kernels::cpu {

/// Performs `call`; every operand lies in host memory.
///
/// Model:  dtype fp64, fp32, or bf16 (stored as bf16, computed in fp32).
///         Sums run in an order that depends on the sizes alone: the same
///         operands give the same bits, whatever thread runs the call and
///         wherever they lie. A pure function of its operands: calls whose
///         outputs differ may run on many threads at once. `workspace` is
///         never touched and may be null.
///         Attention holds one block of scores (64 x 64), never all of them.
/// Errors: input, naming operator, field and value, for another dtype, a
///         negative or inconsistent size, a row stride below the row, or a
///         null operand that is not empty. Nothing is written then.
Result<void> run(const Call& call);

}  // namespace troupe::kernels::cpu
