#include "kernels/cuda/attention_operands.h"
#include "kernels/cuda/attention_shape.h"
#include "kernels/cuda/vector.cuh"

namespace troupe::kernels::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr std::int64_t kMostBlocks = 4096;

__device__ inline std::int64_t this_thread() {
  return static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ inline std::int64_t all_threads() {
  return static_cast<std::int64_t>(gridDim.x) * blockDim.x;
}

unsigned grid_for(std::int64_t threads) {
  return clamp_grid(divide_up(threads, kThreads), kMostBlocks);
}

__global__ void lengths_kernel(AttentionShape s, AttentionLengths to) {
  for (std::int64_t i = this_thread(); i <= to.count; i += all_threads()) {
    const int at = static_cast<int>(i < s.sequences ? i : s.sequences);
    const std::int64_t q = s.q_starts[at], kv = s.kv_starts[at];
    to.q_offsets[i] = q * s.q_ld;
    to.kv_offsets[i] = kv * s.kv_ld;
    to.out_offsets[i] = q * s.out_ld;
    to.lse_offsets[i] = q * s.heads;
    if (i == to.count) continue;
    const bool exists = i < s.sequences;
    to.q[i] = exists ? s.q_starts[at + 1] - s.q_starts[at] : 0;
    to.kv[i] = exists ? s.kv_starts[at + 1] - s.kv_starts[at] : 0;
  }
}

// (count, rows, columns) to (count, columns, rows).
__global__ void turn_kernel(const float* in, float* out, std::int64_t count,
                            std::int64_t rows, std::int64_t columns) {
  const std::int64_t area = rows * columns;
  for (std::int64_t i = this_thread(); i < count * area; i += all_threads()) {
    const std::int64_t row = i % area / columns, column = i % columns;
    out[i / area * area + column * rows + row] = in[i];
  }
}

Result<void> turn(const float* in, float* out, std::int64_t count,
                  std::int64_t rows, std::int64_t columns,
                  const Device& device) {
  if (count * rows * columns == 0) return {};
  return start(&turn_kernel, grid_for(count * rows * columns), kThreads, 0,
               device, in, out, count, rows, columns);
}

__global__ void finite_kernel(const float* in, float* out, std::int64_t n) {
  for (std::int64_t i = this_thread(); i < n; i += all_threads()) {
    out[i] = in[i] == -INFINITY ? 0.0F : in[i];
  }
}

__device__ inline void clear_row(bf16* row, int columns) {
  for (int i = static_cast<int>(threadIdx.x); i < columns;
       i += static_cast<int>(blockDim.x)) {
    row[i] = __float2bfloat16_rn(0.0F);
  }
}

/// How many of its first queries see no key.
__device__ inline int blind(const AttentionShape& s, int queries, int keys) {
  if (keys == 0) return queries;
  return s.causal ? max(0, min(queries, queries - keys)) : 0;
}

/// Grid: (some, sequences).
__global__ void mend_forward_kernel(AttentionShape s, bf16* out, float* lse) {
  const int sequence = static_cast<int>(blockIdx.y);
  const std::int64_t first = s.q_starts[sequence];
  const int count = blind(s, s.q_starts[sequence + 1] - s.q_starts[sequence],
                          s.kv_starts[sequence + 1] - s.kv_starts[sequence]);
  for (int j = static_cast<int>(blockIdx.x); j < count;
       j += static_cast<int>(gridDim.x)) {
    clear_row(out + (first + j) * s.out_ld, s.heads * s.head_dim);
    for (int h = static_cast<int>(threadIdx.x); h < s.heads;
         h += static_cast<int>(blockDim.x)) {
      lse[(first + j) * s.heads + h] = -INFINITY;
    }
  }
}

/// Grid: (some, sequences).
__global__ void mend_backward_kernel(AttentionShape s, bf16* dq, bf16* dk,
                                     bf16* dv) {
  const int sequence = static_cast<int>(blockIdx.y);
  const std::int64_t q = s.q_starts[sequence], kv = s.kv_starts[sequence];
  const int queries = s.q_starts[sequence + 1] - s.q_starts[sequence];
  const int keys = s.kv_starts[sequence + 1] - s.kv_starts[sequence];
  const int count = blind(s, queries, keys);
  for (int j = static_cast<int>(blockIdx.x); j < count;
       j += static_cast<int>(gridDim.x)) {
    clear_row(dq + (q + j) * s.q_ld, s.heads * s.head_dim);
  }
  if (queries > 0) return;
  for (int t = static_cast<int>(blockIdx.x); t < keys;
       t += static_cast<int>(gridDim.x)) {
    clear_row(dk + (kv + t) * s.kv_ld, s.kv_heads * s.head_dim);
    clear_row(dv + (kv + t) * s.kv_ld, s.kv_heads * s.head_dim);
  }
}

dim3 mend_grid(const AttentionShape& shape) {
  return dim3(clamp_grid(shape.max_q, 64),
              static_cast<unsigned>(shape.sequences), 1);
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    difference_kernel(const T* a, const T* b, const std::int32_t* starts,
                      std::int64_t rows, std::int64_t longest,
                      std::int64_t columns, std::int64_t ld, double* sums) {
  TROUPE_SHARED(double, scratch, 32);
  double apart = 0, size = 0;
  for (std::int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const std::int64_t sequence = row / longest, j = row % longest;
    if (j >= starts[sequence + 1] - starts[sequence]) continue;
    const std::int64_t at = (starts[sequence] + j) * ld;
    for (std::int64_t i = threadIdx.x; i < columns; i += blockDim.x) {
      const auto x = static_cast<double>(to_float(a[at + i]));
      const auto y = static_cast<double>(to_float(b[at + i]));
      if (x == y && fabs(x) == INFINITY) continue;
      apart += (x - y) * (x - y);
      size += y * y;
    }
  }
  apart = row_sum(apart, scratch);
  size = row_sum(size, scratch);
  if (threadIdx.x != 0) return;
  sums[2 * blockIdx.x] = apart;
  sums[2 * blockIdx.x + 1] = size;
}

template <typename T>
Result<void> difference(const RowsToCompare& r, double* sums,
                        const Device& device) {
  return start(&difference_kernel<T>, kDifferenceBlocks, kThreads, 0, device,
               static_cast<const T*>(r.a), static_cast<const T*>(r.b), r.starts,
               r.sequences * r.longest, r.longest, r.columns, r.ld, sums);
}

}  // namespace

Result<void> launch_lengths(const AttentionSizes& sizes,
                            const AttentionLengths& lengths,
                            const Device& device) {
  TRY(const AttentionShape shape, attention_shape(sizes));
  return start(&lengths_kernel, grid_for(lengths.count + 1), kThreads, 0,
               device, shape, lengths);
}

Result<void> launch_heads_first(const AttentionSizes& s, const float* lse,
                                float* heads_first, const Device& device) {
  return turn(lse, heads_first, s.sequences, s.max_q, s.heads, device);
}

Result<void> launch_queries_first(const AttentionSizes& s,
                                  const float* heads_first, float* lse,
                                  const Device& device) {
  return turn(heads_first, lse, s.sequences, s.heads, s.max_q, device);
}

Result<void> launch_finite(const AttentionSizes& s, const float* lse,
                           float* finite, const Device& device) {
  const std::int64_t n = s.q_tokens * s.heads;
  if (n == 0) return {};
  return start(&finite_kernel, grid_for(n), kThreads, 0, device, lse, finite,
               n);
}

Result<void> launch_mend(const AttentionForward& call, const Device& device) {
  TRY(const AttentionShape shape, attention_shape(call.sizes));
  return start(&mend_forward_kernel, mend_grid(shape), kThreads, 0, device,
               shape, static_cast<bf16*>(call.out),
               static_cast<float*>(call.lse));
}

Result<void> launch_mend(const AttentionBackward& call, const Device& device) {
  TRY(const AttentionShape shape, attention_shape(call.sizes));
  return start(&mend_backward_kernel, mend_grid(shape), kThreads, 0, device,
               shape, static_cast<bf16*>(call.dq), static_cast<bf16*>(call.dk),
               static_cast<bf16*>(call.dv));
}

Result<void> launch_difference(const RowsToCompare& rows, double* sums,
                               const Device& device) {
  return rows.dtype == DType::bf16 ? difference<bf16>(rows, sums, device)
                                   : difference<float>(rows, sums, device);
}

}  // namespace troupe::kernels::cuda
