// The language that kernels are written in: CUDA C++ with a few names of our
// own in place of what plain C++ cannot say. Under nvcc the names are CUDA's
// and inline PTX; under g++ they are those of tests/kernels/cuda_on_host,
// which runs the same kernels on the CPU, thread by thread, and checks them.
//
// Rules for kernels, so that both can run them:
//   * shared memory only by TROUPE_SHARED and TROUPE_DYNAMIC_SHARED;
//   * kernels start only by `start`;
//   * PTX only in this file.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/result.h"
#include "kernels/cuda/device.h"

#ifdef __CUDACC__
#include "kernels/cuda/device_nvcc.cuh"
#else
#include "tests/kernels/cuda_on_host/language.h"
#endif

namespace troupe::kernels::cuda {

using bf16 = __nv_bfloat16;

/// Bits of two bf16, low half first, as the matrix units want them.
__device__ inline std::uint32_t pack(float low, float high) {
  const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
  std::uint32_t bits;
  memcpy(&bits, &both, sizeof bits);
  return bits;
}

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(bf16 x) { return __bfloat162float(x); }
template <typename T>
__device__ inline T from_float(float x);
template <>
__device__ inline float from_float<float>(float x) {
  return x;
}
template <>
__device__ inline bf16 from_float<bf16>(float x) {
  return __float2bfloat16_rn(x);
}

}  // namespace troupe::kernels::cuda
