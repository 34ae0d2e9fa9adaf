// Attention forward on matrix units. A block holds 128 queries of one head
// and walks over its keys from the last to the first; scores live in
// registers only. Keys arrive while the values are multiplied, and values
// while the scores are, so one tile of each is enough.
// Source: Dao, FlashAttention-2, arXiv 2307.08691, algorithm 1.
#pragma once

#include "kernels/cuda/attention_tile.cuh"

namespace troupe::kernels::cuda {

/// Four warps of 32 queries each: every operand read from shared memory then
/// serves two products. A thread holds kKeys / 2 scores and dim / 2 sums,
/// which must fit its 255 registers beside addresses.
template <int dim, int keys>
struct ForwardTiles {
  static constexpr int kWarps = 4, kThreads = 32 * kWarps;
  static constexpr int kQueries = 128, kKeys = keys, kM = 2;
  using Q = Tile<kQueries, dim>;
  using Kv = Tile<keys, dim>;
  static constexpr std::size_t kShared =
      sizeof(bf16) * (Q::kElements + 2 * Kv::kElements);
};

struct ForwardOperands {
  const bf16* q;
  const bf16* k;
  const bf16* v;
  bf16* out;
  float* lse;
};

/// A warp's running softmax: by group of 16 rows, and rows g and g + 8 of it.
template <int dim>
struct Softmax {
  float out[2][dim / 8][4];
  float maximum[2][2];
  float sum[2][2];  ///< this thread's columns only
};

template <int dim>
__device__ __forceinline__ void clear(Softmax<dim>& state) {
  clear(state.out);
#pragma unroll
  for (int m = 0; m < 2; ++m) {
    state.maximum[m][0] = state.maximum[m][1] = -INFINITY;
    state.sum[m][0] = state.sum[m][1] = 0;
  }
}

__device__ inline float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffU, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffU, x, 2));
}
__device__ inline float quad_sum(float x) {
  x += __shfl_xor_sync(0xffffffffU, x, 1);
  return x + __shfl_xor_sync(0xffffffffU, x, 2);
}

/// Scores become weights; what was summed so far is brought to the new
/// maximum.
template <int dim, int kN>
__device__ __forceinline__ void fold(Softmax<dim>& state,
                                     float (&score)[2][kN][4],
                                     float scale_log2) {
#pragma unroll
  for (int m = 0; m < 2; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float top = score[m][0][2 * half];
#pragma unroll
      for (int n = 0; n < kN; ++n) {
        top = fmaxf(top, score[m][n][2 * half]);
        top = fmaxf(top, score[m][n][2 * half + 1]);
      }
      top = fmaxf(state.maximum[m][half], quad_max(top));
      // A row without any key yet: every weight is exp(-inf).
      const float base = top == -INFINITY ? 0.0F : top * scale_log2;
      const float old = fast_exp2(state.maximum[m][half] * scale_log2 - base);
      state.maximum[m][half] = top;
      float sum = state.sum[m][half] * old;
#pragma unroll
      for (int n = 0; n < kN; ++n) {
#pragma unroll
        for (int e = 2 * half; e < 2 * half + 2; ++e) {
          score[m][n][e] = fast_exp2(score[m][n][e] * scale_log2 - base);
          sum += score[m][n][e];
        }
      }
      state.sum[m][half] = sum;
#pragma unroll
      for (int n = 0; n < dim / 8; ++n) {
        state.out[m][n][2 * half] *= old;
        state.out[m][n][2 * half + 1] *= old;
      }
    }
  }
}

/// Divides by the sums, and writes lse and out (through the block's Q tile).
template <class F, int dim>
__device__ __forceinline__ void finish(const AttentionShape& s,
                                       const ForwardOperands& o, bf16* tile,
                                       const Softmax<dim>& state) {
  const QueryBlock<F> at(s);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int row = static_cast<int>(threadIdx.x) / 32 * 32;
  float inverse[2][2];
#pragma unroll
  for (int m = 0; m < 2; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float sum = quad_sum(state.sum[m][half]);
      inverse[m][half] = sum > 0 ? 1 / sum : 0.0F;
      const int query = at.query + row + 16 * m + 8 * half + lane / 4;
      if (lane % 4 == 0 && query < at.part.queries) {
        o.lse[(at.part.q_first + query) * s.heads + at.head] =
            sum > 0 ? state.maximum[m][half] * s.scale + logf(sum) : -INFINITY;
      }
    }
  }
  // Only this warp read these rows of the tile.
  put<typename F::Q>(tile, row, state.out, inverse);
  __syncthreads();
  at.store(s, o.out, s.out_ld, tile);
}

/// Grid: (query tiles, heads, sequences).
template <int dim, int keys>
__global__ void __launch_bounds__(128, 2)
    attention_forward(AttentionShape s, ForwardOperands o) {
  using F = ForwardTiles<dim, keys>;
  using Q = typename F::Q;
  using Kv = typename F::Kv;
  TROUPE_DYNAMIC_SHARED(bf16, q_tile);
  bf16* k_tile = q_tile + Q::kElements;
  bf16* v_tile = k_tile + Kv::kElements;
  const QueryBlock<F> at(s);
  if (at.query >= at.part.queries) return;
  const int blocks = at.blocks(s), first = at.first_block(s);
  const int seen_by_all = at.part.seen(s, at.query) / keys;
  const int past_window = at.past_window(s);
  Softmax<dim> state;
  clear(state);
  if (blocks > first) {
    load<Q, F::kThreads>(q_tile, at.queries(s, o.q, s.q_ld));
    load<Kv, F::kThreads>(k_tile, at.keys(s, o.k, blocks - 1));
    copy_async_commit();
  }
  const int row = static_cast<int>(threadIdx.x) / 32 * 32;
  for (int block = blocks - 1; block >= first; --block) {
    copy_async_wait<0>();
    __syncthreads();  // keys are here, and the values' tile is free
    load<Kv, F::kThreads>(v_tile, at.keys(s, o.v, block));
    copy_async_commit();
    float score[2][keys / 8][4];
    multiply_rows(score, read_rows<Q>(q_tile + row * dim),
                  read_columns<Kv>(k_tile));
    if (block >= seen_by_all) {
      hide(score, s, at.part, at.query + row, block * keys);
    }
    if (block < past_window) {
      hide_before_window(score, s, at.part, at.query + row, block * keys);
    }
    copy_async_wait<0>();
    __syncthreads();  // values are here, and the keys' tile is free
    if (block > first) {
      load<Kv, F::kThreads>(k_tile, at.keys(s, o.k, block - 1));
      copy_async_commit();
    }
    fold(state, score, s.scale_log2);
    add_product(state.out, score, read_rows<Kv>(v_tile));
  }
  finish<F>(s, o, q_tile, state);
}

}  // namespace troupe::kernels::cuda
