// Attention problems, and the cases made of them.
#pragma once

#include <cstdint>
#include <vector>

#include "tests/kernels/cuda_cases.h"

namespace troupe::kernels::testing {

struct Attention {
  std::int64_t dim = 64;
  std::vector<int> q, kv;  ///< lengths of the sequences
  std::int64_t heads = 1, kv_heads = 1;
  bool causal = true;
  std::int64_t gap = 0;  ///< elements between rows
  double scale = 0;
  std::int64_t window = 0;
  bool uniform = false;  ///< all of q as long as each other, all of kv too
  /// Keys of every query that out and lse know of and the call does not.
  std::int64_t wider = 0;

  double real_scale() const;
};

AttentionSizes sizes_of(const Attention& attention, const void* q_starts,
                        const void* kv_starts);

/// Operands: starts of q and kv, q, k, v, then out, lse.
Case forward_case(const Attention& attention, Values& values);
/// Operands: starts of q and kv, q, k, v, out, lse, d_out, then dq, dk, dv and
/// the workspace.
Case backward_case(const Attention& attention, Values& values);
Case merge_case(bool first, Values& values);

/// The problems of `attention_cases`; the last few by chance.
std::vector<Attention> attentions(Values& values);

}  // namespace troupe::kernels::testing
