// Self attention of a layer, forward and backward.
#include <algorithm>

#include "schedule/layer_blocks.h"

namespace troupe::schedule {
namespace {

using clusters::Collective;
using kernels::DType;
using kernels::OpKind;
using kernels::OpShape;
using kernels::rows_by_columns;

/// Scores, mask, softmax and dropout through memory: before flash attention.
void append_unfused(BlockBuilder& b, const Layout& layout, const LayerSizes& s,
                    TensorIndex qkv, TensorIndex out, Role saved) {
  const DType t = layout.dtype;
  const std::int64_t batch = s.sequences * s.heads;
  const std::int64_t rows = batch * s.q_len;
  const TensorIndex q =
      b.tensor("q", {s.tokens, s.heads * s.head_dim}, Role::temporary, t);
  const TensorIndex scores =
      b.tensor("scores", {rows, s.kv_len}, Role::temporary, t);
  const TensorIndex shares = b.tensor("softmax", {rows, s.kv_len}, saved, t);
  const TensorIndex dropped = b.tensor("dropped", {rows, s.kv_len}, saved, t);
  const TensorIndex stats = b.tensor("statistics", {s.tokens, s.heads}, saved,
                                     kernels::statistics_type(t));
  const OpShape pass = rows_by_columns(OpKind::copy, rows, s.kv_len, t);
  b.compute("attention.scores",
            kernels::gemm(s.q_len, s.kv_len, s.head_dim, t, batch), {q, qkv},
            {scores});
  b.compute("attention.mask", pass, {scores}, {scores});
  b.compute("attention.softmax", pass, {scores}, {shares});
  b.compute("attention.dropout", pass, {shares}, {dropped});
  b.require_next(dropped);
  b.compute("attention.mix", Action::attention,
            kernels::gemm(s.q_len, s.head_dim, s.kv_len, t, batch), {qkv},
            {out, stats});
}

/// What travels in the ring: tokens of others, on average, and the half of
/// them that a causal round looks at.
struct Ring {
  std::int64_t others = 0, seen = 0, width = 0;
  Bytes once;
};

Ring ring_of(const Layout& layout, const LayerSizes& s) {
  Ring ring;
  ring.others = ceil_div(s.kv_len - s.q_len, layout.cp - 1);
  ring.seen = std::max<std::int64_t>(
      s.causal ? ceil_div(ring.others, 2) : ring.others, 1);
  ring.width = 2 * s.kv_heads * s.head_dim;
  ring.once =
      kernels::size_of(layout.dtype) * (s.sequences * ring.others * ring.width);
  return ring;
}

void append_unfused_gradient(BlockBuilder& b, const Layout& layout,
                             const LayerSizes& s, TensorIndex da,
                             TensorIndex dqkv) {
  const DType t = layout.dtype;
  const std::int64_t batch = s.sequences * s.heads;
  const std::int64_t rows = batch * s.q_len;
  const std::int64_t width = s.heads * s.head_dim;
  const auto temporary = [&](const char* name, std::int64_t n,
                             std::int64_t columns) {
    return b.tensor(name, {n, columns}, Role::temporary, t);
  };
  const TensorIndex shares = b.kept("softmax", {rows, s.kv_len}, t);
  const TensorIndex dropped = b.kept("dropped", {rows, s.kv_len}, t);
  const TensorIndex dscores = temporary("scores.grad", rows, s.kv_len);
  const TensorIndex q = temporary("q.grad", s.tokens, width);
  const TensorIndex kv =
      temporary("kv.grad", s.sequences * s.heads * s.kv_len, s.head_dim);
  const OpShape pass = rows_by_columns(OpKind::copy, rows, s.kv_len, t);
  const OpShape two = rows_by_columns(OpKind::add, rows, s.kv_len, t);
  const auto product = [&](std::int64_t m, std::int64_t n, std::int64_t k) {
    return kernels::gemm(m, n, k, t, batch);
  };
  b.compute("attention.value_gradient", product(s.kv_len, s.head_dim, s.q_len),
            {dropped, da}, {kv});
  b.compute("attention.share_gradient", product(s.q_len, s.kv_len, s.head_dim),
            {da}, {dscores});
  b.compute("attention.dropout.backward", pass, {dscores}, {dscores});
  b.compute("attention.softmax.backward", two, {dscores, shares}, {dscores});
  b.compute("attention.mask.backward", pass, {dscores}, {dscores});
  b.compute("attention.query_gradient", product(s.q_len, s.head_dim, s.kv_len),
            {dscores}, {q});
  b.compute("attention.key_gradient", product(s.kv_len, s.head_dim, s.q_len),
            {dscores, q}, {kv});
  b.require_next(kv);
  b.compute(
      "attention.collect", Action::attention_gradient,
      rows_by_columns(OpKind::copy, s.tokens, s.qkv, t),
      {da, b.kept("qkv", {s.tokens, s.qkv}, t),
       b.kept("attention", {s.tokens, width}, t),
       b.kept("statistics", {s.tokens, s.heads}, kernels::statistics_type(t))},
      {dqkv});
}

void append_ring_gradient(BlockBuilder& b, const Layout& layout,
                          const LayerSizes& s, TensorIndex dqkv,
                          const std::vector<TensorIndex>& operands) {
  const DType t = layout.dtype;
  const Ring ring = ring_of(layout, s);
  const auto shape = [&](std::int64_t kv_len, bool causal) {
    return attention_shape(OpKind::attention_backward, layout, s, kv_len,
                           causal);
  };
  b.compute("attention.backward.0", Action::attention_round_gradient,
            shape(s.q_len, s.causal), operands, {dqkv});
  TensorIndex held = operands[1];
  for (int round = 1; round <= layout.cp; ++round) {
    const std::string n = std::to_string(round);
    const TensorIndex arrived =
        b.tensor("kv." + n + ".backward", {s.widest, 2 * ring.width},
                 Role::temporary, t);
    // The first round moves keys and values only, the last only gradients.
    const bool both = round > 1 && round < layout.cp;
    b.communicate("kv_shift.backward." + n,
                  {.collective = Collective::ring_shift,
                   .scope = Scope::context,
                   .bytes = both ? ring.once * 2 : ring.once,
                   .action = Action::ring_shift_gradient,
                   .round = round},
                  {held}, {arrived});
    if (round < layout.cp) {
      auto inputs = operands;
      inputs.push_back(arrived);
      b.compute("attention.backward." + n, Action::attention_round_gradient,
                shape(ring.seen, false), inputs, {dqkv, arrived}, round);
    } else {
      b.compute("kv_gradient", Action::ring_home,
                rows_by_columns(OpKind::add, s.tokens, ring.width, t),
                {arrived, dqkv}, {dqkv}, round);
    }
    held = arrived;
  }
}

}  // namespace

OpShape attention_shape(OpKind kind, const Layout& layout, const LayerSizes& s,
                        std::int64_t kv_len, bool causal) {
  OpShape op{.kind = kind, .dtype = layout.dtype};
  op.causal = causal;
  op.attention = layout.attention_kernel;
  if (causal) op.window = kernels::effective_window(s.window, kv_len);
  op.dim = {s.sequences, s.q_len, kv_len, s.heads, s.kv_heads, s.head_dim};
  return op;
}

void append_attention(BlockBuilder& b, const Layout& layout,
                      const LayerSizes& s, TensorIndex qkv, TensorIndex out,
                      Role saved) {
  const DType t = layout.dtype;
  const auto shape = [&](std::int64_t kv_len, bool causal) {
    return attention_shape(OpKind::attention_forward, layout, s, kv_len,
                           causal);
  };
  if (!layout.flash_attention) {
    append_unfused(b, layout, s, qkv, out, saved);
    return;
  }
  const DType wide = kernels::statistics_type(t);
  const TensorIndex stats =
      b.tensor("statistics", {s.tokens, s.heads}, saved, wide);
  if (layout.cp == 1) {
    b.compute("attention", Action::attention, shape(s.kv_len, s.causal), {qkv},
              {out, stats});
    return;
  }
  const Ring ring = ring_of(layout, s);
  const TensorIndex sum = b.tensor(
      "attention.sum", {s.tokens, s.heads * s.head_dim}, Role::temporary, wide);
  b.compute("attention.0", Action::attention_round, shape(s.q_len, s.causal),
            {qkv}, {out, stats, sum});
  TensorIndex held = qkv;
  for (int round = 1; round < layout.cp; ++round) {
    const std::string n = std::to_string(round);
    const TensorIndex arrived =
        b.tensor("kv." + n, {s.widest, ring.width}, Role::temporary, t);
    b.communicate("kv_shift." + n,
                  {.collective = Collective::ring_shift,
                   .scope = Scope::context,
                   .bytes = ring.once,
                   .action = Action::ring_shift,
                   .round = round},
                  {held}, {arrived});
    b.compute("attention." + n, Action::attention_round,
              shape(ring.seen, false), {qkv, arrived}, {out, stats, sum},
              round);
    held = arrived;
  }
}

void append_attention_gradient(BlockBuilder& b, const Layout& layout,
                               const LayerSizes& s, TensorIndex da,
                               TensorIndex dqkv) {
  if (!layout.flash_attention) {
    append_unfused_gradient(b, layout, s, da, dqkv);
    return;
  }
  const DType t = layout.dtype;
  const std::vector<TensorIndex> operands{
      da, b.kept("qkv", {s.tokens, s.qkv}, t),
      b.kept("attention", {s.tokens, s.heads * s.head_dim}, t),
      b.kept("statistics", {s.tokens, s.heads}, kernels::statistics_type(t))};
  if (layout.cp > 1) {
    append_ring_gradient(b, layout, s, dqkv, operands);
    return;
  }
  b.compute("attention.backward", Action::attention_gradient,
            attention_shape(OpKind::attention_backward, layout, s, s.kv_len,
                            s.causal),
            operands, {dqkv});
}

}  // namespace troupe::schedule
