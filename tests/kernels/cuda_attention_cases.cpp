// Attention over packed sequences of odd lengths: every head dim that has
// tiles, and some that have not; grouped heads; causal with more keys than
// queries and the other way round; rows with gaps (NaN, so that a read of one
// is seen) and rows that start at odd addresses; parts of a wider attention.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "tests/kernels/cuda_attention.h"

namespace troupe::kernels::testing {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

std::vector<std::int32_t> starts(const std::vector<int>& lengths) {
  std::vector<std::int32_t> all{0};
  for (const int n : lengths) all.push_back(all.back() + n);
  return all;
}

std::string list(const std::vector<int>& lengths) {
  std::string text;
  for (const int n : lengths) {
    text += (text.empty() ? "" : ",") + std::to_string(n);
  }
  return text;
}

std::string name(const char* what, const Attention& a) {
  return std::string(what) + " q " + list(a.q) + " kv " + list(a.kv) +
         " heads " + std::to_string(a.heads) + "/" +
         std::to_string(a.kv_heads) + " dim " + std::to_string(a.dim) +
         (a.causal ? " causal" : "") + (a.uniform ? " uniform" : "") +
         (a.window > 0 ? " window " + std::to_string(a.window) : "") + " gap " +
         std::to_string(a.gap) +
         (a.wider > 0 ? " of " + std::to_string(a.wider) + " more keys" : "");
}

// Rows of `row` elements, `gap` NaN after each.
Operand rows(Values& values, std::int64_t tokens, std::int64_t row,
             std::int64_t gap) {
  Operand operand = values.normal(tokens * (row + gap));
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t i = row; i < row + gap; ++i) {
      operand.values[static_cast<std::size_t>(t * (row + gap) + i)] = kNaN;
    }
  }
  return operand;
}

std::int64_t longest(const std::vector<int>& lengths) {
  return lengths.empty() ? 0 : *std::ranges::max_element(lengths);
}

// out and lse of a query over its own keys and, ahead of them, `wider` keys
// of which nothing is known but their scores and values.
struct Whole {
  Operand out, lse;
};
struct Row {
  std::vector<double> out;
  double lse;
};

Row attend(const std::vector<double>& scores,
           const std::vector<const double*>& values, std::int64_t dim) {
  Row row{std::vector<double>(static_cast<std::size_t>(dim)),
          -std::numeric_limits<double>::infinity()};
  if (scores.empty()) return row;
  const double top = *std::ranges::max_element(scores);
  double sum = 0;
  for (const double score : scores) sum += std::exp(score - top);
  row.lse = top + std::log(sum);
  for (std::size_t t = 0; t < scores.size(); ++t) {
    const double weight = std::exp(scores[t] - row.lse);
    for (std::size_t i = 0; i < row.out.size(); ++i) {
      row.out[i] += weight * values[t][i];
    }
  }
  return row;
}

// What one query of one head sees.
Row attend(const Attention& a, Values& values, const double* q, const double* k,
           const double* v, std::int64_t first, std::int64_t keys) {
  std::vector<double> scores;
  std::vector<const double*> rows_of_v;
  const std::int64_t ld = a.kv_heads * a.dim + a.gap;
  for (std::int64_t t = first; t < keys; ++t) {
    scores.push_back(a.real_scale() *
                     std::inner_product(q, q + a.dim, k + t * ld, 0.0));
    rows_of_v.push_back(v + t * ld);
  }
  const Operand more_scores = values.normal(a.wider);
  const Operand more_values = values.normal(a.wider * a.dim);
  for (std::int64_t t = 0; t < a.wider; ++t) {
    scores.push_back(more_scores.values[static_cast<std::size_t>(t)]);
    rows_of_v.push_back(more_values.values.data() + t * a.dim);
  }
  return attend(scores, rows_of_v, a.dim);
}

Whole whole(const Attention& a, Values& values, const Operand& q,
            const Operand& k, const Operand& v) {
  const std::int64_t tokens = std::accumulate(a.q.begin(), a.q.end(), 0);
  const std::int64_t ld = a.heads * a.dim + a.gap;
  Whole all{Values::out(tokens * ld), Values::out(tokens * a.heads)};
  all.out.role = all.lse.role = Role::in;
  std::ranges::fill(all.out.values, kNaN);
  std::int64_t q0 = 0, kv0 = 0;
  for (std::size_t s = 0; s < a.q.size(); ++s) {
    for (std::int64_t j = 0; j < a.q[s] * a.heads; ++j) {
      const std::int64_t token = q0 + j / a.heads, head = j % a.heads;
      const std::int64_t ahead = j / a.heads + 1 + a.kv[s] - a.q[s];
      const std::int64_t keys =
          a.causal ? std::clamp<std::int64_t>(ahead, 0, a.kv[s]) : a.kv[s];
      const std::int64_t at = kv0 * (a.kv_heads * a.dim + a.gap) +
                              head / (a.heads / a.kv_heads) * a.dim;
      const Row row = attend(
          a, values, q.values.data() + token * ld + head * a.dim,
          k.values.data() + at, v.values.data() + at,
          a.window == 0 ? 0 : std::max<std::int64_t>(keys - a.window, 0), keys);
      std::ranges::copy(row.out,
                        all.out.values.begin() + token * ld + head * a.dim);
      all.lse.values[static_cast<std::size_t>(token * a.heads + head)] =
          row.lse;
    }
    q0 += a.q[s];
    kv0 += a.kv[s];
  }
  all.lse.kind = Kind::statistic;
  return all;
}

// Weights (forward) and score gradients (backward) are rounded to bf16 for
// the matrix units: each term of a sum is off by half a unit in the last
// place at most, 2^-9.
constexpr double kRounded = 1.0 / 512;

double terms(const Attention& a) {
  const std::int64_t group = a.heads / a.kv_heads;
  return static_cast<double>(
      std::max({a.dim, longest(a.kv), longest(a.q) * group}));
}

}  // namespace

double Attention::real_scale() const {
  return scale == 0 ? 1 / std::sqrt(static_cast<double>(dim)) : scale;
}

AttentionSizes sizes_of(const Attention& a, const void* q_starts,
                        const void* kv_starts) {
  AttentionSizes s;
  s.sequences = static_cast<std::int64_t>(a.q.size());
  s.q_tokens = std::accumulate(a.q.begin(), a.q.end(), 0);
  s.kv_tokens = std::accumulate(a.kv.begin(), a.kv.end(), 0);
  s.max_q = longest(a.q);
  s.max_kv = longest(a.kv);
  s.heads = a.heads;
  s.kv_heads = a.kv_heads;
  s.head_dim = a.dim;
  if (a.gap > 0) {
    s.q_ld = s.out_ld = a.heads * a.dim + a.gap;
    s.kv_ld = a.kv_heads * a.dim + a.gap;
  }
  s.causal = a.causal;
  s.window = a.window;
  s.uniform = a.uniform;
  s.scale = a.scale;
  s.q_starts = static_cast<const std::int32_t*>(q_starts);
  s.kv_starts = static_cast<const std::int32_t*>(kv_starts);
  return s;
}

Case forward_case(const Attention& a, Values& values) {
  const AttentionSizes s = sizes_of(a, nullptr, nullptr);
  Case one;
  one.name = name("attention_forward", a);
  one.operands = {Values::given(starts(a.q)),
                  Values::given(starts(a.kv)),
                  rows(values, s.q_tokens, a.heads * a.dim, a.gap),
                  rows(values, s.kv_tokens, a.kv_heads * a.dim, a.gap),
                  rows(values, s.kv_tokens, a.kv_heads * a.dim, a.gap),
                  Values::out(s.q_tokens * (a.heads * a.dim + a.gap)),
                  Values::as(Values::out(s.q_tokens * a.heads), Kind::statistic,
                             Role::out)};
  one.call = [a](DType dtype, std::span<void* const> at) -> Call {
    return AttentionForward{.dtype = dtype,
                            .sizes = sizes_of(a, at[0], at[1]),
                            .q = at[2],
                            .k = at[3],
                            .v = at[4],
                            .out = at[5],
                            .lse = at[6]};
  };
  one.terms = terms(a);
  one.extra = kRounded;
  return one;
}

Case backward_case(const Attention& a, Values& values) {
  const AttentionSizes s = sizes_of(a, nullptr, nullptr);
  const std::int64_t q_row = a.heads * a.dim, kv_row = a.kv_heads * a.dim;
  const Operand q = rows(values, s.q_tokens, q_row, a.gap);
  const Operand k = rows(values, s.kv_tokens, kv_row, a.gap);
  const Operand v = rows(values, s.kv_tokens, kv_row, a.gap);
  const Whole all = whole(a, values, q, k, v);
  Case one;
  one.name = name("attention_backward", a);
  one.operands = {Values::given(starts(a.q)),
                  Values::given(starts(a.kv)),
                  q,
                  k,
                  v,
                  all.out,
                  all.lse,
                  rows(values, s.q_tokens, q_row, a.gap),
                  Values::out(s.q_tokens * (q_row + a.gap)),
                  Values::out(s.kv_tokens * (kv_row + a.gap)),
                  Values::out(s.kv_tokens * (kv_row + a.gap)),
                  Values::scratch()};
  one.call = [a](DType dtype, std::span<void* const> at) -> Call {
    return AttentionBackward{.dtype = dtype,
                             .sizes = sizes_of(a, at[0], at[1]),
                             .q = at[2],
                             .k = at[3],
                             .v = at[4],
                             .out = at[5],
                             .lse = at[6],
                             .d_out = at[7],
                             .dq = at[8],
                             .dk = at[9],
                             .dv = at[10],
                             .workspace = at[11]};
  };
  one.terms = terms(a);
  one.extra = kRounded;
  return one;
}

Case merge_case(bool first, Values& values) {
  const std::int64_t tokens = 33, heads = 3, dim = 80;
  Case one;
  one.name = first ? "attention_merge first" : "attention_merge";
  Operand out_lse = values.normal(tokens * heads, 3);
  Operand lse = values.normal(tokens * heads, 3);
  Operand sum = values.normal(tokens * heads * dim);
  // Rows without keys on one side, on the other, and on both.
  out_lse.values[0] = out_lse.values[1] = lse.values[1] = lse.values[2] =
      -std::numeric_limits<double>::infinity();
  std::fill_n(sum.values.begin() + dim, 2 * dim, 0.0);
  const Role role = first ? Role::out : Role::in_out;
  one.operands = {values.normal(tokens * heads * dim),
                  Values::as(out_lse, Kind::statistic),
                  Values::as(sum, Kind::statistic, role),
                  Values::as(lse, Kind::statistic, role)};
  std::fill_n(one.operands[0].values.begin(), 2 * dim, 0.0);
  one.call = [=](DType dtype, std::span<void* const> at) -> Call {
    return AttentionMerge{.dtype = dtype,
                          .tokens = tokens,
                          .heads = heads,
                          .head_dim = dim,
                          .first = first,
                          .out = at[0],
                          .out_lse = at[1],
                          .sum = at[2],
                          .lse = at[3]};
  };
  return one;
}

namespace {

std::vector<Attention> problems_of_lengths() {
  std::vector<Attention> all;
  for (const std::int64_t dim : {64, 80, 96, 104, 128}) {
    for (const bool causal : {true, false}) {
      all.push_back({.dim = dim,
                     .q = {17, 129},
                     .kv = {17, 129},
                     .heads = 2,
                     .kv_heads = 1,
                     .causal = causal});
    }
  }
  // Empty sequences, more keys than queries, more queries than keys (whose
  // first rows see nothing), one query.
  all.push_back({.dim = 64,
                 .q = {0, 65, 1, 63, 5},
                 .kv = {7, 200, 64, 1, 0},
                 .heads = 4,
                 .kv_heads = 2});
  all.push_back({.dim = 128,
                 .q = {200, 0, 30},
                 .kv = {63, 0, 200},
                 .heads = 1,
                 .kv_heads = 1});
  all.push_back({.dim = 64, .q = {}, .kv = {}});
  all.push_back({.dim = 64, .q = {0}, .kv = {70}});
  return all;
}

void add_problems_of_layout(std::vector<Attention>& all) {
  // Rows of 16 bytes with gaps, then rows that no copy of 16 bytes can read.
  all.push_back({.dim = 72,
                 .q = {65},
                 .kv = {66},
                 .heads = 3,
                 .kv_heads = 3,
                 .gap = 16,
                 .scale = 0.3});
  all.push_back(
      {.dim = 80, .q = {65}, .kv = {66}, .heads = 2, .kv_heads = 1, .gap = 3});
  all.push_back({.dim = 37, .q = {40}, .kv = {40}, .heads = 2, .kv_heads = 2});
  all.push_back({.dim = 160,
                 .q = {40},
                 .kv = {33},
                 .heads = 2,
                 .kv_heads = 1,
                 .causal = false});
  // Sliding windows: of two keys (of one the gradients of scores are 0, which
  // no relative error measures), within a tile, over several, wider than all.
  for (const std::int64_t window : {2, 17, 100, 4000}) {
    all.push_back({.dim = 64,
                   .q = {129, 40},
                   .kv = {129, 170},
                   .heads = 2,
                   .kv_heads = 1,
                   .window = window});
  }
  // Blocks of keys that no query of a tile sees, on both sides of it.
  all.push_back({.dim = 128,
                 .q = {300},
                 .kv = {310},
                 .heads = 2,
                 .kv_heads = 1,
                 .window = 60});
  all.push_back({.dim = 24,
                 .q = {90, 5},
                 .kv = {33, 0},
                 .heads = 2,
                 .kv_heads = 2,
                 .gap = 8,
                 .window = 20});
  // A share of a wider attention, as in a ring.
  all.push_back({.dim = 128,
                 .q = {70},
                 .kv = {70},
                 .heads = 2,
                 .kv_heads = 1,
                 .wider = 50});
  all.push_back({.dim = 96,
                 .q = {64},
                 .kv = {65},
                 .heads = 1,
                 .kv_heads = 1,
                 .causal = false,
                 .wider = 9});
}

// As most training has them; a body that knows may do better.
void add_uniform_problems(std::vector<Attention>& all) {
  for (const bool causal : {true, false}) {
    all.push_back({.dim = 128,
                   .q = {97, 97, 97},
                   .kv = {97, 97, 97},
                   .heads = 4,
                   .kv_heads = 2,
                   .causal = causal,
                   .gap = 8,
                   .uniform = true});
  }
  all.push_back({.dim = 64,
                 .q = {130, 130},
                 .kv = {200, 200},
                 .heads = 2,
                 .kv_heads = 2,
                 .window = 70,
                 .uniform = true});
}

Attention chance_problem(Values& values) {
  Attention a;
  a.dim = values.pick(1, 16) * 8;
  a.kv_heads = values.pick(1, 2);
  a.heads = a.kv_heads * values.pick(1, 3);
  a.causal = values.pick(0, 1) == 1;
  a.gap = values.pick(0, 2) * 4;
  if (a.causal && values.pick(0, 2) == 0) a.window = values.pick(8, 150);
  for (std::int64_t n = values.pick(1, 3); n > 0; --n) {
    a.q.push_back(static_cast<int>(values.pick(0, 150)));
    a.kv.push_back(static_cast<int>(values.pick(0, 150)));
  }
  return a;
}

}  // namespace

std::vector<Attention> attentions(Values& values) {
  std::vector<Attention> all = problems_of_lengths();
  add_problems_of_layout(all);
  add_uniform_problems(all);
  for (int i = 0; i < 4; ++i) all.push_back(chance_problem(values));
  return all;
}

std::vector<Case> attention_cases(std::uint64_t seed) {
  Values values(seed);
  std::vector<Case> all{merge_case(true, values), merge_case(false, values)};
  for (const Attention& a : attentions(values)) {
    if (a.wider == 0) all.push_back(forward_case(a, values));
    all.push_back(backward_case(a, values));
  }
  return all;
}

}  // namespace troupe::kernels::testing
