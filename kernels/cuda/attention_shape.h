// What the attention kernels know of a call: sizes with every default
// resolved, small enough to be a kernel's argument.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "base/result.h"
#include "kernels/call.h"

namespace troupe::kernels::cuda {

struct AttentionShape {
  const std::int32_t* q_starts = nullptr;
  const std::int32_t* kv_starts = nullptr;
  std::int64_t q_ld = 0, kv_ld = 0, out_ld = 0;  ///< elements per token
  std::int64_t q_tokens = 0;
  int sequences = 0, heads = 0, kv_heads = 0, head_dim = 0;
  int max_q = 0, max_kv = 0;
  int window = 0;  ///< keys; 0: none, or no sequence is longer
  bool causal = false;
  /// Rows may be read and written in pieces of 16 bytes.
  bool aligned = false;
  float scale = 1, scale_log2 = 1;  ///< the second times log2(e)
};

/// The widest head that has a kernel; tiles of the matrix units reach 128.
inline constexpr int kWidestHead = 256;
inline constexpr int kWidestTile = 128;

/// Resolves and checks the sizes of a call. Whether rows are aligned is left
/// to `aligned_rows`, which sees the operands.
///
/// Errors: sizes out of range, heads not a multiple of kv heads, a row stride
///         shorter than its row, a scale that is not positive in fp32.
Result<AttentionShape> attention_shape(const AttentionSizes& sizes);

/// True if every row of every operand starts at a multiple of 16 bytes, for
/// elements of two bytes.
bool aligned_rows(const AttentionShape& shape,
                  std::initializer_list<const void*> operands);

}  // namespace troupe::kernels::cuda
