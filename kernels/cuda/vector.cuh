// Loads and stores of several elements at once, and the sums of a block.
#pragma once

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.h"

namespace troupe::kernels::cuda {

/// Elements of T in 16 bytes, the widest access of a thread.
template <typename T>
inline constexpr int kWide = 16 / static_cast<int>(sizeof(T));

inline constexpr unsigned kWholeWarp = 0xFFFFFFFFU;

template <typename T, int W>
struct Pack {
  T v[W];
};

/// W elements, in accesses of 16 or 8 bytes where W makes that many.
///
/// Requires: for W > 1, `at` aligned to the smaller of 16 bytes and the pack.
template <int W, typename T>
__device__ inline Pack<T, W> load(const T* at) {
  Pack<T, W> out;
  constexpr int bytes = W * static_cast<int>(sizeof(T));
  if constexpr (bytes % 16 == 0) {
    uint4 raw[bytes / 16];
#pragma unroll
    for (int i = 0; i < bytes / 16; ++i) {
      raw[i] = reinterpret_cast<const uint4*>(at)[i];
    }
    memcpy(&out, raw, bytes);
  } else if constexpr (bytes == 8) {
    const uint2 raw = *reinterpret_cast<const uint2*>(at);
    memcpy(&out, &raw, bytes);
  } else {
#pragma unroll
    for (int i = 0; i < W; ++i) out.v[i] = at[i];
  }
  return out;
}

template <int W, typename T>
__device__ inline void store(T* at, const Pack<T, W>& pack) {
  constexpr int bytes = W * static_cast<int>(sizeof(T));
  if constexpr (bytes % 16 == 0) {
    uint4 raw[bytes / 16];
    memcpy(raw, &pack, bytes);
#pragma unroll
    for (int i = 0; i < bytes / 16; ++i) {
      store_16(reinterpret_cast<uint4*>(at) + i, raw[i]);
    }
  } else if constexpr (bytes == 8) {
    uint2 raw;
    memcpy(&raw, &pack, bytes);
    store_8(at, raw);
  } else {
#pragma unroll
    for (int i = 0; i < W; ++i) at[i] = pack.v[i];
  }
}

template <typename T>
__device__ inline T warp_sum(T x) {
#pragma unroll
  for (int by = 16; by > 0; by /= 2) x += __shfl_xor_sync(kWholeWarp, x, by);
  return x;
}

/// The sum over the threads of a block with one row (blockDim.y == 1), in a
/// fixed order, for every thread. `scratch` holds 32 and may be used again
/// after the next barrier. With one warp per row, that warp's sum.
template <typename T>
__device__ inline T row_sum(T x, T* scratch) {
  x = warp_sum(x);
  if (blockDim.x <= 32) return x;
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  __syncthreads();
  if (lane == 0) scratch[warp] = x;
  __syncthreads();
  return warp_sum(lane < blockDim.x / 32 ? scratch[lane] : T{});
}

// On the host, when launching.

inline bool aligned(const void* at) {
  return reinterpret_cast<std::uintptr_t>(at) % 16 == 0;
}
template <typename... P>
bool all_aligned(const P*... at) {
  return (aligned(at) && ...);
}

inline std::int64_t divide_up(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

inline unsigned clamp_grid(std::int64_t blocks, std::int64_t most) {
  const std::int64_t low = blocks < 1 ? 1 : blocks;
  return static_cast<unsigned>(low < most ? low : most);
}

/// Calls `body` with a value of the C++ type of `dtype`.
template <typename F>
Result<void> by_type(DType dtype, const char* operation, F&& body) {
  if (dtype == DType::bf16) return body(bf16{});
  if (dtype == DType::fp32) return body(float{});
  return no_kernel(operation, dtype);
}

}  // namespace troupe::kernels::cuda
