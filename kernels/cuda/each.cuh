// The loop of every operator that treats each element of (rows, columns) by
// itself: 16-byte accesses, several in flight, a grid that fills the GPU once
// and walks on.
//
// A body has `kUnroll`, `In<W>`, `load<W>(row, column)` giving an In<W>, and
// `store<W>(row, column, in)`. An element is loaded before it is stored, so
// an output may be one of the inputs.
#pragma once

#include "kernels/cuda/vector.cuh"

namespace troupe::kernels::cuda {

inline constexpr unsigned kEachThreads = 256;

template <int W, typename Body>
__global__ void __launch_bounds__(kEachThreads)
    each_kernel(Body body, std::int64_t rows, std::int64_t columns) {
  constexpr int unroll = Body::kUnroll;
  const std::int64_t whole = columns / W * W;
  const std::int64_t step = static_cast<std::int64_t>(blockDim.x) * W;
  const std::int64_t stride = step * unroll * gridDim.x;
  const std::int64_t row_stride =
      static_cast<std::int64_t>(gridDim.y) * blockDim.y;
  for (std::int64_t row =
           static_cast<std::int64_t>(blockIdx.y) * blockDim.y + threadIdx.y;
       row < rows; row += row_stride) {
    for (std::int64_t first = step * unroll * blockIdx.x +
                              static_cast<std::int64_t>(threadIdx.x) * W;
         first < whole; first += stride) {
      typename Body::template In<W> in[unroll];
#pragma unroll
      for (int u = 0; u < unroll; ++u) {
        const std::int64_t column = first + u * step;
        if (column < whole) in[u] = body.template load<W>(row, column);
      }
#pragma unroll
      for (int u = 0; u < unroll; ++u) {
        const std::int64_t column = first + u * step;
        if (column < whole) body.template store<W>(row, column, in[u]);
      }
    }
    if constexpr (W > 1) {
      const std::int64_t column = whole + threadIdx.x;
      if (blockIdx.x == 0 && column < columns) {
        body.template store<1>(row, column, body.template load<1>(row, column));
      }
    }
  }
}

/// Runs the body by W elements at a time where `wide` allows it.
///
/// Requires: `wide` only if every address that the body makes of a column
///           that is a multiple of W is aligned.
template <int W, typename Body>
Result<void> each(const Body& body, std::int64_t rows, std::int64_t columns,
                  bool wide, const Device& device) {
  if (rows <= 0 || columns <= 0) return {};
  const std::int64_t packs = wide ? divide_up(columns, W) : columns;
  unsigned across = 8;  // threads along a row: at least the tail
  while (across < kEachThreads && across < packs) across *= 2;
  const unsigned down = kEachThreads / across;
  const std::int64_t most = std::int64_t{8} * device.multiprocessors;
  const unsigned x =
      clamp_grid(divide_up(packs, std::int64_t{across} * Body::kUnroll), most);
  const unsigned y = clamp_grid(divide_up(rows, down), divide_up(most, x));
  const dim3 grid(x, y < 65535 ? y : 65535), block(across, down);
  return wide ? start(&each_kernel<W, Body>, grid, block, 0, device, body, rows,
                      columns)
              : start(&each_kernel<1, Body>, grid, block, 0, device, body, rows,
                      columns);
}

}  // namespace troupe::kernels::cuda
