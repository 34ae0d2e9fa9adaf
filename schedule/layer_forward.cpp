#include <algorithm>

#include "schedule/layer_blocks.h"

namespace troupe::schedule {
namespace {

using clusters::Collective;
using kernels::DType;
using kernels::OpKind;
using kernels::OpShape;
using kernels::rows_by_columns;

/// Attention over the encoder's output (cross_decoder layers).
TensorIndex append_cross(BlockBuilder& b, const Layout& layout,
                         const LayerSizes& s, TensorIndex x, Role saved) {
  const DType t = layout.dtype;
  const std::int64_t width = s.heads * s.head_dim;
  const TensorIndex n = b.tensor("cross.norm", {s.shard, s.hidden}, saved, t);
  const TensorIndex q = b.tensor("cross.q", {s.tokens, width}, saved, t);
  const TensorIndex kv =
      b.tensor("cross.kv", {s.tokens, 2 * s.kv_heads * s.head_dim}, saved, t);
  const TensorIndex a = b.tensor("cross.out", {s.tokens, width}, saved, t);
  const TensorIndex p =
      b.tensor("cross.partial", {s.tokens, s.hidden}, Role::temporary, t);
  const TensorIndex y = b.tensor("cross.sum", {s.shard, s.hidden}, saved, t);
  b.compute("cross.norm",
            rows_by_columns(OpKind::norm_forward, s.shard, s.hidden, t), {x},
            {n});
  const TensorIndex g = gather_rows(b, layout, s, n, "cross.gather");
  b.compute("cross.q", kernels::gemm(s.tokens, width, s.hidden, t), {g}, {q});
  b.compute("cross.kv",
            kernels::gemm(s.tokens, 2 * s.kv_heads * s.head_dim, s.hidden, t),
            {g}, {kv});
  b.compute(
      "cross.attention",
      attention_shape(OpKind::attention_forward, layout, s, s.kv_len, false),
      {q, kv}, {a});
  b.compute("cross.project", kernels::gemm(s.tokens, s.hidden, width, t), {a},
            {p});
  const TensorIndex r = reduce_rows(b, layout, s, p, "cross.reduce");
  b.compute("cross.add", rows_by_columns(OpKind::add, s.shard, s.hidden, t),
            {x, r}, {y});
  return y;
}

TensorIndex append_mlp(BlockBuilder& b, const Layout& layout,
                       const LayerSizes& s, TensorIndex y, Role saved) {
  const DType t = layout.dtype;
  const TensorIndex n2 = b.tensor("norm2", {s.shard, s.hidden}, saved, t);
  const TensorIndex up = b.tensor("mlp_up", {s.tokens, s.up}, saved, t);
  const TensorIndex act = b.tensor("mlp_act", {s.tokens, s.ffn}, saved, t);
  const TensorIndex down =
      b.tensor("mlp_down", {s.tokens, s.hidden}, Role::temporary, t);
  const TensorIndex out = b.tensor("out", {s.shard, s.hidden}, Role::output, t);
  append_norm(b, layout, s, {"norm2", "norm2"}, y, n2, saved);
  append_eager_norm(b, layout, s, y, "norm2");
  const TensorIndex g = gather_rows(b, layout, s, n2, "mlp.gather");
  append_product(b, layout, s, up_product(s), g, up);
  OpShape activation =
      rows_by_columns(OpKind::activation_forward, s.tokens, s.ffn, t);
  activation.gated = s.gated;
  b.compute("activation", Action::activation, activation, {up}, {act});
  append_eager_gate(b, layout, s, act, false);
  append_product(b, layout, s, down_product(s), act, down);
  const TensorIndex r = reduce_rows(b, layout, s, down, "mlp.reduce");
  append_sum(b, layout, s, "add2", {y, r}, down_product(s).bias, out);
  append_eager_sum(b, layout, s, out, "add2");
  return out;
}

}  // namespace

LayerSizes layer_sizes(const models::Model& model, models::LayerKind kind,
                       const Layout& layout) {
  LayerSizes s;
  const std::int64_t tp = layout.tp;
  s.tokens = layout.tokens;
  s.widest = std::max(layout.widest, layout.tokens);
  s.sequence_parallel = layout.sequence_parallel && tp > 1;
  s.shard = s.sequence_parallel ? ceil_div(layout.tokens, tp) : layout.tokens;
  s.hidden = model.hidden;
  s.heads = ceil_div(model.heads, tp);
  s.kv_heads = std::max<std::int64_t>(model.kv_heads / tp, 1);
  s.head_dim = model.head_dim;
  s.qkv = (s.heads + 2 * s.kv_heads) * s.head_dim;
  s.ffn = ceil_div(model.ffn, tp);
  s.gated = models::gated(model.activation);
  s.up = s.gated ? 2 * s.ffn : s.ffn;
  s.sequences = layout.micro_batch;
  s.q_len = ceil_div(layout.tokens, layout.micro_batch);
  s.kv_len = layout.seq_len;
  s.causal = kind != models::LayerKind::encoder;
  s.window = models::window_of(model, kind, layout.seq_len);
  s.rms = model.norm == models::Norm::rms;
  s.rotary = model.positions == models::Positions::rotary;
  s.qkv_bias = model.qkv_bias;
  s.out_bias = model.attention_out_bias;
  s.mlp_bias = model.mlp_bias;
  s.parameters = models::layer_parameters(model, kind).on_rank(tp);
  return s;
}

TensorIndex gather_rows(BlockBuilder& b, const Layout& layout,
                        const LayerSizes& s, TensorIndex shard,
                        const std::string& name) {
  if (!s.sequence_parallel) return shard;
  const TensorIndex whole =
      b.tensor(name, {s.tokens, s.hidden}, Role::temporary, layout.dtype);
  b.communicate(
      name,
      {.collective = Collective::all_gather,
       .scope = Scope::tensor,
       .bytes = kernels::size_of(layout.dtype) * (s.tokens * s.hidden)},
      {shard}, {whole});
  return whole;
}

TensorIndex reduce_rows(BlockBuilder& b, const Layout& layout,
                        const LayerSizes& s, TensorIndex partial,
                        const std::string& name) {
  if (layout.tp == 1) return partial;
  const TensorIndex sum =
      b.tensor(name, {s.shard, s.hidden}, Role::temporary, layout.dtype);
  b.communicate(
      name,
      {.collective = s.sequence_parallel ? Collective::reduce_scatter
                                         : Collective::all_reduce,
       .scope = Scope::tensor,
       .bytes = kernels::size_of(layout.dtype) * (s.tokens * s.hidden)},
      {partial}, {sum});
  return sum;
}

bool gathers_weights(const Layout& layout) {
  return layout.zero == strategy::Zero::three && layout.replicas > 1;
}

bool scatters_gradients(const Layout& layout) {
  return layout.zero >= strategy::Zero::two && layout.replicas > 1;
}

void gather_weights(BlockBuilder& b, const Layout& layout,
                    const LayerSizes& s) {
  b.gather_weights(Scope::data, kernels::size_of(layout.dtype) * s.parameters);
}

void append_forward(BlockBuilder& b, const models::Model& model,
                    models::LayerKind kind, const Layout& layout,
                    std::optional<Role> again) {
  const LayerSizes s = layer_sizes(model, kind, layout);
  const DType t = layout.dtype;
  const bool all = layout.recompute != strategy::Recompute::full;
  const bool core = layout.recompute == strategy::Recompute::none;
  const Role saved = again.value_or(all ? Role::saved : Role::temporary);
  const Role core_saved = again.value_or(core ? Role::saved : Role::temporary);
  const std::int64_t width = s.heads * s.head_dim;

  const TensorIndex x = b.kept("x", {s.shard, s.hidden}, t);
  if (!again) b.set_input(x);
  if (gathers_weights(layout)) {
    gather_weights(b, layout, s);
  }
  append_eager_weights(b, layout, s);
  const TensorIndex n1 = b.tensor("norm1", {s.shard, s.hidden}, saved, t);
  const TensorIndex qkv = b.tensor("qkv", {s.tokens, s.qkv}, saved, t);
  const TensorIndex a = b.tensor("attention", {s.tokens, width}, core_saved, t);
  const TensorIndex p =
      b.tensor("project", {s.tokens, s.hidden}, Role::temporary, t);
  const TensorIndex y = b.tensor("y", {s.shard, s.hidden}, saved, t);
  append_norm(b, layout, s, {"norm1", "norm1"}, x, n1, saved);
  append_eager_norm(b, layout, s, x, "norm1");
  const TensorIndex g = gather_rows(b, layout, s, n1, "attention.gather");
  append_product(b, layout, s, qkv_product(s), g, qkv);
  if (s.rotary) {
    b.compute("rotary", Action::rotary,
              rows_by_columns(OpKind::rotary, s.tokens,
                              (s.heads + s.kv_heads) * s.head_dim, t),
              {qkv}, {qkv});
    append_eager_rotary(b, layout, s, qkv, "rotary");
  }
  append_attention(b, layout, s, qkv, a, core_saved);
  append_product(b, layout, s, project_product(s), a, p);
  const TensorIndex r = reduce_rows(b, layout, s, p, "attention.reduce");
  append_sum(b, layout, s, "add1", {x, r}, project_product(s).bias, y);
  append_eager_sum(b, layout, s, y, "add1");
  const TensorIndex z = kind == models::LayerKind::cross_decoder
                            ? append_cross(b, layout, s, y, saved)
                            : y;
  const TensorIndex out = append_mlp(b, layout, s, z, saved);
  if (!again) b.set_output(out);
}

}  // namespace troupe::schedule
