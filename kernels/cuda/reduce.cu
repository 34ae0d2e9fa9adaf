// Sums over rows: the gradient of a bias, and the last step of others.
#include "kernels/cuda/columns.cuh"
#include "kernels/scratch.h"

namespace troupe::kernels::cuda {
namespace {

constexpr unsigned kAcross = 32, kDown = 8;

__global__ void __launch_bounds__(kAcross* kDown)
    add_groups_kernel(const float* partial, std::int64_t groups,
                      std::int64_t stride, std::int64_t columns, float* out) {
  TROUPE_SHARED(float, sums, kAcross* kDown);
  const std::int64_t column =
      static_cast<std::int64_t>(blockIdx.x) * kAcross + threadIdx.x;
  float sum = 0;
  if (column < columns) {
#pragma unroll 4
    for (std::int64_t g = threadIdx.y; g < groups; g += kDown) {
      sum += partial[g * stride + column];
    }
  }
  sums[threadIdx.y * kAcross + threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= columns) return;
  for (unsigned y = 1; y < kDown; ++y) sum += sums[y * kAcross + threadIdx.x];
  out[column] += sum;
}

// Sums of one group of rows, for kAcross packs of columns.
template <typename T, int W>
__global__ void __launch_bounds__(kAcross* kDown)
    column_sum_kernel(const T* in, std::int64_t rows, std::int64_t columns,
                      std::int64_t group_rows, float* partial) {
  TROUPE_SHARED(float, sums, kAcross* kDown* W);
  constexpr int unroll = 4;
  const std::int64_t column =
      (static_cast<std::int64_t>(blockIdx.x) * kAcross + threadIdx.x) * W;
  const std::int64_t from = group_rows * blockIdx.y;
  const std::int64_t to = from + group_rows < rows ? from + group_rows : rows;
  float sum[W] = {};
  for (std::int64_t first = from + threadIdx.y; column < columns && first < to;
       first += unroll * kDown) {
    Pack<T, W> x[unroll];
#pragma unroll
    for (int u = 0; u < unroll; ++u) {
      const std::int64_t row = first + u * static_cast<int>(kDown);
      if (row < to) x[u] = load<W>(in + row * columns + column);
    }
#pragma unroll
    for (int u = 0; u < unroll; ++u) {
      if (first + u * static_cast<int>(kDown) >= to) continue;
#pragma unroll
      for (int i = 0; i < W; ++i) sum[i] += to_float(x[u].v[i]);
    }
  }
  const unsigned me = threadIdx.y * kAcross + threadIdx.x;
#pragma unroll
  for (int i = 0; i < W; ++i) sums[i * kAcross * kDown + me] = sum[i];
  __syncthreads();
  if (threadIdx.y != 0 || column >= columns) return;
  Pack<float, W> total;
#pragma unroll
  for (int i = 0; i < W; ++i) {
    for (unsigned y = 1; y < kDown; ++y) {
      sum[i] += sums[i * kAcross * kDown + y * kAcross + threadIdx.x];
    }
    total.v[i] = sum[i];
  }
  store<W>(partial + blockIdx.y * columns + column, total);
}

}  // namespace

Result<void> add_groups(const float* partial, std::int64_t groups,
                        std::int64_t stride, std::int64_t columns, float* out,
                        const Device& device) {
  return start(
      &add_groups_kernel, static_cast<unsigned>(divide_up(columns, kAcross)),
      dim3(kAcross, kDown), 0, device, partial, groups, stride, columns, out);
}

Result<void> launch(const BiasGradient& call, const Device& device) {
  if (call.rows == 0 || call.columns == 0) return {};
  return by_type(call.dtype, "bias_gradient", [&](auto type) -> Result<void> {
    using T = decltype(type);
    const auto* in = static_cast<const T*>(call.d_out);
    auto* partial = static_cast<float*>(call.workspace);
    const bool wide = all_aligned(in, partial) && call.columns % kWide<T> == 0;
    const std::int64_t group_rows = rows_per_group(call.rows);
    const std::int64_t groups = divide_up(call.rows, group_rows);
    const std::int64_t width = kAcross * (wide ? kWide<T> : 1);
    const dim3 grid(static_cast<unsigned>(divide_up(call.columns, width)),
                    static_cast<unsigned>(groups));
    TRY_DO(
        start(wide ? &column_sum_kernel<T, kWide<T>> : &column_sum_kernel<T, 1>,
              grid, dim3(kAcross, kDown), 0, device, in, call.rows,
              call.columns, group_rows, partial));
    return add_groups(partial, groups, call.columns, call.columns,
                      static_cast<float*>(call.d_bias), device);
  });
}

}  // namespace troupe::kernels::cuda
