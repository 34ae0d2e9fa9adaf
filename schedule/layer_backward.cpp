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

/// What the forward (or its recomputation here) made.
TensorIndex kept(const Context& c, const std::string& name, std::int64_t rows,
                 std::int64_t columns) {
  return c.b.kept(name, {rows, columns}, c.layout.dtype);
}

/// A gradient that both halves need: kept for the weight gradients where
/// these are a task of their own.
TensorIndex carried(const Context& c, const std::string& name,
                    std::int64_t rows, std::int64_t columns) {
  return c.input && c.weight ? temporary(c, name, rows, columns)
                             : kept(c, name, rows, columns);
}

/// Gradients of C(T, n) = A(T, k) W(n, k)': dA = dC W, dW += dC' A.
TensorIndex product_gradients(const Context& c, const Product& product,
                              TensorIndex grad_out) {
  const TensorIndex grad_in =
      temporary(c, product.name + ".grad", c.s.tokens, product.k);
  if (c.input) {
    const TensorIndex w = c.b.weight(product.weight, {product.n, product.k},
                                     Role::parameter, c.layout.dtype);
    c.b.compute(product.name + ".input_gradient", Action::input_gradient,
                kernels::gemm(c.s.tokens, product.k, product.n, c.layout.dtype),
                {grad_out, w}, {grad_in});
  }
  return grad_in;
}

/// `rows`: where the gradient of the product's bias is summed, for a bias
/// that is added after the product's reduction.
void weight_gradient(const Context& c, const Product& product,
                     TensorIndex activation, TensorIndex grad_out,
                     std::optional<TensorIndex> rows = {}) {
  if (!c.weight) return;
  const DType wide = kernels::statistics_type(c.layout.dtype);
  std::vector<TensorIndex> inputs{activation, grad_out};
  std::vector<TensorIndex> outputs{
      c.b.weight(product.weight, {product.n, product.k}, Role::gradient, wide)};
  if (!product.bias.empty()) {
    if (rows) inputs.push_back(*rows);
    outputs.push_back(
        c.b.weight(product.bias, {product.n}, Role::gradient, wide));
  }
  c.b.compute(product.name + ".weight_gradient", Action::weight_gradient,
              kernels::gemm(product.k, product.n, c.s.tokens, c.layout.dtype),
              std::move(inputs), std::move(outputs));
}

OpShape rows(const Context& c, OpKind kind, std::int64_t n,
             std::int64_t columns) {
  return kernels::rows_by_columns(kind, n, columns, c.layout.dtype);
}

/// Gradient of the MLP half: from d(out) to d(y), y being the sum after
/// attention, read from tensor `sum`. The reduction of the input gradient
/// runs beside the weight gradient product.
TensorIndex append_mlp_backward(const Context& c, TensorIndex dout,
                                const std::string& sum) {
  const LayerSizes& s = c.s;
  const TensorIndex act = kept(c, "mlp_act", s.tokens, s.ffn);
  const TensorIndex up = kept(c, "mlp_up", s.tokens, s.up);
  const TensorIndex n2 = kept(c, "norm2", s.shard, s.hidden);
  const TensorIndex dfull =
      gather_rows(c.b, c.layout, s, dout, "mlp.gather_gradient");
  const TensorIndex dact = product_gradients(c, down_product(s), dfull);
  weight_gradient(c, down_product(s), act, dfull, dout);
  const TensorIndex dup = carried(c, "mlp_up.grad_out", s.tokens, s.up);
  OpShape activation = rows(c, OpKind::activation_backward, s.tokens, s.ffn);
  activation.gated = s.gated;
  if (c.input) {
    c.b.compute("activation.backward", Action::activation_gradient, activation,
                {dact, up}, {dup});
  }
  if (c.input) append_eager_gate(c.b, c.layout, s, dup, true);
  const TensorIndex dn = product_gradients(c, up_product(s), dup);
  const TensorIndex whole =
      c.weight ? gather_rows(c.b, c.layout, s, n2, "mlp.regather") : n2;
  const TensorIndex dn2 =
      c.input ? reduce_rows(c.b, c.layout, s, dn, "mlp.reduce_gradient") : dn;
  weight_gradient(c, up_product(s), whole, dup);
  const TensorIndex dy = carried(c, "y.grad", s.shard, s.hidden);
  if (c.input) {
    append_norm_gradient(c.b, c.layout, s, {"norm2", "norm2"},
                         kept(c, sum, s.shard, s.hidden), dn2, dy);
    c.b.compute("add2.backward", Action::add,
                rows(c, OpKind::add, s.shard, s.hidden), {dy, dout}, {dy});
    append_eager_half_backward(c.b, c.layout, s, dy, "norm2.backward");
  }
  return dy;
}

void append_attention_half(const Context& c, TensorIndex dy, TensorIndex dx) {
  const LayerSizes& s = c.s;
  const TensorIndex a = kept(c, "attention", s.tokens, s.heads * s.head_dim);
  const TensorIndex n1 = kept(c, "norm1", s.shard, s.hidden);
  const TensorIndex dfull =
      gather_rows(c.b, c.layout, s, dy, "attention.gather_gradient");
  const TensorIndex da = product_gradients(c, project_product(s), dfull);
  weight_gradient(c, project_product(s), a, dfull, dy);
  const TensorIndex dqkv = carried(c, "qkv.grad_out", s.tokens, s.qkv);
  if (c.input) {
    append_attention_gradient(c.b, c.layout, s, da, dqkv);
    if (s.rotary) {
      c.b.compute("rotary.backward", Action::rotary_gradient,
                  rows(c, OpKind::rotary, s.tokens,
                       (s.heads + s.kv_heads) * s.head_dim),
                  {dqkv}, {dqkv});
      append_eager_rotary(c.b, c.layout, s, dqkv, "rotary.backward");
    }
    append_eager_attention_backward(c.b, c.layout, s, dqkv);
  }
  const TensorIndex dn = product_gradients(c, qkv_product(s), dqkv);
  const TensorIndex whole =
      c.weight ? gather_rows(c.b, c.layout, s, n1, "attention.regather") : n1;
  const TensorIndex dn1 =
      c.input ? reduce_rows(c.b, c.layout, s, dn, "attention.reduce_gradient")
              : dn;
  weight_gradient(c, qkv_product(s), whole, dqkv);
  if (c.input) {
    append_norm_gradient(c.b, c.layout, s, {"norm1", "norm1"},
                         kept(c, "x", s.shard, s.hidden), dn1, dx);
    c.b.compute("add1.backward", Action::add,
                rows(c, OpKind::add, s.shard, s.hidden), {dx, dy}, {dx});
    append_eager_half_backward(c.b, c.layout, s, dx, "norm1.backward");
  }
}

TensorIndex append_cross_backward(const Context& c, TensorIndex dy) {
  const LayerSizes& s = c.s;
  const std::int64_t width = s.heads * s.head_dim;
  const std::int64_t kv = 2 * s.kv_heads * s.head_dim;
  const Product project{"cross.project", "cross.output", "", s.hidden, width};
  const Product in{"cross.qkv", "cross.query+cross.key+cross.value", "",
                   width + kv, s.hidden};
  const TensorIndex saved = kept(c, "cross.out", s.tokens, width);
  const TensorIndex n = kept(c, "cross.norm", s.shard, s.hidden);
  const TensorIndex dfull =
      gather_rows(c.b, c.layout, s, dy, "cross.gather_gradient");
  const TensorIndex da = product_gradients(c, project, dfull);
  weight_gradient(c, project, saved, dfull);
  const TensorIndex dq = carried(c, "cross.q.grad", s.tokens, width + kv);
  if (c.input) {
    c.b.compute("cross.attention.backward",
                attention_shape(OpKind::attention_backward, c.layout, s,
                                s.kv_len, false),
                {da}, {dq});
  }
  const TensorIndex dn = product_gradients(c, in, dq);
  const TensorIndex whole =
      c.weight ? gather_rows(c.b, c.layout, s, n, "cross.regather") : n;
  const TensorIndex sum =
      c.input ? reduce_rows(c.b, c.layout, s, dn, "cross.reduce_gradient") : dn;
  weight_gradient(c, in, whole, dq);
  const TensorIndex out = carried(c, "cross.grad", s.shard, s.hidden);
  if (c.input) {
    c.b.compute("cross.norm.backward",
                rows(c, OpKind::norm_backward, s.shard, s.hidden), {sum},
                {out});
    c.b.compute("cross.add.backward", rows(c, OpKind::add, s.shard, s.hidden),
                {out, dy}, {out});
  }
  return out;
}

/// Makes again what the forward did not keep; `made` is its role.
void append_recomputation(BlockBuilder& b, const models::Model& model,
                          models::LayerKind kind, const Layout& layout,
                          const LayerSizes& s, Role made) {
  if (layout.recompute == strategy::Recompute::full) {
    Layout again = layout;
    again.zero = strategy::Zero::none;  // its weights are gathered already
    append_forward(b, model, kind, again, made);
  } else if (layout.recompute == strategy::Recompute::selective) {
    const TensorIndex qkv = b.kept("qkv", {s.tokens, s.qkv}, layout.dtype);
    const TensorIndex out = b.tensor(
        "attention", {s.tokens, s.heads * s.head_dim}, made, layout.dtype);
    append_attention(b, layout, s, qkv, out, made);
  }
}

}  // namespace

void append_backward(BlockBuilder& b, const models::Model& model,
                     models::LayerKind kind, const Layout& layout,
                     Gradients gradients) {
  const LayerSizes s = layer_sizes(model, kind, layout);
  const Context c{b, layout, s, gradients != Gradients::weight,
                  gradients != Gradients::input};
  const bool scatters = scatters_gradients(layout);
  // Weight gradients alone need no weights.
  if (gathers_weights(layout) && c.input) gather_weights(b, layout, s);
  if (scatters) b.scatter_gradients();
  if (c.input) {
    append_recomputation(b, model, kind, layout, s,
                         c.weight ? Role::temporary : Role::saved);
  }
  const bool both = c.input && c.weight;
  const TensorIndex dout =
      b.tensor("out.grad", {s.shard, s.hidden},
               both ? Role::input : Role::saved, layout.dtype);
  const TensorIndex dx =
      b.tensor("x.grad", {s.shard, s.hidden},
               c.input ? Role::output : Role::temporary, layout.dtype);
  const bool cross = kind == models::LayerKind::cross_decoder;
  const TensorIndex dz =
      append_mlp_backward(c, dout, cross ? "cross.sum" : "y");
  const TensorIndex dy = cross ? append_cross_backward(c, dz) : dz;
  append_attention_half(c, dy, dx);
  if (c.input) {
    b.set_input(dout);
    b.set_output(dx);
  }
  if (c.weight) append_eager_gradients(b, layout, s, dx);
  // An input gradient makes those of norms alone.
  if (scatters) {
    b.reduce_gradients(Scope::data,
                       c.weight ? s.parameters : b.scattered_elements(),
                       layout.dtype);
  }
}

}  // namespace troupe::schedule
