// Attention without matrix units: for fp32, and for heads wider than the
// tiles of the others. A warp holds one query (or key) and walks over tiles
// of 32 keys (or queries), one for each lane. Statistics and sums are fp32.
// Also what every type shares: row sums of out * d_out, and the merge of ring
// rounds.
#pragma once

#include "kernels/cuda/attention_shape.h"
#include "kernels/cuda/attention_tile.cuh"

namespace troupe::kernels::cuda {

constexpr int kPlainWarps = 8;
constexpr int kPlainThreads = 32 * kPlainWarps;
constexpr int kLaneColumns = kWidestHead / 32;  ///< that a lane sums

/// Tiles in shared memory: two of 32 rows and two of a row for each warp; a
/// row is one longer than the head, so that lanes read different banks.
inline std::size_t plain_shared(int head_dim) {
  return sizeof(float) * static_cast<std::size_t>(2 * (32 + kPlainWarps)) *
         static_cast<std::size_t>(head_dim + 1);
}

__device__ inline float warp_sum(float x) {
  for (int bits = 16; bits > 0; bits /= 2) {
    x += __shfl_xor_sync(0xffffffffU, x, bits);
  }
  return x;
}
__device__ inline float warp_max(float x) {
  for (int bits = 16; bits > 0; bits /= 2) {
    x = fmaxf(x, __shfl_xor_sync(0xffffffffU, x, bits));
  }
  return x;
}

/// One head of `rows` tokens from `first` on into a tile; rows that do not
/// exist become zero.
template <typename T>
__device__ inline void load_plain(float* tile, const T* first, std::int64_t ld,
                                  int tile_rows, int rows, int dim) {
  for (int i = static_cast<int>(threadIdx.x); i < tile_rows * dim;
       i += kPlainThreads) {
    const int row = i / dim, column = i % dim;
    tile[row * (dim + 1) + column] =
        row < rows ? to_float(first[row * ld + column]) : 0.0F;
  }
}
__device__ inline float dot(const float* a, const float* b, int dim) {
  float sum = 0;
  for (int i = 0; i < dim; ++i) sum += a[i] * b[i];
  return sum;
}
/// sum += each lane's weight times its row of the tile.
__device__ inline void add_rows(float (&sum)[kLaneColumns], float weight,
                                const float* tile, int dim) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int from = 0; from < 32; ++from) {
    const float w = __shfl_sync(0xffffffffU, weight, from);
#pragma unroll
    for (int i = 0; i < kLaneColumns; ++i) {
      const int column = lane + 32 * i;
      if (column < dim) sum[i] += w * tile[from * (dim + 1) + column];
    }
  }
}
template <typename T>
__device__ inline void store_plain(T* row, const float (&sum)[kLaneColumns],
                                   float factor, int dim) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int i = 0; i < kLaneColumns; ++i) {
    const int column = lane + 32 * i;
    if (column < dim) row[column] = from_float<T>(sum[i] * factor);
  }
}

/// Shared memory of a block: its own rows and the tiles it walks over.
struct PlainMemory {
  float *own_a, *own_b, *tile_a, *tile_b;
  int warp, lane;
  __device__ PlainMemory(float* all, int dim)
      : own_a(all),
        own_b(own_a + kPlainWarps * (dim + 1)),
        tile_a(own_b + kPlainWarps * (dim + 1)),
        tile_b(tile_a + 32 * (dim + 1)),
        warp(static_cast<int>(threadIdx.x) / 32),
        lane(static_cast<int>(threadIdx.x) % 32) {}
  __device__ const float* own(const float* rows, int dim) const {
    return rows + warp * (dim + 1);
  }
  __device__ const float* row(const float* tile, int dim) const {
    return tile + lane * (dim + 1);
  }
};

/// Grid: (queries / 8, heads, sequences).
template <typename T>
__global__ void attention_plain_forward(AttentionShape s, const T* q,
                                        const T* k, const T* v, T* out,
                                        float* lse) {
  TROUPE_DYNAMIC_SHARED(float, all);
  const int dim = s.head_dim;
  const PlainMemory m(all, dim);
  const Part part(s, static_cast<int>(blockIdx.z));
  const int first = static_cast<int>(blockIdx.x) * kPlainWarps;
  if (first >= part.queries) return;
  const std::int64_t head = blockIdx.y;
  const std::int64_t kv_at =
      part.kv_first * s.kv_ld + head / (s.heads / s.kv_heads) * dim;
  load_plain(m.own_a, q + (part.q_first + first) * s.q_ld + head * dim, s.q_ld,
             kPlainWarps, part.queries - first, dim);
  const int last = min(first + kPlainWarps, part.queries) - 1;
  const int query = first + m.warp;
  const int seen = query <= last ? part.seen(s, query) : 0;
  const int keys = part.seen(s, last);
  const int begin = part.earliest(s, query);
  float top = -INFINITY, total = 0, sum[kLaneColumns] = {};
  for (int key = part.earliest(s, first) / 32 * 32; key < keys; key += 32) {
    __syncthreads();
    load_plain(m.tile_a, k + kv_at + key * s.kv_ld, s.kv_ld, 32,
               part.keys - key, dim);
    load_plain(m.tile_b, v + kv_at + key * s.kv_ld, s.kv_ld, 32,
               part.keys - key, dim);
    __syncthreads();
    float score = s.scale * dot(m.own(m.own_a, dim), m.row(m.tile_a, dim), dim);
    if (key + m.lane >= seen || key + m.lane < begin) score = -INFINITY;
    const float next = fmaxf(top, warp_max(score));
    const float base = next == -INFINITY ? 0.0F : next;
    const float old = expf(top - base), weight = expf(score - base);
    top = next;
    total = total * old + warp_sum(weight);
    for (float& x : sum) x *= old;
    add_rows(sum, weight, m.tile_b, dim);
  }
  if (query > last) return;
  const std::int64_t token = part.q_first + query;
  store_plain(out + token * s.out_ld + head * dim, sum,
              total > 0 ? 1 / total : 0.0F, dim);
  if (m.lane == 0) {
    lse[token * s.heads + head] = total > 0 ? top + logf(total) : -INFINITY;
  }
}

template <typename T>
struct PlainBackward {
  const T* q;
  const T* k;
  const T* v;
  const T* d_out;
  const float* lse;
  const float* delta;
  T* dq;
  T* dk;
  T* dv;
};

/// Weight and gradient of one score. Its query's lse is -inf if it sees no
/// key, here or anywhere.
struct Score {
  float weight, gradient;
};
__device__ inline Score score_of(float score, float d_weight, float lse,
                                 float delta, bool seen) {
  if (!seen || lse == -INFINITY) return {0, 0};
  const float weight = expf(score - lse);
  return {weight, weight * (d_weight - delta)};
}

/// Grid: (queries / 8, heads, sequences).
template <typename T>
__global__ void attention_plain_query_gradient(AttentionShape s,
                                               PlainBackward<T> o) {
  TROUPE_DYNAMIC_SHARED(float, all);
  const int dim = s.head_dim;
  const PlainMemory m(all, dim);
  const Part part(s, static_cast<int>(blockIdx.z));
  const int first = static_cast<int>(blockIdx.x) * kPlainWarps;
  if (first >= part.queries) return;
  const std::int64_t head = blockIdx.y;
  const std::int64_t kv_at =
      part.kv_first * s.kv_ld + head / (s.heads / s.kv_heads) * dim;
  const std::int64_t token = part.q_first + first;
  load_plain(m.own_a, o.q + token * s.q_ld + head * dim, s.q_ld, kPlainWarps,
             part.queries - first, dim);
  load_plain(m.own_b, o.d_out + token * s.out_ld + head * dim, s.out_ld,
             kPlainWarps, part.queries - first, dim);
  const int last = min(first + kPlainWarps, part.queries) - 1;
  const int query = min(first + m.warp, last);
  const int seen = part.seen(s, query), begin = part.earliest(s, query);
  const std::int64_t at = (part.q_first + query) * s.heads + head;
  const float lse = o.lse[at], delta = o.delta[at];
  float sum[kLaneColumns] = {};
  for (int key = part.earliest(s, first) / 32 * 32; key < part.seen(s, last);
       key += 32) {
    __syncthreads();
    load_plain(m.tile_a, o.k + kv_at + key * s.kv_ld, s.kv_ld, 32,
               part.keys - key, dim);
    load_plain(m.tile_b, o.v + kv_at + key * s.kv_ld, s.kv_ld, 32,
               part.keys - key, dim);
    __syncthreads();
    const Score score =
        score_of(s.scale * dot(m.own(m.own_a, dim), m.row(m.tile_a, dim), dim),
                 dot(m.own(m.own_b, dim), m.row(m.tile_b, dim), dim), lse,
                 delta, key + m.lane < seen && key + m.lane >= begin);
    add_rows(sum, score.gradient, m.tile_a, dim);
  }
  if (first + m.warp > last) return;
  store_plain(o.dq + (part.q_first + query) * s.q_ld + head * dim, sum, s.scale,
              dim);
}

/// One tile of queries, from `query` on, against the warp's key.
template <typename T>
__device__ inline void add_plain_queries(const AttentionShape& s,
                                         const PlainBackward<T>& o,
                                         const PlainMemory& m, const Part& part,
                                         int key, int query, std::int64_t head,
                                         float (&dk)[kLaneColumns],
                                         float (&dv)[kLaneColumns]) {
  const int dim = s.head_dim;
  const std::int64_t token = part.q_first + query;
  __syncthreads();
  load_plain(m.tile_a, o.q + token * s.q_ld + head * dim, s.q_ld, 32,
             part.queries - query, dim);
  load_plain(m.tile_b, o.d_out + token * s.out_ld + head * dim, s.out_ld, 32,
             part.queries - query, dim);
  __syncthreads();
  const bool exists = query + m.lane < part.queries;
  const std::int64_t at = (token + (exists ? m.lane : 0)) * s.heads + head;
  const Score score =
      score_of(s.scale * dot(m.own(m.own_a, dim), m.row(m.tile_a, dim), dim),
               dot(m.own(m.own_b, dim), m.row(m.tile_b, dim), dim), o.lse[at],
               o.delta[at],
               exists && key < part.seen(s, query + m.lane) &&
                   key >= part.earliest(s, query + m.lane));
  add_rows(dv, score.weight, m.tile_b, dim);
  add_rows(dk, score.gradient, m.tile_a, dim);
}

/// Grid: (keys / 8, kv heads, sequences).
template <typename T>
__global__ void attention_plain_key_gradient(AttentionShape s,
                                             PlainBackward<T> o) {
  TROUPE_DYNAMIC_SHARED(float, all);
  const int dim = s.head_dim;
  const PlainMemory m(all, dim);
  const Part part(s, static_cast<int>(blockIdx.z));
  const int first = static_cast<int>(blockIdx.x) * kPlainWarps;
  if (first >= part.keys) return;
  const std::int64_t kv_head = blockIdx.y;
  const std::int64_t at = (part.kv_first + first) * s.kv_ld + kv_head * dim;
  load_plain(m.own_a, o.k + at, s.kv_ld, kPlainWarps, part.keys - first, dim);
  load_plain(m.own_b, o.v + at, s.kv_ld, kPlainWarps, part.keys - first, dim);
  const int key = first + m.warp;
  const int group = s.heads / s.kv_heads;
  // The first query that sees the first key is first - ahead + 1.
  const int begin = s.causal ? max(0, first - part.ahead + 1) / 32 * 32 : 0;
  // Query j sees keys from j + ahead - window on: the last one that sees the
  // block's last key is that key - ahead + window.
  const int end =
      s.window == 0
          ? part.queries
          : min(part.queries, first + kPlainWarps - part.ahead + s.window);
  float dk[kLaneColumns] = {}, dv[kLaneColumns] = {};
  for (std::int64_t head = kv_head * group; head < (kv_head + 1) * group;
       ++head) {
    for (int query = begin; query < end; query += 32) {
      add_plain_queries(s, o, m, part, key, query, head, dk, dv);
    }
  }
  if (key >= part.keys) return;
  store_plain(o.dk + at + m.warp * s.kv_ld, dk, s.scale, dim);
  store_plain(o.dv + at + m.warp * s.kv_ld, dv, 1.0F, dim);
}

/// delta = row sums of out * d_out; a warp for each (token, head).
template <typename T>
__global__ void attention_delta(AttentionShape s, const T* out, const T* d_out,
                                float* delta) {
  const std::int64_t row =
      static_cast<std::int64_t>(blockIdx.x) * kPlainWarps + threadIdx.x / 32;
  if (row >= s.q_tokens * s.heads) return;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t at = row / s.heads * s.out_ld + row % s.heads * s.head_dim;
  float sum = 0;
  for (int i = lane; i < s.head_dim; i += 32) {
    sum += to_float(out[at + i]) * to_float(d_out[at + i]);
  }
  sum = warp_sum(sum);
  if (lane == 0) delta[row] = sum;
}

/// (sum, lse) becomes the attention over both key sets; a warp for each
/// (token, head).
template <typename T>
__global__ void attention_merge(std::int64_t rows, int dim, bool first,
                                const T* out, const float* out_lse, float* sum,
                                float* lse) {
  const std::int64_t row =
      static_cast<std::int64_t>(blockIdx.x) * kPlainWarps + threadIdx.x / 32;
  if (row >= rows) return;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const float old_lse = first ? -INFINITY : lse[row], new_lse = out_lse[row];
  const float top = fmaxf(old_lse, new_lse);
  const float base = top == -INFINITY ? 0.0F : top;
  const float old = expf(old_lse - base), fresh = expf(new_lse - base);
  const float total = old + fresh;
  const float inverse = total > 0 ? 1 / total : 0.0F;
  __syncwarp();  // every lane has read lse
  for (int i = lane; i < dim; i += 32) {
    const std::int64_t at = row * dim + i;
    const float before = first ? 0.0F : sum[at];
    sum[at] = (before * old + to_float(out[at]) * fresh) * inverse;
  }
  if (lane == 0) lse[row] = total > 0 ? top + logf(total) : -INFINITY;
}

}  // namespace troupe::kernels::cuda
