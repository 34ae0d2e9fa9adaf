// Column sums of partial results: the second half of every gradient that
// sums over rows.
#pragma once

#include "kernels/cuda/vector.cuh"

namespace troupe::kernels::cuda {

/// out[c] += sum over g of partial[g * stride + c], g from 0 to groups - 1,
/// in a fixed order.
Result<void> add_groups(const float* partial, std::int64_t groups,
                        std::int64_t stride, std::int64_t columns, float* out,
                        const Device& device);

}  // namespace troupe::kernels::cuda
