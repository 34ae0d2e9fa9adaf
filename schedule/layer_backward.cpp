#include <algorithm>

#include "schedule/layer_blocks.h"

namespace troupe::schedule {
namespace {

using clusters::Collective;
using kernels::DType;
using kernels::OpKind;
using kernels::OpShape;

/// What the helpers of a backward share.
struct Context {
  BlockBuilder& b;
  const Layout& layout;
  const LayerSizes& s;
  bool input;   ///< makes input gradients
  bool weight;  ///< makes weight gradients
};

TensorIndex temporary(const Context& c, const std::string& name,
                      std::int64_t rows, std::int64_t columns) {
  return c.b.tensor(name, {rows, columns}, Role::temporary, c.layout.dtype);
}

/// Gradients of C(T, n) = A(T, k) W(k, n): dA = dC W', dW += A' dC.
TensorIndex product_gradients(const Context& c, const std::string& name,
                              TensorIndex grad_out, std::int64_t n,
                              std::int64_t k) {
  const TensorIndex grad_in = temporary(c, name + ".grad", c.s.tokens, k);
  if (c.input) {
    c.b.compute(name + ".input_gradient",
                kernels::gemm(c.s.tokens, k, n, c.layout.dtype), {grad_out},
                {grad_in});
  }
  return grad_in;
}

void weight_gradient(const Context& c, const std::string& name,
                     TensorIndex activation, TensorIndex grad_out,
                     std::int64_t n, std::int64_t k) {
  if (!c.weight) return;
  const TensorIndex w =
      c.b.tensor(name + ".weight", {k, n}, Role::gradient, DType::fp32);
  c.b.compute(name + ".weight_gradient",
              kernels::gemm(k, n, c.s.tokens, c.layout.dtype),
              {activation, grad_out}, {w});
}

OpShape rows(const Context& c, OpKind kind, std::int64_t n,
             std::int64_t columns) {
  return kernels::rows_by_columns(kind, n, columns, c.layout.dtype);
}

/// Gradient of the MLP half: from d(out) to d(y), y being the sum after
/// attention. The reduction of the input gradient runs beside the weight
/// gradient product.
TensorIndex append_mlp_backward(const Context& c, TensorIndex dout) {
  const LayerSizes& s = c.s;
  const TensorIndex act = temporary(c, "mlp_act", s.tokens, s.ffn);
  const TensorIndex up = temporary(c, "mlp_up", s.tokens, s.up);
  const TensorIndex n2 = temporary(c, "norm2", s.shard, s.hidden);
  const TensorIndex dfull =
      gather_rows(c.b, c.layout, s, dout, "mlp.gather_gradient");
  const TensorIndex dact =
      product_gradients(c, "mlp_down", dfull, s.hidden, s.ffn);
  weight_gradient(c, "mlp_down", act, dfull, s.hidden, s.ffn);
  const TensorIndex dup = temporary(c, "mlp_up.grad_out", s.tokens, s.up);
  OpShape activation = rows(c, OpKind::activation_backward, s.tokens, s.ffn);
  activation.gated = s.gated;
  if (c.input)
    c.b.compute("activation.backward", activation, {dact, up}, {dup});
  if (c.input) append_eager_gate(c.b, c.layout, s, dup, true);
  const TensorIndex dn = product_gradients(c, "mlp_up", dup, s.up, s.hidden);
  const TensorIndex whole =
      c.weight ? gather_rows(c.b, c.layout, s, n2, "mlp.regather") : n2;
  const TensorIndex dn2 =
      c.input ? reduce_rows(c.b, c.layout, s, dn, "mlp.reduce_gradient") : dn;
  weight_gradient(c, "mlp_up", whole, dup, s.up, s.hidden);
  const TensorIndex dy = temporary(c, "y.grad", s.shard, s.hidden);
  if (c.input) {
    c.b.compute("norm2.backward",
                rows(c, OpKind::norm_backward, s.shard, s.hidden), {dn2}, {dy});
    c.b.compute("add2.backward", rows(c, OpKind::add, s.shard, s.hidden),
                {dy, dout}, {dy});
    append_eager_half_backward(c.b, c.layout, s, dy, "norm2.backward");
  }
  return dy;
}

OpShape attention_gradient(const Context& c, std::int64_t kv_len, bool causal) {
  OpShape op{.kind = OpKind::attention_backward, .dtype = c.layout.dtype};
  op.causal = causal;
  op.attention = c.layout.attention_kernel;
  op.dim = {c.s.sequences, c.s.q_len,    kv_len,
            c.s.heads,     c.s.kv_heads, c.s.head_dim};
  return op;
}

/// Backward of the unfused attention, each step through memory.
void append_unfused_backward(const Context& c, TensorIndex da,
                             TensorIndex dqkv) {
  const LayerSizes& s = c.s;
  const DType t = c.layout.dtype;
  const std::int64_t batch = s.sequences * s.heads;
  const std::int64_t rows = batch * s.q_len;
  const std::int64_t width = s.heads * s.head_dim;
  const TensorIndex shares = temporary(c, "softmax", rows, s.kv_len);
  const TensorIndex dropped = temporary(c, "dropped", rows, s.kv_len);
  const TensorIndex dscores = temporary(c, "scores.grad", rows, s.kv_len);
  const TensorIndex q = temporary(c, "q.grad", s.tokens, width);
  const TensorIndex kv =
      temporary(c, "kv.grad", s.sequences * s.heads * s.kv_len, s.head_dim);
  const OpShape pass =
      kernels::rows_by_columns(OpKind::copy, rows, s.kv_len, t);
  const OpShape two = kernels::rows_by_columns(OpKind::add, rows, s.kv_len, t);
  const auto product = [&](std::int64_t m, std::int64_t n, std::int64_t k) {
    return kernels::gemm(m, n, k, t, batch);
  };
  c.b.compute("attention.value_gradient",
              product(s.kv_len, s.head_dim, s.q_len), {dropped, da}, {kv});
  c.b.compute("attention.share_gradient",
              product(s.q_len, s.kv_len, s.head_dim), {da}, {dscores});
  c.b.compute("attention.dropout.backward", pass, {dscores}, {dscores});
  c.b.compute("attention.softmax.backward", two, {dscores, shares}, {dscores});
  c.b.compute("attention.mask.backward", pass, {dscores}, {dscores});
  c.b.compute("attention.query_gradient",
              product(s.q_len, s.head_dim, s.kv_len), {dscores}, {q});
  c.b.compute("attention.key_gradient", product(s.kv_len, s.head_dim, s.q_len),
              {dscores, q}, {kv});
  c.b.compute("attention.collect",
              kernels::rows_by_columns(OpKind::copy, s.tokens, s.qkv, t),
              {q, kv}, {dqkv});
}

/// Ring backward: keys and values travel again, and their gradients with
/// them, one round more than forward.
void append_attention_backward(const Context& c, TensorIndex da,
                               TensorIndex dqkv) {
  const LayerSizes& s = c.s;
  if (!c.layout.flash_attention) {
    append_unfused_backward(c, da, dqkv);
    return;
  }
  if (c.layout.cp == 1) {
    c.b.compute("attention.backward", attention_gradient(c, s.kv_len, s.causal),
                {da}, {dqkv});
    return;
  }
  const std::int64_t others =
      (s.kv_len - s.q_len + c.layout.cp - 2) / (c.layout.cp - 1);
  const std::int64_t kv =
      std::max<std::int64_t>(s.causal ? (others + 1) / 2 : others, 1);
  const std::int64_t width = 2 * s.kv_heads * s.head_dim;
  const Bytes once =
      kernels::size_of(c.layout.dtype) * (s.sequences * others * width);
  c.b.compute("attention.backward.0", attention_gradient(c, s.q_len, s.causal),
              {da}, {dqkv});
  TensorIndex held = dqkv;
  for (int round = 1; round <= c.layout.cp; ++round) {
    const std::string n = std::to_string(round);
    const TensorIndex arrived =
        temporary(c, "kv." + n, s.sequences * others, 2 * width);
    // The first round moves keys and values only, the last only gradients.
    const bool both = round > 1 && round < c.layout.cp;
    c.b.communicate(
        "kv_shift.backward." + n,
        {Collective::ring_shift, Scope::context, both ? once * 2 : once},
        {held}, {arrived});
    if (round < c.layout.cp) {
      c.b.compute("attention.backward." + n, attention_gradient(c, kv, false),
                  {da, arrived}, {dqkv, arrived});
    } else {
      const TensorIndex sum = temporary(c, "kv.grad", s.tokens, width);
      c.b.compute("kv_gradient", rows(c, OpKind::add, s.tokens, width),
                  {arrived, dqkv}, {sum});
    }
    held = arrived;
  }
}

void append_attention_half(const Context& c, const models::Model& model,
                           TensorIndex dy, TensorIndex dx) {
  const LayerSizes& s = c.s;
  const std::int64_t width = s.heads * s.head_dim;
  const TensorIndex a = temporary(c, "attention", s.tokens, width);
  const TensorIndex n1 = temporary(c, "norm1", s.shard, s.hidden);
  const TensorIndex dfull =
      gather_rows(c.b, c.layout, s, dy, "attention.gather_gradient");
  const TensorIndex da =
      product_gradients(c, "project", dfull, s.hidden, width);
  weight_gradient(c, "project", a, dfull, s.hidden, width);
  const TensorIndex dqkv = temporary(c, "qkv.grad_out", s.tokens, s.qkv);
  if (c.input) {
    append_attention_backward(c, da, dqkv);
    if (model.positions == models::Positions::rotary) {
      c.b.compute("rotary.backward",
                  rows(c, OpKind::rotary, s.tokens,
                       (s.heads + s.kv_heads) * s.head_dim),
                  {dqkv}, {dqkv});
      append_eager_rotary(c.b, c.layout, s, dqkv, "rotary.backward");
    }
    append_eager_attention_backward(c.b, c.layout, s, dqkv);
  }
  const TensorIndex dn = product_gradients(c, "qkv", dqkv, s.qkv, s.hidden);
  const TensorIndex whole =
      c.weight ? gather_rows(c.b, c.layout, s, n1, "attention.regather") : n1;
  const TensorIndex dn1 =
      c.input ? reduce_rows(c.b, c.layout, s, dn, "attention.reduce_gradient")
              : dn;
  weight_gradient(c, "qkv", whole, dqkv, s.qkv, s.hidden);
  if (c.input) {
    c.b.compute("norm1.backward",
                rows(c, OpKind::norm_backward, s.shard, s.hidden), {dn1}, {dx});
    c.b.compute("add1.backward", rows(c, OpKind::add, s.shard, s.hidden),
                {dx, dy}, {dx});
    append_eager_half_backward(c.b, c.layout, s, dx, "norm1.backward");
  }
}

TensorIndex append_cross_backward(const Context& c, TensorIndex dy) {
  const LayerSizes& s = c.s;
  const std::int64_t width = s.heads * s.head_dim;
  const std::int64_t kv = 2 * s.kv_heads * s.head_dim;
  const TensorIndex saved = temporary(c, "cross.saved", s.tokens, width);
  const TensorIndex n = temporary(c, "cross.norm", s.shard, s.hidden);
  const TensorIndex dfull =
      gather_rows(c.b, c.layout, s, dy, "cross.gather_gradient");
  const TensorIndex da =
      product_gradients(c, "cross.project", dfull, s.hidden, width);
  weight_gradient(c, "cross.project", saved, dfull, s.hidden, width);
  const TensorIndex dq = temporary(c, "cross.q.grad", s.tokens, width + kv);
  if (c.input) {
    c.b.compute("cross.attention.backward",
                attention_gradient(c, s.kv_len, false), {da}, {dq});
  }
  const TensorIndex dn =
      product_gradients(c, "cross.qkv", dq, width + kv, s.hidden);
  const TensorIndex whole =
      c.weight ? gather_rows(c.b, c.layout, s, n, "cross.regather") : n;
  const TensorIndex sum =
      c.input ? reduce_rows(c.b, c.layout, s, dn, "cross.reduce_gradient") : dn;
  weight_gradient(c, "cross.qkv", whole, dq, width + kv, s.hidden);
  const TensorIndex out = temporary(c, "cross.grad", s.shard, s.hidden);
  if (c.input) {
    c.b.compute("cross.norm.backward",
                rows(c, OpKind::norm_backward, s.shard, s.hidden), {sum},
                {out});
    c.b.compute("cross.add.backward", rows(c, OpKind::add, s.shard, s.hidden),
                {out, dy}, {out});
  }
  return out;
}

/// ZeRO 2 and 3 reduce each layer's gradients to shards as they are made.
void append_gradient_scatter(const Context& c, TensorIndex last) {
  const TensorIndex shard =
      c.b.tensor("gradient.shard",
                 {(c.s.parameters + c.layout.replicas - 1) / c.layout.replicas},
                 Role::gradient, DType::fp32);
  c.b.communicate("gradient.scatter",
                  {Collective::reduce_scatter, Scope::data,
                   kernels::size_of(c.layout.dtype) * c.s.parameters, false},
                  {last}, {shard});
}

void append_recomputation(BlockBuilder& b, const models::Model& model,
                          models::LayerKind kind, const Layout& layout,
                          const LayerSizes& s) {
  if (layout.recompute == strategy::Recompute::full) {
    Layout again = layout;
    again.zero = strategy::Zero::none;  // its weights are gathered already
    append_forward(b, model, kind, again, false);
  } else if (layout.recompute == strategy::Recompute::selective) {
    const TensorIndex qkv =
        b.tensor("qkv", {s.tokens, s.qkv}, Role::temporary, layout.dtype);
    const TensorIndex out =
        b.tensor("attention.again", {s.tokens, s.heads * s.head_dim},
                 Role::temporary, layout.dtype);
    append_attention(b, layout, s, qkv, out, Role::temporary);
  }
}

}  // namespace

void append_backward(BlockBuilder& b, const models::Model& model,
                     models::LayerKind kind, const Layout& layout,
                     Gradients gradients) {
  const LayerSizes s = layer_sizes(model, kind, layout);
  const Context c{b, layout, s, gradients != Gradients::weight,
                  gradients != Gradients::input};
  const bool sharded =
      layout.zero >= strategy::Zero::two && layout.replicas > 1;
  if (layout.zero == strategy::Zero::three && sharded) {
    gather_weights(b, layout, s);
  }
  if (c.input) append_recomputation(b, model, kind, layout, s);
  const TensorIndex dout =
      b.tensor("out.grad", {s.shard, s.hidden}, Role::input, layout.dtype);
  const TensorIndex dx =
      b.tensor("x.grad", {s.shard, s.hidden}, Role::output, layout.dtype);
  const TensorIndex dz = append_mlp_backward(c, dout);
  const TensorIndex dy = kind == models::LayerKind::cross_decoder
                             ? append_cross_backward(c, dz)
                             : dz;
  append_attention_half(c, model, dy, dx);
  if (c.weight) append_eager_gradients(b, layout, s, dx);
  if (sharded && c.weight) append_gradient_scatter(c, dx);
}

}  // namespace troupe::schedule
