// Copies between strided arrays: rows by 16 bytes where they allow it,
// transposes by way of shared memory.
#include "kernels/cuda/copy_plan.h"
#include "kernels/cuda/each.cuh"

namespace troupe::kernels::cuda {
namespace {

struct Offsets {
  std::int64_t from, to;
};

// Of the i-th combination of the outer dimensions.
__device__ inline Offsets offsets_of(const CopyPlan& plan, std::int64_t i) {
  const std::int64_t s2 = plan.outer[2].size, s1 = plan.outer[1].size;
  const std::int64_t i2 = i % s2, i1 = i / s2 % s1, i0 = i / s2 / s1;
  return {
      i0 * plan.outer[0].from + i1 * plan.outer[1].from +
          i2 * plan.outer[2].from,
      i0 * plan.outer[0].to + i1 * plan.outer[1].to + i2 * plan.outer[2].to};
}

template <typename T, bool accumulate>
struct RowBody {
  static constexpr int kUnroll = 4;
  const T* in;
  T* out;
  CopyPlan plan;

  template <int W>
  struct In {
    Pack<T, W> x;
    T* to;
  };
  template <int W>
  __device__ In<W> load(std::int64_t r, std::int64_t c) const {
    const Offsets at = offsets_of(plan, r);
    In<W> all;
    all.to = out + at.to + c * plan.inner.to;
    all.x = cuda::load<W>(in + at.from + c * plan.inner.from);
    return all;
  }
  template <int W>
  __device__ void store(std::int64_t, std::int64_t, In<W> all) const {
    if constexpr (accumulate) {
      const Pack<T, W> before = cuda::load<W>(all.to);
#pragma unroll
      for (int i = 0; i < W; ++i) {
        all.x.v[i] =
            from_float<T>(to_float(before.v[i]) + to_float(all.x.v[i]));
      }
    }
    cuda::store<W>(all.to, all.x);
  }
};

constexpr int kTile = 64;
constexpr int kLanes = 32, kDown = 8;

// Tiles of kTile x kTile: rows of `in` are read whole, rows of `out` written
// whole.
template <typename T, bool accumulate>
__global__ void __launch_bounds__(kLanes* kDown)
    transpose_kernel(const T* in, T* out, CopyPlan plan, std::int64_t tiles) {
  // One word more per row: columns are then in 32 different banks.
  constexpr int pitch = kTile + (sizeof(T) == 2 ? 2 : 1);
  TROUPE_SHARED(T, tile, kTile * pitch);
  const std::int64_t inner_tiles = (plan.inner.size + kTile - 1) / kTile;
  const std::int64_t across_tiles = (plan.across.size + kTile - 1) / kTile;
  const int x = static_cast<int>(threadIdx.x),
            y = static_cast<int>(threadIdx.y);
  for (std::int64_t t = blockIdx.x; t < tiles; t += gridDim.x) {
    const std::int64_t i0 = t % inner_tiles * kTile;
    const std::int64_t a0 = t / inner_tiles % across_tiles * kTile;
    const Offsets at = offsets_of(plan, t / inner_tiles / across_tiles);
    __syncthreads();
#pragma unroll
    for (int j = 0; j < kTile; j += kDown) {
#pragma unroll
      for (int h = 0; h < kTile; h += kLanes) {
        const std::int64_t i = i0 + y + j, a = a0 + x + h;
        if (i < plan.inner.size && a < plan.across.size) {
          tile[(y + j) * pitch + x + h] = in[at.from + i * plan.inner.from + a];
        }
      }
    }
    __syncthreads();
#pragma unroll
    for (int j = 0; j < kTile; j += kDown) {
#pragma unroll
      for (int h = 0; h < kTile; h += kLanes) {
        const std::int64_t a = a0 + y + j, i = i0 + x + h;
        if (i >= plan.inner.size || a >= plan.across.size) continue;
        T* to = out + at.to + a * plan.across.to + i;
        const T value = tile[(x + h) * pitch + y + j];
        *to =
            accumulate ? from_float<T>(to_float(*to) + to_float(value)) : value;
      }
    }
  }
}

template <typename T, bool accumulate>
Result<void> copy(const CopyBlock& call, const CopyPlan& plan,
                  const Device& device) {
  const auto* in = static_cast<const T*>(call.in);
  auto* out = static_cast<T*>(call.out);
  if (plan.way == CopyWay::transpose) {
    const std::int64_t tiles = divide_up(plan.inner.size, kTile) *
                               divide_up(plan.across.size, kTile) *
                               plan.outer_size();
    const unsigned grid =
        clamp_grid(tiles, std::int64_t{8} * device.multiprocessors);
    return start(&transpose_kernel<T, accumulate>, grid, dim3(kLanes, kDown), 0,
                 device, in, out, plan, tiles);
  }
  const RowBody<T, accumulate> body{in, out, plan};
  return each<kWide<T>>(body, plan.outer_size(), plan.inner.size,
                        all_aligned(in, out) && plan.aligned_to(kWide<T>),
                        device);
}

}  // namespace

Result<void> launch(const CopyBlock& call, const Device& device) {
  const CopyPlan plan = plan_copy(call);
  if (plan.way == CopyWay::nothing) return {};
  // A plain copy moves bits: any type of that size will do.
  if (!call.accumulate && size_of(call.dtype).v == 4) {
    return copy<float, false>(call, plan, device);
  }
  if (!call.accumulate && size_of(call.dtype).v == 2) {
    return copy<bf16, false>(call, plan, device);
  }
  return by_type(call.dtype, "copy", [&](auto type) {
    return copy<decltype(type), true>(call, plan, device);
  });
}

}  // namespace troupe::kernels::cuda
