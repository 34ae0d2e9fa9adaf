#include "kernels/cuda/cudnn_attention.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <sstream>

namespace troupe::kernels::cuda::cudnn {
namespace {

constexpr std::size_t kRaggedOnAmpere = 91801;
constexpr std::size_t kAnyKeysBackward = 91600;
constexpr std::int64_t kWidestHead = 256;

std::int64_t or_packed(std::int64_t ld, std::int64_t row) {
  return ld == 0 ? row : ld;
}

std::int64_t bucket(std::int64_t n) {
  return static_cast<std::int64_t>(
      std::bit_ceil(static_cast<std::uint64_t>(std::max<std::int64_t>(n, 1))));
}

AttentionProblem problem_of(const AttentionSizes& s) {
  AttentionProblem p{.ragged = !s.uniform,
                     .own_keys = s.q_starts == s.kv_starts,
                     .causal = s.causal,
                     .sequences = s.sequences,
                     .max_q = s.max_q,
                     .max_kv = s.max_kv,
                     .heads = s.heads,
                     .kv_heads = s.kv_heads,
                     .head_dim = s.head_dim};
  if (p.ragged) {
    p.sequences = bucket(s.sequences);
    p.max_q = bucket(s.max_q);
    p.max_kv = bucket(s.max_kv);
    p.q_tokens = bucket(s.q_tokens);
  } else {
    p.own_keys = s.max_q == s.max_kv;
  }
  p.q_ld = or_packed(s.q_ld, s.heads * s.head_dim);
  p.kv_ld = or_packed(s.kv_ld, s.kv_heads * s.head_dim);
  p.out_ld = or_packed(s.out_ld, s.heads * s.head_dim);
  // A window as long as any sequence hides nothing.
  p.window = effective_window(s.window, s.max_kv);
  return p;
}

Result<void> need(bool good, const std::string& otherwise) {
  if (good) return {};
  return fail(Fault::unavailable, "cuDNN's attention takes " + otherwise);
}

constexpr std::int64_t aligned_up(std::int64_t bytes) {
  return (bytes + 255) / 256 * 256;
}

}  // namespace

AttentionProblem problem_of(const AttentionForward& call) {
  return problem_of(call.sizes);
}

AttentionProblem problem_of(const AttentionBackward& call, bool deterministic,
                            int gpu_major) {
  AttentionProblem p = problem_of(call.sizes);
  p.backward = true;
  p.deterministic = deterministic;
  // cudnn-frontend knows of wrong results elsewhere.
  p.sums_by_tokens = p.ragged && p.head_dim % 16 == 0 && gpu_major == 9;
  return p;
}

std::string to_string(const AttentionProblem& p) {
  const int flags = (p.backward ? 1 : 0) | (p.ragged ? 2 : 0) |
                    (p.own_keys ? 4 : 0) | (p.causal ? 8 : 0) |
                    (p.deterministic ? 16 : 0) | (p.sums_by_tokens ? 32 : 0);
  std::string text = std::to_string(flags);
  for (const std::int64_t n :
       {p.sequences, p.max_q, p.max_kv, p.heads, p.kv_heads, p.head_dim, p.q_ld,
        p.kv_ld, p.out_ld, p.window, p.q_tokens}) {
    text += " " + std::to_string(n);
  }
  return text;
}

std::optional<AttentionProblem> parse_problem(std::string_view text) {
  std::istringstream in{std::string(text)};
  AttentionProblem p;
  unsigned flags = 0;
  in >> flags >> p.sequences >> p.max_q >> p.max_kv >> p.heads >> p.kv_heads >>
      p.head_dim >> p.q_ld >> p.kv_ld >> p.out_ld >> p.window >> p.q_tokens;
  if (in.fail() || flags > 63) return std::nullopt;
  p.backward = (flags & 1U) != 0;
  p.ragged = (flags & 2U) != 0;
  p.own_keys = (flags & 4U) != 0;
  p.causal = (flags & 8U) != 0;
  p.deterministic = (flags & 16U) != 0;
  p.sums_by_tokens = (flags & 32U) != 0;
  return p;
}

Result<void> supported(const AttentionProblem& p, DType dtype, bool aligned,
                       int gpu_major, std::size_t version) {
  TRY_DO(need(dtype == DType::bf16, "bf16"));
  TRY_DO(need(p.head_dim % 8 == 0 && p.head_dim <= kWidestHead,
              "heads of a multiple of 8 elements, at most 256"));
  TRY_DO(need(aligned, "rows aligned to 16 bytes"));
  TRY_DO(need(p.sequences > 0 && p.max_q > 0 && p.max_kv > 0,
              "calls with queries and keys"));
  TRY_DO(need(!p.ragged || gpu_major >= 9 || version >= kRaggedOnAmpere,
              "packed sequences before Hopper from 9.18.1 on"));
  // The next two are known to cudnn-frontend, which pads or refuses them.
  TRY_DO(need(!p.backward || p.ragged || p.max_kv % 128 == 0 ||
                  version >= kAnyKeysBackward,
              "gradients of unpacked keys that are no multiple of 128 from "
              "9.16 on"));
  TRY_DO(need(!p.backward || p.max_q > 1 || p.max_kv > 1,
              "gradients of more than one query and key"));
  // Queries without any key give NaN there; ragged ones are mended after.
  TRY_DO(need(p.ragged || !p.causal || p.max_q <= p.max_kv,
              "causal calls in which every query sees a key"));
  return {};
}

/// Builds a problem's graph into a plan.
class AttentionGraph {
 public:
  AttentionGraph(std::shared_ptr<const Library> library,
                 const AttentionProblem& problem)
      : p_(problem), graph_(std::move(library)) {
    scale_ = real(1);
    if (p_.ragged) {
      const Four one_each{p_.sequences, 1, 1, 1};
      const Four edges{p_.sequences + 1, 1, 1, 1};
      const Four ones{1, 1, 1, 1};
      using O = AttentionOperands;
      q_lengths_ =
          bind(&O::q_lengths, graph_.operand(Data::int32, one_each, ones));
      kv_lengths_ =
          bind(&O::kv_lengths, graph_.operand(Data::int32, one_each, ones));
      q_offsets_ =
          bind(&O::q_offsets, graph_.operand(Data::int64, edges, ones));
      kv_offsets_ =
          bind(&O::kv_offsets, graph_.operand(Data::int64, edges, ones));
      out_offsets_ =
          bind(&O::out_offsets, graph_.operand(Data::int64, edges, ones));
      lse_offsets_ =
          bind(&O::lse_offsets, graph_.operand(Data::int64, edges, ones));
    }
  }

  Result<AttentionPlan> make(const Target& target, Bytes workspace) {
    p_.backward ? backward() : forward();
    std::int64_t inner = 0;
    for (const auto& one : out_.inner_) inner += aligned_up(one.bytes);
    TRY(out_.plan_, graph_.plan(target, p_.backward && p_.deterministic,
                                workspace.v - inner));
    return std::move(out_);
  }

 private:
  using Slot = void* AttentionOperands::*;
  using Source = const void* AttentionOperands::*;

  Tensor bind(Slot slot, Tensor tensor) {
    out_.bound_.push_back({.tensor = tensor, .to = slot});
    return tensor;
  }
  Tensor bind(Source slot, Tensor tensor) {
    out_.bound_.push_back({.tensor = tensor, .from = slot});
    return tensor;
  }
  Tensor real(float value) {
    const Tensor made = graph_.scalar(Data::float32);
    out_.scalars_.push_back({.tensor = made, .real = value});
    return made;
  }
  Tensor whole(std::int64_t value) {
    const Tensor made = graph_.scalar(Data::int32);
    out_.scalars_.push_back({.tensor = made,
                             .whole = static_cast<std::int32_t>(value),
                             .is_real = false});
    return made;
  }

  Tensor minus_infinity() {
    if (!minus_infinity_) {
      minus_infinity_ = real(-std::numeric_limits<float>::infinity());
    }
    return *minus_infinity_;
  }

  // Rows of queries, of keys as stored, and of keys as the right operand of a
  // product with queries.
  Tensor rows_of_queries(std::int64_t ld, MaybeTensor offsets) {
    return graph_.operand(Data::bfloat16,
                          {p_.sequences, p_.heads, p_.max_q, p_.head_dim},
                          {p_.max_q * ld, p_.head_dim, ld, 1}, offsets);
  }
  Tensor rows_of_keys() {
    return graph_.operand(
        Data::bfloat16, {p_.sequences, p_.kv_heads, p_.max_kv, p_.head_dim},
        {p_.max_kv * p_.kv_ld, p_.head_dim, p_.kv_ld, 1}, kv_offsets_);
  }
  Tensor columns_of_keys() {
    return graph_.operand(
        Data::bfloat16, {p_.sequences, p_.kv_heads, p_.head_dim, p_.max_kv},
        {p_.max_kv * p_.kv_ld, p_.head_dim, 1, p_.kv_ld}, kv_offsets_);
  }
  Four statistics_sizes() const {
    return {p_.sequences, p_.heads, p_.max_q, 1};
  }
  // (tokens, heads) where ragged, else (sequences, heads, queries).
  Four statistics_strides() const {
    const Four sizes = statistics_sizes();
    if (!p_.ragged) return packed(sizes);
    return {p_.heads * p_.max_q, 1, p_.heads, 1};
  }
  Tensor statistics() {
    return graph_.operand(Data::float32, statistics_sizes(),
                          statistics_strides(), lse_offsets_);
  }

  Tensor scores(Tensor q, Tensor k, bool padding) {
    const Tensor product = graph_.multiply(
        q, k, {.m = q_lengths_, .n = kv_lengths_, .zero_padding = padding});
    return graph_.map(Pointwise::multiply, product, scale_);
  }
  Tensor hide(Tensor score) {
    if (p_.ragged) score = hide_padding(score);
    if (p_.causal) score = hide_later(score);
    if (p_.window > 0) score = hide_before_window(score);
    return score;
  }
  Tensor hide_padding(Tensor score) {
    const Tensor row = graph_.index(score, 2), column = graph_.index(score, 3);
    const Tensor rows =
        graph_.map(Pointwise::less, row, *q_lengths_, Data::boolean);
    const Tensor columns =
        graph_.map(Pointwise::less, column, *kv_lengths_, Data::boolean);
    const Tensor both =
        graph_.map(Pointwise::logical_and, rows, columns, Data::boolean);
    return graph_.select(score, minus_infinity(), both);
  }
  // Query j sees key t when j + keys - queries >= t.
  Tensor hide_later(Tensor score) {
    Tensor row = graph_.index(score, 2);
    const Tensor column = graph_.index(score, 3);
    if (!p_.own_keys) {
      const Tensor keys = p_.ragged ? *kv_lengths_ : whole(p_.max_kv);
      const Tensor queries = p_.ragged ? *q_lengths_ : whole(p_.max_q);
      row = graph_.map(Pointwise::add, row, keys, Data::int32);
      row = graph_.map(Pointwise::subtract, row, queries, Data::int32);
    }
    const Tensor seen =
        graph_.map(Pointwise::greater_or_equal, row, column, Data::boolean);
    return graph_.select(score, minus_infinity(), seen);
  }
  // Of those only the last `window`: t + window - keys + queries > j.
  Tensor hide_before_window(Tensor score) {
    const Tensor row = graph_.index(score, 2);
    Tensor column = graph_.index(score, 3);
    if (p_.ragged && !p_.own_keys) {
      column =
          graph_.map(Pointwise::add, column, whole(p_.window), Data::int32);
      column =
          graph_.map(Pointwise::subtract, column, *kv_lengths_, Data::int32);
      column = graph_.map(Pointwise::add, column, *q_lengths_, Data::int32);
    } else {
      const std::int64_t bound =
          p_.window - (p_.own_keys ? 0 : p_.max_kv - p_.max_q);
      column = graph_.map(Pointwise::add, column,
                          real(static_cast<float>(bound)), Data::float32);
    }
    const Tensor seen =
        graph_.map(Pointwise::greater, column, row, Data::boolean);
    return graph_.select(score, minus_infinity(), seen);
  }

  void forward() {
    using O = AttentionOperands;
    const Tensor q = bind(&O::q, rows_of_queries(p_.q_ld, q_offsets_));
    const Tensor k = bind(&O::k, columns_of_keys());
    const Tensor v = bind(&O::v, rows_of_keys());
    const Tensor out = bind(&O::out, rows_of_queries(p_.out_ld, out_offsets_));
    const Tensor lse = bind(&O::lse, statistics());
    const Tensor score = hide(scores(q, k, p_.ragged));
    const Four one = statistics_sizes();
    const Tensor top = graph_.reduce(Reduction::maximum, score, one);
    const Tensor weight = graph_.map(
        Pointwise::exponential, graph_.map(Pointwise::subtract, score, top));
    const Tensor sum = graph_.reduce(Reduction::add, weight, one);
    graph_.map_into(Pointwise::add, top, graph_.map(Pointwise::logarithm, sum),
                    lse);
    const Tensor share =
        graph_.map(Pointwise::divide, weight, sum, Data::bfloat16);
    graph_.multiply_into(share, v, {.m = q_lengths_, .k = kv_lengths_}, out);
  }

  struct Inputs {
    Tensor q, k, v, d_out, lse;
  };

  // Row sums of out * d_out, in memory.
  Tensor row_sums(Tensor d_out) {
    using O = AttentionOperands;
    const Tensor out = bind(&O::out, rows_of_queries(p_.out_ld, out_offsets_));
    const Four one = statistics_sizes();
    Tensor sum = graph_.reduce(
        Reduction::add, graph_.map(Pointwise::multiply, d_out, out), one);
    const bool by_tokens = p_.sums_by_tokens;
    const Tensor kept = by_tokens
                            ? graph_.operand(Data::float32, one,
                                             statistics_strides(), lse_offsets_)
                            : graph_.operand(Data::float32, one, packed(one));
    graph_.map_into(Pointwise::multiply, sum, real(1), kept);
    keep(kept, rows_of_statistics() * p_.heads * 4);
    return kept;
  }
  std::int64_t rows_of_statistics() const {
    return p_.sums_by_tokens ? p_.q_tokens : p_.sequences * p_.max_q;
  }
  void keep(Tensor tensor, std::int64_t bytes) {
    out_.inner_.push_back({tensor, bytes});
  }
  Tensor turned(Tensor x) {
    const Tensor y = graph_.transpose(x, Data::bfloat16);
    return y;
  }

  // Of grouped heads each gives a gradient; their sum is the answer.
  void key_gradient(Tensor left, Tensor right, Tensor gradient) {
    const Graph::Lengths lengths{.m = kv_lengths_, .k = q_lengths_};
    if (p_.heads == p_.kv_heads) {
      graph_.multiply_into(left, right, lengths, gradient);
      return;
    }
    const Tensor all = graph_.multiply(left, right, lengths, Data::bfloat16);
    graph_.reduce_into(Reduction::add, all, gradient);
  }

  void backward() {
    using O = AttentionOperands;
    const Inputs in{
        .q = bind(&O::q, rows_of_queries(p_.q_ld, q_offsets_)),
        .k = bind(&O::k, columns_of_keys()),
        .v = bind(&O::v, columns_of_keys()),
        .d_out = bind(&O::d_out, rows_of_queries(p_.out_ld, out_offsets_)),
        .lse = bind(&O::lse, statistics())};
    const Tensor delta = row_sums(in.d_out);
    Tensor score = scores(in.q, in.k, false);
    score = hide(graph_.map(Pointwise::subtract, score, in.lse));
    const Tensor weight = graph_.map(Pointwise::exponential, score);
    const Tensor dv = bind(&O::dv, rows_of_keys());
    key_gradient(turned(weight), in.d_out, dv);
    const Tensor d_weight =
        graph_.multiply(in.d_out, in.v, {.m = q_lengths_, .n = kv_lengths_});
    Tensor d_score = graph_.map(Pointwise::subtract, d_weight, delta);
    d_score = graph_.map(Pointwise::multiply, d_score, weight);
    d_score = graph_.map(Pointwise::multiply, d_score, scale_);
    const Tensor dk = bind(&O::dk, rows_of_keys());
    key_gradient(turned(d_score), in.q, dk);
    query_gradient(d_score,
                   graph_.transpose(in.k, Data::bfloat16, kv_offsets_));
  }

  // Sums of dq in memory are added to by many blocks, in an order of chance;
  // without them the scores' gradients are kept instead.
  void query_gradient(Tensor d_score, Tensor k) {
    using O = AttentionOperands;
    const Tensor dq = bind(&O::dq, rows_of_queries(p_.q_ld, q_offsets_));
    const Graph::Lengths lengths{.m = q_lengths_, .k = kv_lengths_};
    if (p_.deterministic) {
      graph_.multiply_into(d_score, k, lengths, dq);
      return;
    }
    const Four sizes = graph_.sizes(dq);
    const bool by_tokens = p_.sums_by_tokens;
    const Tensor sum =
        by_tokens ? graph_.operand(Data::float32, sizes, graph_.strides(dq),
                                   q_offsets_)
                  : graph_.operand(Data::float32, sizes, packed(sizes));
    graph_.multiply_into(d_score, k, lengths, sum);
    graph_.map_into(Pointwise::identity, sum, {}, dq);
    const std::int64_t row = by_tokens ? p_.q_ld : p_.heads * p_.head_dim;
    keep(sum, rows_of_statistics() * row * 4);
  }

  AttentionProblem p_;
  Graph graph_;
  AttentionPlan out_;
  Tensor scale_{};
  MaybeTensor minus_infinity_;
  MaybeTensor q_lengths_, kv_lengths_;
  MaybeTensor q_offsets_, kv_offsets_, out_offsets_, lse_offsets_;
};

Result<AttentionPlan> AttentionPlan::make(
    std::shared_ptr<const Library> library, const AttentionProblem& problem,
    const Target& target, Bytes workspace) {
  return AttentionGraph(std::move(library), problem).make(target, workspace);
}

Bytes AttentionPlan::workspace() const {
  std::int64_t bytes = aligned_up(plan_.workspace());
  for (const Inner& one : inner_) bytes += aligned_up(one.bytes);
  return {bytes};
}

Result<void> AttentionPlan::run(void* handle, const AttentionOperands& operands,
                                float scale, void* workspace) {
  scalars_.front().real = scale;
  std::vector<Plan::Binding> bindings;
  for (const Bound& one : bound_) {
    void* const at = one.to != nullptr ? operands.*one.to
                                       : const_cast<void*>(operands.*one.from);
    bindings.push_back({one.tensor, at});
  }
  for (Scalar& one : scalars_) {
    void* const at = one.is_real ? static_cast<void*>(&one.real)
                                 : static_cast<void*>(&one.whole);
    bindings.push_back({one.tensor, at});
  }
  auto* free = static_cast<std::byte*>(workspace);
  void* const own = free;
  free += aligned_up(plan_.workspace());
  for (const Inner& one : inner_) {
    bindings.push_back({one.tensor, free});
    free += aligned_up(one.bytes);
  }
  return plan_.run(handle, bindings, own);
}

}  // namespace troupe::kernels::cuda::cudnn
