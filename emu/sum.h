// Sums of arrays whose type is known at run time.
#pragma once

#include <cstddef>
#include <span>

#include "kernels/operator.h"

namespace troupe::emu {

/// sum += other, element by element; 16-bit numbers are added in fp32 and
/// rounded once.
///
/// Requires: equal sizes, fp64, fp32 or bf16.
void add_into(kernels::DType dtype, std::span<std::byte> sum,
              std::span<const std::byte> other);

}  // namespace troupe::emu
