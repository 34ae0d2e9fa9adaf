// What the forward and the backward of attention share: the walk over
// sequences and heads, and which keys a query sees.
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels/call.h"

namespace troupe::kernels::cpu {

/// Queries and keys of a block of scores.
inline constexpr std::int64_t kQueries = 64, kKeys = 64;

/// One sequence: first token and count on either side.
struct Sequence {
  std::int64_t q, nq, kv, nk;
};

/// How many keys of the sequence its query `j` sees: the first ones.
inline std::int64_t visible(const AttentionSizes& s, const Sequence& one,
                            std::int64_t j) {
  if (!s.causal) return one.nk;
  return std::clamp<std::int64_t>(j + one.nk - one.nq + 1, 0, one.nk);
}

/// The first key of the sequence that its query `j` sees.
inline std::int64_t earliest(const AttentionSizes& s, const Sequence& one,
                             std::int64_t j) {
  if (s.window == 0) return 0;
  return std::max<std::int64_t>(visible(s, one, j) - s.window, 0);
}

/// The keys of the block [t, t + nk) that query `j` sees, from t on.
struct Seen {
  std::int64_t begin, end;
};
inline Seen seen_of(const AttentionSizes& s, const Sequence& one,
                    std::int64_t j, std::int64_t t, std::int64_t nk) {
  const auto within = [&](std::int64_t key) {
    return std::clamp<std::int64_t>(key - t, 0, nk);
  };
  return {within(earliest(s, one, j)), within(visible(s, one, j))};
}

inline double scale_of(const AttentionSizes& s) {
  if (s.scale != 0) return s.scale;
  return 1 / std::sqrt(static_cast<double>(s.head_dim));
}

/// Row strides in elements.
struct AttentionStrides {
  std::int64_t q, kv, out;
};
inline AttentionStrides strides_of(const AttentionSizes& s) {
  return {s.q_ld == 0 ? s.heads * s.head_dim : s.q_ld,
          s.kv_ld == 0 ? s.kv_heads * s.head_dim : s.kv_ld,
          s.out_ld == 0 ? s.heads * s.head_dim : s.out_ld};
}

/// The longest sequence by its starts; max_q and max_kv may be generous.
inline std::int64_t longest(const AttentionSizes& s,
                            const std::int32_t* starts) {
  std::int64_t most = 0;
  for (std::int64_t i = 0; i < s.sequences; ++i) {
    most = std::max<std::int64_t>(most, starts[i + 1] - starts[i]);
  }
  return most;
}

template <typename F>
void each_sequence(const AttentionSizes& s, F&& f) {
  for (std::int64_t i = 0; i < s.sequences; ++i) {
    const Sequence one{s.q_starts[i], s.q_starts[i + 1] - s.q_starts[i],
                       s.kv_starts[i], s.kv_starts[i + 1] - s.kv_starts[i]};
    f(one);
  }
}

}  // namespace troupe::kernels::cpu
