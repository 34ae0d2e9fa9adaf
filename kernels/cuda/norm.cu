// RMSNorm and LayerNorm. A row lives in the registers of the threads that
// share it; rows too long for that are read again.
#include "kernels/cuda/columns.cuh"
#include "kernels/scratch.h"

namespace troupe::kernels::cuda {
namespace {

// Packs of a row that one thread holds: 16 elements of every type, so that
// several blocks fit a multiprocessor.
template <int W>
constexpr int kHeld = W == 8 ? 2 : 4;
// Backward holds the column sums too, and has twice the registers.
constexpr unsigned kForwardThreads = 1024;
constexpr unsigned kBackwardThreads = 512;

// How a row is laid over threads; several short rows share a block.
dim3 row_block(std::int64_t columns, int width, unsigned most, bool share) {
  // Two packs each are enough in flight; more only where threads run out.
  const std::int64_t packs = divide_up(columns, width);
  const std::int64_t across = divide_up(divide_up(packs, 2), 32) * 32;
  const unsigned x = clamp_grid(across, most);
  return dim3(x, share && x == 32 ? 8 : 1);
}

// The packs of a row that this thread holds in round `round`.
template <typename T, int W>
struct Held {
  static constexpr int count = kHeld<W>;
  Pack<T, W> pack[count];

  static __device__ std::int64_t column(int i, std::int64_t round) {
    const std::int64_t pack =
        (round * count + i) * static_cast<std::int64_t>(blockDim.x) +
        threadIdx.x;
    return pack * W;
  }
  __device__ void read(const T* row, std::int64_t columns, std::int64_t round) {
#pragma unroll
    for (int i = 0; i < count; ++i) {
      const std::int64_t c = column(i, round);
      if (c < columns) pack[i] = load<W>(row + c);
    }
  }
};

template <int W>
__device__ inline std::int64_t rounds_of(std::int64_t columns) {
  const std::int64_t per_round =
      static_cast<std::int64_t>(blockDim.x) * kHeld<W> * W;
  return (columns + per_round - 1) / per_round;
}

template <typename T>
struct ForwardOperands {
  const T* in;
  const T* weight;
  const T* bias;
  T* out;
  float* mean;
  float* rstd;
  std::int64_t rows, columns;
  float epsilon;
};

// Sum over the row of (x - shift), or of its square.
template <bool square, typename T, int W>
__device__ float sum_row(Held<T, W>& x, const T* row, std::int64_t columns,
                         float shift, float* scratch) {
  const std::int64_t rounds = rounds_of<W>(columns);
  float sum = 0;
  for (std::int64_t round = 0; round < rounds; ++round) {
    if (rounds > 1) x.read(row, columns, round);
#pragma unroll
    for (int i = 0; i < kHeld<W>; ++i) {
      if (x.column(i, round) >= columns) continue;
#pragma unroll
      for (int j = 0; j < W; ++j) {
        const float d = to_float(x.pack[i].v[j]) - shift;
        sum += square ? d * d : d;
      }
    }
  }
  return row_sum(sum, scratch);
}

template <bool rms, typename T, int W>
__device__ void write_row(Held<T, W>& x, const ForwardOperands<T>& o,
                          std::int64_t row, float mean, float rstd) {
  const std::int64_t rounds = rounds_of<W>(o.columns);
  const T* from = o.in + row * o.columns;
  for (std::int64_t round = 0; round < rounds; ++round) {
    if (rounds > 1) x.read(from, o.columns, round);
#pragma unroll
    for (int i = 0; i < kHeld<W>; ++i) {
      const std::int64_t c = x.column(i, round);
      if (c >= o.columns) continue;
      const Pack<T, W> w = load<W>(o.weight + c);
      Pack<T, W> b, y;
      if (o.bias != nullptr) b = load<W>(o.bias + c);
#pragma unroll
      for (int j = 0; j < W; ++j) {
        float value = (to_float(x.pack[i].v[j]) - (rms ? 0.0F : mean)) * rstd *
                      to_float(w.v[j]);
        if (o.bias != nullptr) value += to_float(b.v[j]);
        y.v[j] = from_float<T>(value);
      }
      store<W>(o.out + row * o.columns + c, y);
    }
  }
}

template <bool rms, typename T, int W>
__global__ void __launch_bounds__(kForwardThreads)
    norm_forward_kernel(ForwardOperands<T> o) {
  TROUPE_SHARED(float, scratch, 32);
  const float inverse = 1.0F / static_cast<float>(o.columns);
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.y;
  // Every warp of a block walks the same number of times: sums are shared.
  for (std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * blockDim.y;
       first < o.rows; first += step) {
    const std::int64_t row = first + threadIdx.y;
    if (row >= o.rows) continue;  // whole warps: only where rows share blocks
    const T* from = o.in + row * o.columns;
    Held<T, W> x;
    x.read(from, o.columns, 0);
    float mean = 0;
    if constexpr (!rms) {
      mean = sum_row<false>(x, from, o.columns, 0, scratch) * inverse;
    }
    const float variance =
        sum_row<true>(x, from, o.columns, mean, scratch) * inverse;
    const float rstd = rsqrtf(variance + o.epsilon);
    if (threadIdx.x == 0) {
      if constexpr (!rms) o.mean[row] = mean;
      o.rstd[row] = rstd;
    }
    write_row<rms>(x, o, row, mean, rstd);
  }
}

template <typename T>
struct BackwardOperands {
  const T* in;
  const T* weight;
  const float* mean;
  const float* rstd;
  const T* d_out;
  T* d_in;
  float* partial_weight;  // (groups, columns)
  float* partial_bias;    // null where not wanted
  std::int64_t rows, columns, group_rows;
};

// What a thread sums over the rows of its group, for the columns it holds.
template <int W>
struct ColumnSums {
  float weight[kHeld<W>][W] = {};
  float bias[kHeld<W>][W] = {};
};

// Adds to the group's sums in memory, which nobody else touches.
template <int W>
__device__ inline void spill(float* at, const float (&sum)[W], bool first) {
  Pack<float, W> all;
  if (!first) all = load<W>(at);
#pragma unroll
  for (int j = 0; j < W; ++j) all.v[j] = first ? sum[j] : all.v[j] + sum[j];
  store<W>(at, all);
}

template <bool rms, typename T, int W>
__device__ float2 backward_sums(Held<T, W>& x, Held<T, W>& dy,
                                const BackwardOperands<T>& o, std::int64_t row,
                                float mean, float rstd, float* scratch) {
  const std::int64_t rounds = rounds_of<W>(o.columns);
  float sum_dy = 0, sum_dyx = 0;
  for (std::int64_t round = 0; round < rounds; ++round) {
    if (rounds > 1) {
      x.read(o.in + row * o.columns, o.columns, round);
      dy.read(o.d_out + row * o.columns, o.columns, round);
    }
#pragma unroll
    for (int i = 0; i < kHeld<W>; ++i) {
      const std::int64_t c = x.column(i, round);
      if (c >= o.columns) continue;
      const Pack<T, W> w = load<W>(o.weight + c);
#pragma unroll
      for (int j = 0; j < W; ++j) {
        const float g = to_float(dy.pack[i].v[j]) * to_float(w.v[j]);
        const float centred = to_float(x.pack[i].v[j]) - (rms ? 0.0F : mean);
        sum_dyx += g * centred * rstd;
        if constexpr (!rms) sum_dy += g;
      }
    }
  }
  sum_dyx = row_sum(sum_dyx, scratch);
  if constexpr (!rms) sum_dy = row_sum(sum_dy, scratch);
  const float inverse = 1.0F / static_cast<float>(o.columns);
  return {sum_dy * inverse, sum_dyx * inverse};
}

// The pack's d_in; adds its share of the column sums.
template <bool rms, typename T, int W>
__device__ Pack<T, W> backward_pack(const Pack<T, W>& x, const Pack<T, W>& dy,
                                    const Pack<T, W>& w, float mean, float rstd,
                                    float2 means, float (&d_weight)[W],
                                    float (&d_bias)[W]) {
  Pack<T, W> dx;
#pragma unroll
  for (int j = 0; j < W; ++j) {
    const float grad = to_float(dy.v[j]);
    const float hat = (to_float(x.v[j]) - (rms ? 0.0F : mean)) * rstd;
    const float g = grad * to_float(w.v[j]);
    dx.v[j] = from_float<T>(rstd * (g - means.x - hat * means.y));
    d_weight[j] += grad * hat;
    d_bias[j] += grad;
  }
  return dx;
}

template <bool rms, typename T, int W>
__global__ void __launch_bounds__(kBackwardThreads)
    norm_backward_kernel(BackwardOperands<T> o) {
  TROUPE_SHARED(float, scratch, 32);
  const std::int64_t rounds = rounds_of<W>(o.columns);
  const std::int64_t from = o.group_rows * blockIdx.x;
  const std::int64_t to =
      from + o.group_rows < o.rows ? from + o.group_rows : o.rows;
  float* to_weight = o.partial_weight + blockIdx.x * o.columns;
  float* to_bias = o.partial_bias + blockIdx.x * o.columns;
  ColumnSums<W> sums;
  for (std::int64_t row = from; row < to; ++row) {
    Held<T, W> x, dy;
    x.read(o.in + row * o.columns, o.columns, 0);
    dy.read(o.d_out + row * o.columns, o.columns, 0);
    const float mean = rms ? 0.0F : o.mean[row], rstd = o.rstd[row];
    const float2 means = backward_sums<rms>(x, dy, o, row, mean, rstd, scratch);
    for (std::int64_t round = 0; round < rounds; ++round) {
      if (rounds > 1) {
        x.read(o.in + row * o.columns, o.columns, round);
        dy.read(o.d_out + row * o.columns, o.columns, round);
        sums = ColumnSums<W>();
      }
#pragma unroll
      for (int i = 0; i < kHeld<W>; ++i) {
        const std::int64_t c = x.column(i, round);
        if (c >= o.columns) continue;
        const Pack<T, W> w = load<W>(o.weight + c);
        store<W>(o.d_in + row * o.columns + c,
                 backward_pack<rms>(x.pack[i], dy.pack[i], w, mean, rstd, means,
                                    sums.weight[i], sums.bias[i]));
        if (rounds == 1 && row + 1 < to) continue;
        const bool first = rounds == 1 || row == from;
        spill(to_weight + c, sums.weight[i], first);
        if (o.partial_bias != nullptr) {
          spill(to_bias + c, sums.bias[i], first);
        }
      }
    }
  }
}

template <typename T>
Result<void> forward(const NormForward& call, const Device& device) {
  const bool wide = all_aligned(call.in, call.weight, call.bias, call.out) &&
                    call.columns % kWide<T> == 0;
  const ForwardOperands<T> o{static_cast<const T*>(call.in),
                             static_cast<const T*>(call.weight),
                             static_cast<const T*>(call.bias),
                             static_cast<T*>(call.out),
                             static_cast<float*>(call.mean),
                             static_cast<float*>(call.rstd),
                             call.rows,
                             call.columns,
                             static_cast<float>(call.epsilon)};
  const dim3 block =
      row_block(call.columns, wide ? kWide<T> : 1, kForwardThreads, true);
  const unsigned threads = block.x * block.y;
  const unsigned grid =
      clamp_grid(divide_up(call.rows, block.y),
                 std::int64_t{2048 / threads} * device.multiprocessors);
  auto* kernel = &norm_forward_kernel<true, T, 1>;
  if (call.rms && wide) kernel = &norm_forward_kernel<true, T, kWide<T>>;
  if (!call.rms && wide) kernel = &norm_forward_kernel<false, T, kWide<T>>;
  if (!call.rms && !wide) kernel = &norm_forward_kernel<false, T, 1>;
  return start(kernel, grid, block, 0, device, o);
}

template <typename T>
Result<void> backward(const NormBackward& call, const Device& device) {
  const bool wide = all_aligned(call.in, call.weight, call.d_out, call.d_in,
                                call.workspace) &&
                    call.columns % kWide<T> == 0;
  const std::int64_t group_rows = rows_per_group(call.rows);
  const std::int64_t groups = divide_up(call.rows, group_rows);
  auto* partial = static_cast<float*>(call.workspace);
  float* partial_bias =
      call.d_bias == nullptr ? nullptr : partial + groups * call.columns;
  const BackwardOperands<T> o{static_cast<const T*>(call.in),
                              static_cast<const T*>(call.weight),
                              static_cast<const float*>(call.mean),
                              static_cast<const float*>(call.rstd),
                              static_cast<const T*>(call.d_out),
                              static_cast<T*>(call.d_in),
                              partial,
                              partial_bias,
                              call.rows,
                              call.columns,
                              group_rows};
  const dim3 block =
      row_block(call.columns, wide ? kWide<T> : 1, kBackwardThreads, false);
  auto* kernel = &norm_backward_kernel<true, T, 1>;
  if (call.rms && wide) kernel = &norm_backward_kernel<true, T, kWide<T>>;
  if (!call.rms && wide) kernel = &norm_backward_kernel<false, T, kWide<T>>;
  if (!call.rms && !wide) kernel = &norm_backward_kernel<false, T, 1>;
  TRY_DO(start(kernel, static_cast<unsigned>(groups), block, 0, device, o));
  TRY_DO(add_groups(partial, groups, call.columns, call.columns,
                    static_cast<float*>(call.d_weight), device));
  if (call.d_bias == nullptr) return {};
  return add_groups(partial_bias, groups, call.columns, call.columns,
                    static_cast<float*>(call.d_bias), device);
}

}  // namespace

Result<void> launch(const NormForward& call, const Device& device) {
  if (call.rows == 0 || call.columns == 0) return {};
  return by_type(call.dtype, "norm_forward", [&](auto type) {
    return forward<decltype(type)>(call, device);
  });
}

Result<void> launch(const NormBackward& call, const Device& device) {
  if (call.rows == 0 || call.columns == 0) return {};
  return by_type(call.dtype, "norm_backward", [&](auto type) {
    return backward<decltype(type)>(call, device);
  });
}

}  // namespace troupe::kernels::cuda
