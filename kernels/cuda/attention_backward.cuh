// Attention backward on matrix units, in two kernels that both compute the
// scores again. The first holds a tile of keys and walks over the queries
// that see it: it sums the gradients of keys and values. The second holds a
// tile of queries and walks over their keys: it sums theirs. A warp computes
// whole rows of the transposed, or plain, scores, so nothing passes between
// warps.
// Source: Dao, FlashAttention-2, arXiv 2307.08691, algorithm 2.
#pragma once

#include "kernels/cuda/attention_tile.cuh"

namespace troupe::kernels::cuda {

struct BackwardOperands {
  const bf16* q;
  const bf16* k;
  const bf16* v;
  const bf16* d_out;
  const float* lse;
  const float* delta;  ///< (q tokens, heads): row sums of out * d_out
  bf16* dq;
  bf16* dk;
  bf16* dv;
};

/// A block's keys: `m` groups of 16 rows for each of its warps.
template <int dim, int m, int warps, int queries, int stages>
struct KeyTiles {
  static constexpr int kWarps = warps, kThreads = 32 * warps, kM = m;
  static constexpr int kKeys = 16 * m * warps, kQueries = queries;
  static constexpr int kDim = dim, kStages = stages;
  using Kv = Tile<kKeys, dim>;
  using Q = Tile<queries, dim>;
  static constexpr std::size_t kShared =
      sizeof(bf16) * (2 * Kv::kElements + 2 * stages * Q::kElements) +
      sizeof(float) * 4 * queries;
};
/// A block's queries: 32 for each of four warps.
template <int dim, int keys, int stages>
struct QueryTiles {
  static constexpr int kWarps = 4, kThreads = 32 * kWarps, kM = 2;
  static constexpr int kQueries = 16 * kM * kWarps, kKeys = keys;
  static constexpr int kDim = dim, kStages = stages;
  using Kv = Tile<keys, dim>;
  using Q = Tile<kQueries, dim>;
  static constexpr std::size_t kShared =
      sizeof(bf16) * (2 * Q::kElements + 2 * stages * Kv::kElements);
};

/// lse as an exponent of two. Where there is none (no key at all, or no such
/// row) it is +inf, which makes every weight 0.
__device__ inline float exponent(float lse) {
  return lse == -INFINITY ? INFINITY : lse * kLog2e;
}

/// Where a block of keys stands, and the queries that see them: iteration i
/// is block `first + i % per_head` of the i / per_head-th head of its group.
template <class T>
struct KeyBlock {
  Part part;
  int key, head, first, per_head, total;

  __device__ explicit KeyBlock(const AttentionShape& s)
      : part(s, static_cast<int>(blockIdx.z)),
        key(static_cast<int>(blockIdx.x) * T::kKeys),
        head(static_cast<int>(blockIdx.y)) {
    // The first query that sees the first key is key - ahead + 1.
    first = s.causal ? max(0, key - part.ahead + 1) / T::kQueries : 0;
    // Query j sees keys from j + ahead - window on: the last that sees the
    // last key is that key - ahead + window.
    const int end = s.window == 0 ? part.queries
                                  : min(part.queries,
                                        key + T::kKeys - part.ahead + s.window);
    per_head = max(0, (end + T::kQueries - 1) / T::kQueries - first);
    total = per_head * (s.heads / s.kv_heads);
  }
  __device__ int query(int i) const {
    return (first + i % per_head) * T::kQueries;
  }
  __device__ int query_head(const AttentionShape& s, int i) const {
    return head * (s.heads / s.kv_heads) + i / per_head;
  }
  __device__ Rows keys(const AttentionShape& s, const bf16* from) const {
    return {from + (part.kv_first + key) * s.kv_ld +
                static_cast<std::int64_t>(head) * s.head_dim,
            s.kv_ld, part.keys - key, s.head_dim, s.aligned};
  }
  __device__ Rows queries(const AttentionShape& s, const bf16* from,
                          std::int64_t ld, int i) const {
    return {from + (part.q_first + query(i)) * ld +
                static_cast<std::int64_t>(query_head(s, i)) * s.head_dim,
            ld, part.queries - query(i), s.head_dim, s.aligned};
  }
};

/// lse and delta of one query, on their way from device to shared memory.
struct Statistics {
  float lse, delta;
};
template <class T>
__device__ __forceinline__ Statistics statistics(const AttentionShape& s,
                                                 const BackwardOperands& o,
                                                 const KeyBlock<T>& block,
                                                 int i) {
  const int query = block.query(i) + static_cast<int>(threadIdx.x);
  if (threadIdx.x >= T::kQueries || query >= block.part.queries) {
    return {INFINITY, 0.0F};
  }
  const std::int64_t at =
      (block.part.q_first + query) * s.heads + block.query_head(s, i);
  return {exponent(o.lse[at]), o.delta[at]};
}

/// Transposed scores become weights exp(score - lse) of each query (column).
template <int kM, int kN>
__device__ __forceinline__ void weights_of_columns(float (&score)[kM][kN][4],
                                                   const float* lse,
                                                   float scale_log2) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int n = 0; n < kN; ++n) {
    const float2 of =
        *reinterpret_cast<const float2*>(lse + 8 * n + lane % 4 * 2);
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        score[m][n][e] =
            fast_exp2(score[m][n][e] * scale_log2 - (e % 2 == 0 ? of.x : of.y));
      }
    }
  }
}

/// Takes out the weights of keys that come after their query. `late` is how
/// far the warp's first key lies after the last that query 0 of the tile sees.
template <int kM, int kN>
__device__ __forceinline__ void drop_later_keys(float (&weight)[kM][kN][4],
                                                int late) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int key = late + 16 * m + e / 2 * 8 + lane / 4;
      const int column = lane % 4 * 2 + e % 2;
#pragma unroll
      for (int n = 0; n < kN; ++n) {
        if (key > column + 8 * n) weight[m][n][e] = 0;
      }
    }
  }
}

/// Takes out the weights of keys before their query's window. `early` is how
/// far the warp's first key lies after the first that query 0 of the tile sees.
template <int kM, int kN>
__device__ __forceinline__ void drop_earlier_keys(float (&weight)[kM][kN][4],
                                                  int early) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int key = early + 16 * m + e / 2 * 8 + lane / 4;
      const int column = lane % 4 * 2 + e % 2;
#pragma unroll
      for (int n = 0; n < kN; ++n) {
        if (key < column + 8 * n) weight[m][n][e] = 0;
      }
    }
  }
}

/// d_score = weight * (d_weight - delta) of each query (column).
template <int kM, int kN>
__device__ __forceinline__ void through_softmax(
    float (&d_weight)[kM][kN][4], const float (&weight)[kM][kN][4],
    const float* delta) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int n = 0; n < kN; ++n) {
    const float2 of =
        *reinterpret_cast<const float2*>(delta + 8 * n + lane % 4 * 2);
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        d_weight[m][n][e] =
            weight[m][n][e] * (d_weight[m][n][e] - (e % 2 == 0 ? of.x : of.y));
      }
    }
  }
}

/// Shared memory of the first kernel.
template <class T>
struct KeyMemory {
  bf16* k;
  bf16* v;
  bf16* q;
  bf16* d_out;
  float* lse;
  float* delta;
  __device__ explicit KeyMemory(bf16* all)
      : k(all),
        v(k + T::Kv::kElements),
        q(v + T::Kv::kElements),
        d_out(q + T::kStages * T::Q::kElements),
        lse(reinterpret_cast<float*>(d_out + T::kStages * T::Q::kElements)),
        delta(lse + 2 * T::kQueries) {}
  __device__ bf16* q_stage(int i) const {
    return q + i % T::kStages * T::Q::kElements;
  }
  __device__ bf16* d_out_stage(int i) const {
    return d_out + i % T::kStages * T::Q::kElements;
  }
};

template <class T>
__device__ __forceinline__ void load_queries(const AttentionShape& s,
                                             const BackwardOperands& o,
                                             const KeyBlock<T>& block,
                                             const KeyMemory<T>& memory,
                                             int i) {
  load<typename T::Q, T::kThreads>(memory.q_stage(i),
                                   block.queries(s, o.q, s.q_ld, i));
  load<typename T::Q, T::kThreads>(memory.d_out_stage(i),
                                   block.queries(s, o.d_out, s.out_ld, i));
  copy_async_commit();
}

/// One tile of queries against the block's keys.
template <class T>
__device__ __forceinline__ void add_queries(
    const AttentionShape& s, const KeyBlock<T>& block,
    const KeyMemory<T>& memory, int i, float (&dk)[T::kM][T::kDim / 8][4],
    float (&dv)[T::kM][T::kDim / 8][4]) {
  using Kv = typename T::Kv;
  using Q = typename T::Q;
  const int row = static_cast<int>(threadIdx.x) / 32 * 16 * T::kM;
  const bf16* q = memory.q_stage(i);
  const bf16* d_out = memory.d_out_stage(i);
  float weight[T::kM][T::kQueries / 8][4];
  multiply_rows(weight, read_rows<Kv>(memory.k + row * T::kDim),
                read_columns<Q>(q));
  weights_of_columns(weight, memory.lse + i % 2 * T::kQueries, s.scale_log2);
  const int late = block.key - (block.query(i) + block.part.ahead - 1);
  if (s.causal && late + T::kKeys > 1) drop_later_keys(weight, late + row);
  // The last query of the tile begins kQueries - 1 keys after the first.
  const int early = late + s.window - 1;
  if (s.window > 0 && early < T::kQueries - 1) {
    drop_earlier_keys(weight, early + row);
  }
  add_product(dv, weight, read_rows<Q>(d_out));
  float d_score[T::kM][T::kQueries / 8][4];
  multiply_rows(d_score, read_rows<Kv>(memory.v + row * T::kDim),
                read_columns<Q>(d_out));
  through_softmax(d_score, weight, memory.delta + i % 2 * T::kQueries);
  add_product(dk, d_score, read_rows<Q>(q));
}

template <class T>
__device__ __forceinline__ void store_keys(
    const AttentionShape& s, const BackwardOperands& o,
    const KeyMemory<T>& memory, const float (&dk)[T::kM][T::kDim / 8][4],
    const float (&dv)[T::kM][T::kDim / 8][4]) {
  using Kv = typename T::Kv;
  const KeyBlock<T> block(s);
  const int row = static_cast<int>(threadIdx.x) / 32 * 16 * T::kM;
  float one[T::kM][2], scale[T::kM][2];
#pragma unroll
  for (int m = 0; m < T::kM; ++m) {
    one[m][0] = one[m][1] = 1;
    scale[m][0] = scale[m][1] = s.scale;
  }
  copy_async_wait<0>();
  __syncthreads();  // no warp reads the tiles of keys and values any more
  put<Kv>(memory.k, row, dk, scale);
  put<Kv>(memory.v, row, dv, one);
  __syncthreads();
  const std::int64_t at = (block.part.kv_first + block.key) * s.kv_ld +
                          static_cast<std::int64_t>(block.head) * s.head_dim;
  const int rows = block.part.keys - block.key;
  store<Kv, T::kThreads>(o.dk + at, s.kv_ld, rows, s.head_dim, s.aligned,
                         memory.k);
  store<Kv, T::kThreads>(o.dv + at, s.kv_ld, rows, s.head_dim, s.aligned,
                         memory.v);
}

/// Gradients of keys and values. Grid: (key tiles, kv heads, sequences).
template <class T>
__global__ void __launch_bounds__(T::kThreads)
    attention_key_gradient(AttentionShape s, BackwardOperands o) {
  TROUPE_DYNAMIC_SHARED(bf16, all);
  const KeyMemory<T> memory(all);
  const KeyBlock<T> block(s);
  if (block.key >= block.part.keys) return;
  float dk[T::kM][T::kDim / 8][4], dv[T::kM][T::kDim / 8][4];
  clear(dk);
  clear(dv);
  Statistics next{};
  if (block.total > 0) {
    load<typename T::Kv, T::kThreads>(memory.k, block.keys(s, o.k));
    load<typename T::Kv, T::kThreads>(memory.v, block.keys(s, o.v));
    load_queries(s, o, block, memory, 0);
    next = statistics(s, o, block, 0);
  }
  for (int i = 0; i < block.total; ++i) {
    if (threadIdx.x < T::kQueries) {
      const int at = i % 2 * T::kQueries + static_cast<int>(threadIdx.x);
      memory.lse[at] = next.lse;
      memory.delta[at] = next.delta;
    }
    copy_async_wait<0>();
    __syncthreads();  // this tile is here, and the one before is free
    const bool more = i + 1 < block.total;
    if (more) next = statistics(s, o, block, i + 1);
    if (T::kStages == 2 && more) load_queries(s, o, block, memory, i + 1);
    add_queries(s, block, memory, i, dk, dv);
    if (T::kStages == 1) {
      __syncthreads();
      if (more) load_queries(s, o, block, memory, i + 1);
    }
  }
  store_keys<T>(s, o, memory, dk, dv);
}

}  // namespace troupe::kernels::cuda
