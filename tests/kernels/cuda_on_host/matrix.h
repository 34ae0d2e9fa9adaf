// The matrix instructions of device_nvcc.cuh, element by element, with the
// fragment layouts of the PTX ISA.
#pragma once

#include <cstdint>

#include "tests/kernels/cuda_on_host/machine.h"

namespace troupe::kernels::cuda {

/// c += a b, 16x8x16: products of bf16 are exact in fp32; the sum runs in
/// fp32 in the order of k.
void mma_16x8x16(float (&c)[4], const std::uint32_t (&a)[4],
                 const std::uint32_t (&b)[2]);
void load_matrix_x4(std::uint32_t (&r)[4], const void* row);
void load_matrix_x4_transposed(std::uint32_t (&r)[4], const void* row);

inline void copy_async_16(void* shared, const void* global, bool valid = true) {
  on_host::copy_async(shared, global, valid);
}
inline void copy_async_commit() { on_host::copy_async_commit(); }
template <int newest>
void copy_async_wait() {
  on_host::copy_async_wait(newest);
}

}  // namespace troupe::kernels::cuda
