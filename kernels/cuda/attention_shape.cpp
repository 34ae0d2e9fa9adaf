#include "kernels/cuda/attention_shape.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <string>

namespace troupe::kernels::cuda {
namespace {

// Blocks are counted in y and z of a grid, which end at 65535.
constexpr std::int64_t kMostBlocks = 65535;
// Leaves room for rounding up to a tile in 32 bits.
constexpr std::int64_t kLongest = std::numeric_limits<std::int32_t>::max() / 2;

Result<void> in_range(const char* name, std::int64_t value, std::int64_t low,
                      std::int64_t high) {
  if (value >= low && value <= high) return {};
  return fail(Fault::input, "attention on a GPU takes " + std::string(name) +
                                " from " + std::to_string(low) + " to " +
                                std::to_string(high) + ", not " +
                                std::to_string(value));
}

Result<std::int64_t> row_stride(const char* name, std::int64_t ld,
                                std::int64_t row) {
  if (ld == 0) return row;
  TRY_DO(in_range(name, ld, row, std::numeric_limits<std::int32_t>::max()));
  return ld;
}

// What a grid and 32 bits can hold; `check_call` looked at the rest.
Result<void> check_sizes(const AttentionSizes& s) {
  TRY_DO(in_range("sequences", s.sequences, 0, kMostBlocks));
  TRY_DO(in_range("heads", s.heads, 1, kMostBlocks));
  TRY_DO(in_range("kv heads", s.kv_heads, 1, s.heads));
  TRY_DO(in_range("head dim", s.head_dim, 1, kWidestHead));
  TRY_DO(in_range("the longest q", s.max_q, 0, kLongest));
  TRY_DO(in_range("the longest kv", s.max_kv, 0, kLongest));
  TRY_DO(in_range("q tokens", s.q_tokens, 0, kLongest));
  TRY_DO(in_range("kv tokens", s.kv_tokens, 0, kLongest));
  return {};
}

}  // namespace

Result<AttentionShape> attention_shape(const AttentionSizes& s) {
  TRY_DO(check_sizes(s));
  AttentionShape shape;
  shape.q_starts = s.q_starts;
  shape.kv_starts = s.kv_starts;
  TRY(shape.q_ld, row_stride("q stride", s.q_ld, s.heads * s.head_dim));
  TRY(shape.kv_ld, row_stride("kv stride", s.kv_ld, s.kv_heads * s.head_dim));
  TRY(shape.out_ld, row_stride("out stride", s.out_ld, s.heads * s.head_dim));
  shape.q_tokens = s.q_tokens;
  shape.sequences = static_cast<int>(s.sequences);
  shape.heads = static_cast<int>(s.heads);
  shape.kv_heads = static_cast<int>(s.kv_heads);
  shape.head_dim = static_cast<int>(s.head_dim);
  shape.max_q = static_cast<int>(s.max_q);
  shape.max_kv = static_cast<int>(s.max_kv);
  shape.causal = s.causal;
  // A window as long as any sequence hides nothing.
  shape.window = static_cast<int>(
      effective_window(s.window, std::max(s.max_kv, std::int64_t{1})));
  const double scale =
      s.scale == 0 ? 1 / std::sqrt(static_cast<double>(s.head_dim)) : s.scale;
  shape.scale = static_cast<float>(scale);
  shape.scale_log2 = static_cast<float>(scale * 1.4426950408889634);
  // Hidden scores are -inf times the scale.
  if (!std::isnormal(shape.scale) || !std::isfinite(shape.scale_log2) ||
      scale < 0) {
    char text[32];
    std::snprintf(text, sizeof text, "%g", s.scale);
    return fail(Fault::input, std::string("attention scale ") + text +
                                  " is not positive in fp32");
  }
  return shape;
}

bool aligned_rows(const AttentionShape& shape,
                  std::initializer_list<const void*> operands) {
  if (shape.head_dim % 8 != 0 || shape.q_ld % 8 != 0 || shape.kv_ld % 8 != 0 ||
      shape.out_ld % 8 != 0) {
    return false;
  }
  for (const void* operand : operands) {
    if (reinterpret_cast<std::uintptr_t>(operand) % 16 != 0) return false;
  }
  return true;
}

}  // namespace troupe::kernels::cuda
