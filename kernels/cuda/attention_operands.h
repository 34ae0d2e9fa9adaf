// What cuDNN's attention wants of a call beside its operands, and what of its
// answers differs from ours; kernels in attention_operands.cu.
#pragma once

#include "base/result.h"
#include "kernels/call.h"
#include "kernels/cuda/device.h"

namespace troupe::kernels::cuda {

/// On the GPU, of `count` sequences: those of the call, then empty ones.
struct AttentionLengths {
  std::int64_t count = 0;
  std::int32_t* q = nullptr;   ///< queries of each sequence
  std::int32_t* kv = nullptr;  ///< keys of each
  /// Where each begins, and the last ends, in elements; count + 1.
  std::int64_t* q_offsets = nullptr;
  std::int64_t* kv_offsets = nullptr;
  std::int64_t* out_offsets = nullptr;
  std::int64_t* lse_offsets = nullptr;
};
Result<void> launch_lengths(const AttentionSizes& sizes,
                            const AttentionLengths& lengths,
                            const Device& device);

/// lse of uniform sequences, (sequences, queries, heads), to (sequences,
/// heads, queries), and back.
Result<void> launch_heads_first(const AttentionSizes& sizes, const float* lse,
                                float* heads_first, const Device& device);
Result<void> launch_queries_first(const AttentionSizes& sizes,
                                  const float* heads_first, float* lse,
                                  const Device& device);

/// lse of every token in 0 where it is -inf (a query without any key), else
/// copied: gradients of such queries are hidden, but inf - inf must not be.
Result<void> launch_finite(const AttentionSizes& sizes, const float* lse,
                           float* finite, const Device& device);

/// Gives 0 and lse -inf to the queries of bf16 calls that see no key; and
/// gradient 0 to queries without keys and keys without queries.
Result<void> launch_mend(const AttentionForward& call, const Device& device);
Result<void> launch_mend(const AttentionBackward& call, const Device& device);

/// Compares rows of sequences: `sums` gets the sum of squares of (a - b), and
/// that of b, for each of kDifferenceBlocks. Equal infinities do not differ.
struct RowsToCompare {
  const void* a = nullptr;
  const void* b = nullptr;
  DType dtype = DType::bf16;  ///< or fp32
  const std::int32_t* starts = nullptr;
  std::int64_t sequences = 0, longest = 0, columns = 0, ld = 0;
};
inline constexpr int kDifferenceBlocks = 256;
Result<void> launch_difference(const RowsToCompare& rows, double* sums,
                               const Device& device);

}  // namespace troupe::kernels::cuda
