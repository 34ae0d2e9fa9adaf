// The second kernel of attention backward: gradients of the queries, which a
// block holds while it walks over their keys.
#pragma once

#include "kernels/cuda/attention_backward.cuh"

namespace troupe::kernels::cuda {

template <class T>
__device__ __forceinline__ void load_keys(const AttentionShape& s,
                                          const BackwardOperands& o,
                                          const QueryBlock<T>& at, bf16* stages,
                                          int i) {
  using Kv = typename T::Kv;
  bf16* k = stages + i % T::kStages * 2 * Kv::kElements;
  load<Kv, T::kThreads>(k, at.keys(s, o.k, i));
  load<Kv, T::kThreads>(k + Kv::kElements, at.keys(s, o.v, i));
  copy_async_commit();
}

/// lse and delta of the rows that this thread computes.
template <class T>
__device__ __forceinline__ void row_statistics(const AttentionShape& s,
                                               const BackwardOperands& o,
                                               const QueryBlock<T>& at, int row,
                                               float (&lse)[T::kM][2],
                                               float (&delta)[T::kM][2]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int m = 0; m < T::kM; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int query = at.query + row + 16 * m + 8 * half + lane / 4;
      const bool exists = query < at.part.queries;
      const std::int64_t i =
          (at.part.q_first + (exists ? query : 0)) * s.heads + at.head;
      lse[m][half] = exists ? exponent(o.lse[i]) : INFINITY;
      delta[m][half] = exists ? o.delta[i] : 0.0F;
    }
  }
}

/// d_score = weight * (d_weight - delta), weight = exp(score - lse), of each
/// query (row). A hidden score is -inf and its weight 0.
template <int kM, int kN>
__device__ __forceinline__ void rows_through_softmax(
    float (&d_weight)[kM][kN][4], const float (&score)[kM][kN][4],
    const float (&lse)[kM][2], const float (&delta)[kM][2], float scale_log2) {
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int e = 0; e < 4 * kN; ++e) {
      const int half = e % 4 / 2;
      const float weight =
          fast_exp2(score[m][e / 4][e % 4] * scale_log2 - lse[m][half]);
      float& d = d_weight[m][e / 4][e % 4];
      d = weight * (d - delta[m][half]);
    }
  }
}

template <class T>
__device__ __forceinline__ void store_queries(
    const AttentionShape& s, const BackwardOperands& o, bf16* tile, int row,
    const float (&dq)[T::kM][T::kDim / 8][4]) {
  const QueryBlock<T> at(s);
  float scale[T::kM][2];
#pragma unroll
  for (int m = 0; m < T::kM; ++m) scale[m][0] = scale[m][1] = s.scale;
  // Only this warp read these rows of the tile.
  put<typename T::Q>(tile, row, dq, scale);
  __syncthreads();
  at.store(s, o.dq, s.q_ld, tile);
}

/// Grid: (query tiles, heads, sequences).
template <class T>
__global__ void __launch_bounds__(T::kThreads, 2)
    attention_query_gradient(AttentionShape s, BackwardOperands o) {
  using Q = typename T::Q;
  using Kv = typename T::Kv;
  TROUPE_DYNAMIC_SHARED(bf16, q_tile);
  bf16* d_out_tile = q_tile + Q::kElements;
  bf16* stages = d_out_tile + Q::kElements;
  const QueryBlock<T> at(s);
  if (at.query >= at.part.queries) return;
  const int blocks = at.blocks(s), first = at.first_block(s);
  const int seen_by_all = at.part.seen(s, at.query) / T::kKeys;
  const int past_window = at.past_window(s);
  const int row = static_cast<int>(threadIdx.x) / 32 * 16 * T::kM;
  float lse[T::kM][2], delta[T::kM][2];
  row_statistics(s, o, at, row, lse, delta);
  float dq[T::kM][T::kDim / 8][4];
  clear(dq);
  if (blocks > first) {
    load<Q, T::kThreads>(q_tile, at.queries(s, o.q, s.q_ld));
    load<Q, T::kThreads>(d_out_tile, at.queries(s, o.d_out, s.out_ld));
    load_keys(s, o, at, stages, first);
  }
  for (int i = first; i < blocks; ++i) {
    copy_async_wait<0>();
    __syncthreads();  // this tile is here, and the one before is free
    if (T::kStages == 2 && i + 1 < blocks) load_keys(s, o, at, stages, i + 1);
    const bf16* k = stages + i % T::kStages * 2 * Kv::kElements;
    float score[T::kM][T::kKeys / 8][4], d_score[T::kM][T::kKeys / 8][4];
    multiply_rows(score, read_rows<Q>(q_tile + row * T::kDim),
                  read_columns<Kv>(k));
    if (i >= seen_by_all) hide(score, s, at.part, at.query + row, i * T::kKeys);
    if (i < past_window) {
      hide_before_window(score, s, at.part, at.query + row, i * T::kKeys);
    }
    multiply_rows(d_score, read_rows<Q>(d_out_tile + row * T::kDim),
                  read_columns<Kv>(k + Kv::kElements));
    rows_through_softmax(d_score, score, lse, delta, s.scale_log2);
    add_product(dq, d_score, read_rows<Kv>(k));
    if (T::kStages == 1) {
      __syncthreads();
      if (i + 1 < blocks) load_keys(s, o, at, stages, i + 1);
    }
  }
  store_queries<T>(s, o, q_tile, row, dq);
}

}  // namespace troupe::kernels::cuda
