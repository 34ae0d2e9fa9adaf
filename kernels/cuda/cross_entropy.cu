// Cross-entropy over a vocabulary that may be spread over devices: what one
// shard knows of each row, the join of shards, and the gradient.
#include "kernels/cuda/each.cuh"

namespace troupe::kernels::cuda {
namespace {

constexpr unsigned kThreads = 512;
constexpr float kLog2E = 1.44269504F;

// A sum of exp(x - maximum); nothing seen yet is (-inf, 0).
struct Softmax {
  float maximum, sum;
};

__device__ inline float exp_below(float x, float maximum) {
  return fast_exp2((x - maximum) * kLog2E);
}

__device__ inline Softmax join(Softmax a, Softmax b) {
  const float most = fmaxf(a.maximum, b.maximum);
  if (most == -INFINITY) return a;
  return {most, a.sum * exp_below(a.maximum, most) +
                    b.sum * exp_below(b.maximum, most)};
}

__device__ inline Softmax join_row(Softmax mine, Softmax* scratch) {
  const auto join_warp = [](Softmax s) {
#pragma unroll
    for (int by = 16; by > 0; by /= 2) {
      s = join(s, {__shfl_xor_sync(kWholeWarp, s.maximum, by),
                   __shfl_xor_sync(kWholeWarp, s.sum, by)});
    }
    return s;
  };
  mine = join_warp(mine);
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  __syncthreads();
  if (lane == 0) scratch[warp] = mine;
  __syncthreads();
  return join_warp(lane < blockDim.x / 32 ? scratch[lane]
                                          : Softmax{-INFINITY, 0});
}

// One pass: the maximum so far, and the sum below it.
template <typename T, int W>
__device__ Softmax softmax_of(const T* row, std::int64_t columns) {
  constexpr int unroll = W > 1 ? 2 : 4;
  Softmax all{-INFINITY, 0};
  const std::int64_t step = static_cast<std::int64_t>(blockDim.x) * W;
  for (std::int64_t first = static_cast<std::int64_t>(threadIdx.x) * W;
       first < columns; first += unroll * step) {
    Pack<T, W> x[unroll];
#pragma unroll
    for (int u = 0; u < unroll; ++u) {
      if (first + u * step < columns) x[u] = load<W>(row + first + u * step);
    }
    float most = all.maximum;
#pragma unroll
    for (int u = 0; u < unroll; ++u) {
      if (first + u * step >= columns) continue;
#pragma unroll
      for (int i = 0; i < W; ++i) most = fmaxf(most, to_float(x[u].v[i]));
    }
    if (most == -INFINITY) continue;
    float sum = all.sum * exp_below(all.maximum, most);
#pragma unroll
    for (int u = 0; u < unroll; ++u) {
      if (first + u * step >= columns) continue;
#pragma unroll
      for (int i = 0; i < W; ++i) sum += exp_below(to_float(x[u].v[i]), most);
    }
    all = {most, sum};
  }
  return all;
}

template <typename T>
struct ForwardOperands {
  const T* logits;
  const std::int32_t* labels;
  float* maximum;
  float* sum;
  float* target;
  std::int64_t rows, columns, first, ld;
};

template <typename T, int W>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(ForwardOperands<T> o) {
  TROUPE_SHARED(Softmax, scratch, 32);
  for (std::int64_t r = blockIdx.x; r < o.rows; r += gridDim.x) {
    const T* row = o.logits + r * o.ld;
    const Softmax all = join_row(softmax_of<T, W>(row, o.columns), scratch);
    if (threadIdx.x != 0) continue;
    const std::int64_t label = o.labels[r];
    const std::int64_t here = label - o.first;
    const bool held = label >= 0 && here >= 0 && here < o.columns;
    o.maximum[r] = all.maximum;
    o.sum[r] = all.sum;
    o.target[r] = held ? to_float(row[here]) : 0.0F;
  }
}

__global__ void merge_kernel(std::int64_t rows, std::int64_t shards,
                             const std::int32_t* labels, const float* maximum,
                             const float* sum, const float* target, float* lse,
                             float* loss) {
  for (std::int64_t r =
           static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
       r < rows; r += static_cast<std::int64_t>(gridDim.x) * blockDim.x) {
    float most = -INFINITY, total = 0, logit = 0;
    for (std::int64_t s = 0; s < shards; ++s) {
      most = fmaxf(most, maximum[s * rows + r]);
      logit += target[s * rows + r];
    }
    for (std::int64_t s = 0; s < shards; ++s) {
      const float part = sum[s * rows + r];
      if (part > 0) total += part * expf(maximum[s * rows + r] - most);
    }
    const float joined = most + logf(total);
    lse[r] = joined;
    loss[r] = labels[r] < 0 ? 0.0F : joined - logit;
  }
}

template <typename T>
struct GradientBody {
  static constexpr int kUnroll = 2;
  const T* logits;
  const std::int32_t* labels;
  const float* lse;
  T* d_logits;
  std::int64_t first, ld;
  float scale;

  template <int W>
  struct In {
    Pack<T, W> x;
    float lse;
    std::int64_t label;  // column here; any other: none
    bool none;
  };
  template <int W>
  __device__ In<W> load(std::int64_t r, std::int64_t c) const {
    const std::int32_t label = __ldg(labels + r);
    return {cuda::load<W>(logits + r * ld + c), __ldg(lse + r), label - first,
            label < 0};
  }
  template <int W>
  __device__ void store(std::int64_t r, std::int64_t c, const In<W>& in) const {
    Pack<T, W> d;
#pragma unroll
    for (int i = 0; i < W; ++i) {
      float p = exp_below(to_float(in.x.v[i]), in.lse);
      if (c + i == in.label) p -= 1.0F;
      d.v[i] = from_float<T>(in.none ? 0.0F : p * scale);
    }
    cuda::store<W>(d_logits + r * ld + c, d);
  }
};

}  // namespace

Result<void> launch(const CrossEntropyForward& call, const Device& device) {
  if (call.rows == 0) return {};
  return by_type(call.dtype, "cross_entropy_forward", [&](auto type) {
    using T = decltype(type);
    const std::int64_t ld = call.ld == 0 ? call.columns : call.ld;
    const ForwardOperands<T> o{static_cast<const T*>(call.logits),
                               call.labels,
                               static_cast<float*>(call.maximum),
                               static_cast<float*>(call.sum),
                               static_cast<float*>(call.target),
                               call.rows,
                               call.columns,
                               call.first,
                               ld};
    const bool wide = aligned(call.logits) && ld % kWide<T> == 0 &&
                      call.columns % kWide<T> == 0;
    const std::int64_t packs = call.columns / (wide ? kWide<T> : 1);
    const unsigned threads = packs <= 64 ? 32 : packs <= 512 ? 128 : kThreads;
    const unsigned grid = clamp_grid(
        call.rows, std::int64_t{2048 / threads} * device.multiprocessors);
    return start(wide ? &forward_kernel<T, kWide<T>> : &forward_kernel<T, 1>,
                 grid, threads, 0, device, o);
  });
}

Result<void> launch(const CrossEntropyMerge& call, const Device& device) {
  if (statistics_type(call.dtype) != DType::fp32) {
    return no_kernel("cross_entropy_merge", call.dtype);
  }
  if (call.rows == 0) return {};
  return start(&merge_kernel, clamp_grid(divide_up(call.rows, 256), 65535), 256,
               0, device, call.rows, call.shards, call.labels,
               static_cast<const float*>(call.maximum),
               static_cast<const float*>(call.sum),
               static_cast<const float*>(call.target),
               static_cast<float*>(call.lse), static_cast<float*>(call.loss));
}

Result<void> launch(const CrossEntropyBackward& call, const Device& device) {
  return by_type(call.dtype, "cross_entropy_backward", [&](auto type) {
    using T = decltype(type);
    const std::int64_t ld = call.ld == 0 ? call.columns : call.ld;
    const GradientBody<T> body{static_cast<const T*>(call.logits),
                               call.labels,
                               static_cast<const float*>(call.lse),
                               static_cast<T*>(call.d_logits),
                               call.first,
                               ld,
                               static_cast<float>(call.scale)};
    const bool wide = all_aligned(call.logits, call.d_logits) &&
                      ld % kWide<T> == 0 && call.columns % kWide<T> == 0;
    return each<kWide<T>>(body, call.rows, call.columns, wide, device);
  });
}

}  // namespace troupe::kernels::cuda
