// An attention problem in fp64 with its operands, and a second implementation
// that holds all scores.
#pragma once

#include <cmath>
#include <limits>

#include "tests/kernels/cpu_tools.h"

namespace troupe::kernels::testing {

struct AttentionProblem {
  std::vector<std::int32_t> q_starts, kv_starts;
  std::int64_t heads, kv_heads, dim;
  bool causal = true;
  std::int64_t gap = 0;  ///< elements between rows
  double scale = 0;
  std::int64_t window = 0;
  Doubles q, k, v;

  AttentionProblem(const std::vector<int>& q_lengths,
                   const std::vector<int>& kv_lengths, std::int64_t h,
                   std::int64_t kv, std::int64_t d, bool is_causal,
                   std::int64_t between = 0)
      : heads(h), kv_heads(kv), dim(d), causal(is_causal), gap(between) {
    q_starts = starts(q_lengths);
    kv_starts = starts(kv_lengths);
    Draw draw(11);
    q = draw.normal(q_tokens() * q_ld());
    k = draw.normal(kv_tokens() * kv_ld());
    v = draw.normal(kv_tokens() * kv_ld());
  }

  static std::vector<std::int32_t> starts(const std::vector<int>& lengths) {
    std::vector<std::int32_t> all{0};
    for (const int length : lengths) all.push_back(all.back() + length);
    return all;
  }
  std::int64_t q_tokens() const { return q_starts.back(); }
  std::int64_t kv_tokens() const { return kv_starts.back(); }
  std::int64_t q_ld() const { return heads * dim + gap; }
  std::int64_t kv_ld() const { return kv_heads * dim + 2 * gap; }
  std::int64_t out_ld() const { return heads * dim + 3 * gap; }

  AttentionSizes sizes() const {
    return {.sequences = static_cast<std::int64_t>(q_starts.size()) - 1,
            .q_tokens = q_tokens(),
            .kv_tokens = kv_tokens(),
            .max_q = q_tokens(),
            .max_kv = kv_tokens(),
            .heads = heads,
            .kv_heads = kv_heads,
            .head_dim = dim,
            .q_ld = gap > 0 ? q_ld() : 0,
            .kv_ld = gap > 0 ? kv_ld() : 0,
            .out_ld = gap > 0 ? out_ld() : 0,
            .causal = causal,
            .window = window,
            .scale = scale,
            .q_starts = q_starts.data(),
            .kv_starts = kv_starts.data()};
  }
  AttentionForward forward(void* out, void* lse) const {
    return {.dtype = DType::fp64,
            .sizes = sizes(),
            .q = q.data(),
            .k = k.data(),
            .v = v.data(),
            .out = out,
            .lse = lse};
  }

  struct Answer {
    Doubles out, lse;
  };
  /// All scores of a query at once; gaps are NaN, as in a poisoned output.
  Answer naive() const;
};

inline AttentionProblem::Answer AttentionProblem::naive() const {
  const auto nan = std::numeric_limits<double>::quiet_NaN();
  Answer a{Doubles(static_cast<std::size_t>(q_tokens() * out_ld()), nan),
           Doubles(static_cast<std::size_t>(q_tokens() * heads), nan)};
  const double factor =
      scale != 0 ? scale : 1 / std::sqrt(static_cast<double>(dim));
  const auto at = [](const Doubles& x, std::int64_t i) {
    return x[static_cast<std::size_t>(i)];
  };
  for (std::size_t s = 0; s + 1 < q_starts.size(); ++s) {
    const std::int64_t nq = q_starts[s + 1] - q_starts[s];
    const std::int64_t nk = kv_starts[s + 1] - kv_starts[s];
    for (std::int64_t j = 0; j < nq; ++j) {
      for (std::int64_t h = 0; h < heads; ++h) {
        const std::int64_t row = q_starts[s] + j, kv = h / (heads / kv_heads);
        Doubles weight;
        double sum = 0;
        for (std::int64_t t = 0; t < nk; ++t) {
          double score = 0;
          for (std::int64_t c = 0; c < dim; ++c) {
            score += at(q, row * q_ld() + h * dim + c) *
                     at(k, (kv_starts[s] + t) * kv_ld() + kv * dim + c);
          }
          const std::int64_t own = j + nk - nq;
          const bool seen =
              !causal || (t <= own && (window == 0 || t > own - window));
          weight.push_back(seen ? std::exp(factor * score) : 0);
          sum += weight.back();
        }
        a.lse[static_cast<std::size_t>(row * heads + h)] = std::log(sum);
        for (std::int64_t c = 0; c < dim; ++c) {
          double value = 0;
          for (std::int64_t t = 0; t < nk; ++t) {
            if (sum == 0) break;
            value += weight[static_cast<std::size_t>(t)] / sum *
                     at(v, (kv_starts[s] + t) * kv_ld() + kv * dim + c);
          }
          a.out[static_cast<std::size_t>(row * out_ld() + h * dim + c)] = value;
        }
      }
    }
  }
  return a;
}

}  // namespace troupe::kernels::testing
