// What the attention kernels on matrix units share: tiles in shared memory,
// the two products they are made of, and where a block stands.
#pragma once

#include "kernels/cuda/attention_shape.h"
#include "kernels/cuda/device.cuh"

namespace troupe::kernels::cuda {

constexpr float kLog2e = 1.4426950408889634F;
constexpr float kLn2 = 0.6931471805599453F;

__host__ __device__ constexpr int common_divisor(int a, int b) {
  return b == 0 ? a : common_divisor(b, a % b);
}
__host__ __device__ constexpr int power_of_two_up_to(int n) {
  return n < 2 ? 1 : 2 * power_of_two_up_to(n / 2);
}

/// kRows x kDim bf16 in shared memory, rows in chunks of 16 bytes. The chunks
/// of a row change places (exclusive or by the row) such that eight rows at
/// one chunk lie in eight different groups of banks, for any multiple of 16
/// columns: a row of C chunks repeats the groups every 8 / gcd(C, 8) rows, and
/// gcd(C, 8) places are what the exchange has to offer.
template <int rows, int dim>
struct Tile {
  static constexpr int kRows = rows, kDim = dim;
  static constexpr int kChunks = dim / 8;
  static constexpr int kPlaces = common_divisor(kChunks, 8);
  static constexpr int kElements = rows * dim;
  static_assert(dim % 16 == 0 && rows % 16 == 0);

  __device__ static int turn(int row) {
    return (row / (8 / kPlaces)) & (kPlaces - 1);
  }
  __device__ static int at(int row, int chunk) {
    return row * kDim + ((chunk ^ turn(row)) << 3);
  }
};

/// A lane's view of a tile for load_matrix_x4. `at` takes a row that is a
/// multiple of 16 and an even chunk: neither changes the lane's own turn.
template <class T>
struct Reader {
  const bf16* base;
  int turn;
  __device__ Reader(const bf16* tile, int row, int chunk)
      : base(tile + row * T::kDim), turn(T::turn(row) ^ chunk) {}
  __device__ const bf16* at(int row, int chunk) const {
    // What turns is apart from what is known when compiling.
    const int turning = chunk & (T::kPlaces - 1);
    return base + (row * T::kDim + 8 * (chunk - turning)) +
           8 * (turning ^ turn);
  }
};
/// Left operand (16 rows, 16 inner), or right operand to be transposed.
template <class T>
__device__ inline Reader<T> read_rows(const bf16* tile) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  return Reader<T>(tile, lane % 16, lane / 16);
}
/// Right operand stored by its columns: two groups of 8 columns, 16 inner.
template <class T>
__device__ inline Reader<T> read_columns(const bf16* tile) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  return Reader<T>(tile, lane % 8 + lane / 16 * 8, lane / 8 % 2);
}

template <int kM, int kD>
__device__ __forceinline__ void clear(float (&c)[kM][kD][4]) {
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int e = 0; e < 4 * kD; ++e) c[m][e / 4][e % 4] = 0;
  }
}

/// c = A B' for a warp: kM x 16 rows of A, kN x 8 rows of B.
template <int kM, int kN, class A, class B>
__device__ __forceinline__ void multiply_rows(float (&c)[kM][kN][4],
                                              const Reader<A>& a,
                                              const Reader<B>& b) {
  clear(c);
#pragma unroll
  for (int step = 0; step < A::kDim / 16; ++step) {
    std::uint32_t left[kM][4];
#pragma unroll
    for (int m = 0; m < kM; ++m) {
      load_matrix_x4(left[m], a.at(16 * m, 2 * step));
    }
#pragma unroll
    for (int n = 0; n < kN; n += 2) {
      std::uint32_t right[4];
      load_matrix_x4(right, b.at(8 * n, 2 * step));
      const std::uint32_t low[2] = {right[0], right[1]};
      const std::uint32_t high[2] = {right[2], right[3]};
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        mma_16x8x16(c[m][n], left[m], low);
        mma_16x8x16(c[m][n + 1], left[m], high);
      }
    }
  }
}

/// c += P B for a warp: P is the result of an earlier product, rounded to
/// bf16, where it lies in registers; B has kN x 8 rows and kD x 8 columns.
template <int kM, int kN, int kD, class B>
__device__ __forceinline__ void add_product(float (&c)[kM][kD][4],
                                            const float (&p)[kM][kN][4],
                                            const Reader<B>& b) {
#pragma unroll
  for (int step = 0; step < kN / 2; ++step) {
    std::uint32_t left[kM][4];
#pragma unroll
    for (int m = 0; m < kM; ++m) {
      const auto& low = p[m][2 * step];
      const auto& high = p[m][2 * step + 1];
      left[m][0] = pack(low[0], low[1]);
      left[m][1] = pack(low[2], low[3]);
      left[m][2] = pack(high[0], high[1]);
      left[m][3] = pack(high[2], high[3]);
    }
#pragma unroll
    for (int n = 0; n < kD; n += 2) {
      std::uint32_t right[4];
      load_matrix_x4_transposed(right, b.at(16 * step, n));
      const std::uint32_t first[2] = {right[0], right[1]};
      const std::uint32_t second[2] = {right[2], right[3]};
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        mma_16x8x16(c[m][n], left[m], first);
        mma_16x8x16(c[m][n + 1], left[m], second);
      }
    }
  }
}

/// One sequence, as a block sees it.
struct Part {
  std::int64_t q_first, kv_first;
  int queries, keys;
  /// Query j sees key t when t < j + ahead, if causal.
  int ahead;

  __device__ Part(const AttentionShape& s, int sequence)
      : q_first(s.q_starts[sequence]),
        kv_first(s.kv_starts[sequence]),
        queries(s.q_starts[sequence + 1] - s.q_starts[sequence]),
        keys(s.kv_starts[sequence + 1] - s.kv_starts[sequence]),
        ahead(keys - queries + 1) {}

  /// How many keys query j sees, at least 0.
  __device__ int seen(const AttentionShape& s, int query) const {
    if (!s.causal) return keys;
    return max(0, min(keys, query + ahead));
  }
  /// The first key that query j sees, of a window.
  __device__ int earliest(const AttentionShape& s, int query) const {
    return s.window == 0 ? 0 : max(0, seen(s, query) - s.window);
  }
};

/// Some rows of one head in device memory.
struct Rows {
  const bf16* first;
  std::int64_t ld;
  int rows;     ///< that exist; the tile's others become zero
  int columns;  ///< likewise
  bool aligned;
};

/// Starts to fill a tile; complete after copy_async_wait and a barrier. A
/// thread keeps its chunk and takes every kStep-th row: a multiple of 8, at
/// which a chunk has the same place, so that one address serves for all.
template <class T, int threads>
__device__ __forceinline__ void load(bf16* tile, const Rows& from) {
  constexpr int kStep = power_of_two_up_to(threads / T::kChunks);
  static_assert(kStep >= 8 && T::kRows % kStep == 0);
  const int row = static_cast<int>(threadIdx.x) / T::kChunks;
  const int chunk = static_cast<int>(threadIdx.x) % T::kChunks;
  if (row >= kStep) return;
  bf16* to = tile + T::at(row, chunk);
  const bf16* piece = from.first + row * from.ld + chunk * 8;
  const int rows = chunk * 8 < from.columns ? from.rows - row : 0;
  if (from.aligned) {
#pragma unroll
    for (int i = 0; i < T::kRows; i += kStep) {
      copy_async_16(to + i * T::kDim, piece, i < rows);
      piece += kStep * from.ld;
    }
    return;
  }
#pragma unroll 1
  for (int i = 0; i < T::kRows * 8; ++i) {
    if (i / 8 % kStep != 0) continue;
    const bool valid = i / 8 < rows && chunk * 8 + i % 8 < from.columns;
    to[i / 8 * T::kDim + i % 8] =
        valid ? piece[i / 8 * from.ld + i % 8] : __float2bfloat16_rn(0.0F);
  }
}

/// Copies a tile's existing rows and columns to device memory.
template <class T, int threads>
__device__ __forceinline__ void store(bf16* first, std::int64_t ld, int rows,
                                      int columns, bool aligned,
                                      const bf16* tile) {
  constexpr int kPieces = T::kRows * T::kChunks;
  for (int i = static_cast<int>(threadIdx.x); i < kPieces; i += threads) {
    const int row = i / T::kChunks, chunk = i % T::kChunks;
    if (row >= rows || chunk * 8 >= columns) continue;
    const bf16* from = tile + T::at(row, chunk);
    bf16* to = first + row * ld + chunk * 8;
    if (aligned) {
      *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(from);
    } else {
      for (int e = 0; e < 8 && chunk * 8 + e < columns; ++e) to[e] = from[e];
    }
  }
}

/// Writes a warp's result, times `factor` by row group, into a tile.
template <class T, int kM, int kD>
__device__ __forceinline__ void put(bf16* tile, int row,
                                    const float (&c)[kM][kD][4],
                                    const float (&factor)[kM][2]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int at = row + 16 * m + 8 * half + lane / 4;
#pragma unroll
      for (int n = 0; n < kD; ++n) {
        const std::uint32_t both =
            pack(c[m][n][2 * half] * factor[m][half],
                 c[m][n][2 * half + 1] * factor[m][half]);
        bf16* to = tile + T::at(at, n) + lane % 4 * 2;
        *reinterpret_cast<std::uint32_t*>(to) = both;
      }
    }
  }
}

/// Where a block of queries stands.
template <class T>
struct QueryBlock {
  Part part;
  int query, head;
  std::int64_t kv_at;  ///< the first key of the head, in elements

  __device__ explicit QueryBlock(const AttentionShape& s)
      : part(s, static_cast<int>(blockIdx.z)),
        // The last queries see the most keys: they start first.
        query(static_cast<int>(gridDim.x - 1 - blockIdx.x) * T::kQueries),
        head(static_cast<int>(blockIdx.y)),
        kv_at(part.kv_first * s.kv_ld +
              static_cast<std::int64_t>(head / (s.heads / s.kv_heads)) *
                  s.head_dim) {}
  /// How many blocks of keys its queries see.
  __device__ int blocks(const AttentionShape& s) const {
    const int last = min(query + T::kQueries, part.queries) - 1;
    return (part.seen(s, last) + T::kKeys - 1) / T::kKeys;
  }
  /// The first block of keys that one of them sees, of a window.
  __device__ int first_block(const AttentionShape& s) const {
    return part.earliest(s, query) / T::kKeys;
  }
  /// The first block of keys of which no query's window hides any.
  __device__ int past_window(const AttentionShape& s) const {
    const int last = min(query + T::kQueries, part.queries) - 1;
    return (part.earliest(s, last) + T::kKeys - 1) / T::kKeys;
  }
  __device__ Rows queries(const AttentionShape& s, const bf16* from,
                          std::int64_t ld) const {
    return {from + (part.q_first + query) * ld +
                static_cast<std::int64_t>(head) * s.head_dim,
            ld, part.queries - query, s.head_dim, s.aligned};
  }
  __device__ Rows keys(const AttentionShape& s, const bf16* from,
                       int block) const {
    const int key = block * T::kKeys;
    return {from + kv_at + key * s.kv_ld, s.kv_ld, part.keys - key, s.head_dim,
            s.aligned};
  }
  __device__ __forceinline__ void store(const AttentionShape& s, bf16* to,
                                        std::int64_t ld,
                                        const bf16* tile) const {
    bf16* first = to + (part.q_first + query) * ld +
                  static_cast<std::int64_t>(head) * s.head_dim;
    cuda::store<typename T::Q, T::kThreads>(first, ld, part.queries - query,
                                            s.head_dim, s.aligned, tile);
  }
};

/// Hides the keys before the windows of this warp's queries.
template <int kN>
__device__ __forceinline__ void hide_before_window(float (&score)[2][kN][4],
                                                   const AttentionShape& s,
                                                   const Part& part, int query,
                                                   int key) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int m = 0; m < 2; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int begin = part.earliest(s, query + 16 * m + 8 * half + lane / 4) -
                        key - lane % 4 * 2;
#pragma unroll
      for (int n = 0; n < kN; ++n) {
        if (8 * n < begin) score[m][n][2 * half] = -INFINITY;
        if (8 * n + 1 < begin) score[m][n][2 * half + 1] = -INFINITY;
      }
    }
  }
}

/// Hides the keys that this warp's queries do not see.
template <int kN>
__device__ __forceinline__ void hide(float (&score)[2][kN][4],
                                     const AttentionShape& s, const Part& part,
                                     int query, int key) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int m = 0; m < 2; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int seen = part.seen(s, query + 16 * m + 8 * half + lane / 4) -
                       key - lane % 4 * 2;
#pragma unroll
      for (int n = 0; n < kN; ++n) {
        if (8 * n >= seen) score[m][n][2 * half] = -INFINITY;
        if (8 * n + 1 >= seen) score[m][n][2 * half + 1] = -INFINITY;
      }
    }
  }
}

}  // namespace troupe::kernels::cuda
