#include <algorithm>

#include "schedule/layer_blocks.h"

namespace troupe::schedule {
namespace {

using clusters::Collective;
using kernels::DType;
using kernels::OpKind;
using kernels::OpShape;

std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

OpShape attention(const Layout& layout, const LayerSizes& s,
                  std::int64_t kv_len, bool causal) {
  OpShape op{.kind = OpKind::attention_forward, .dtype = layout.dtype};
  op.causal = causal;
  op.attention = layout.attention_kernel;
  op.dim = {s.sequences, s.q_len, kv_len, s.heads, s.kv_heads, s.head_dim};
  return op;
}

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
  const OpShape pass = rows_by_columns(OpKind::copy, rows, s.kv_len, t);
  b.compute("attention.scores",
            kernels::gemm(s.q_len, s.kv_len, s.head_dim, t, batch), {q, qkv},
            {scores});
  b.compute("attention.mask", pass, {scores}, {scores});
  b.compute("attention.softmax", pass, {scores}, {shares});
  b.compute("attention.dropout", pass, {shares}, {dropped});
  b.compute("attention.mix",
            kernels::gemm(s.q_len, s.head_dim, s.kv_len, t, batch),
            {dropped, qkv}, {out});
}

/// Attention over the encoder's output (cross_decoder layers).
TensorIndex append_cross(BlockBuilder& b, const models::Model&,
                         const Layout& layout, const LayerSizes& s,
                         TensorIndex x, Role saved) {
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
  b.compute("cross.attention", attention(layout, s, s.kv_len, false), {q, kv},
            {a});
  b.compute("cross.project", kernels::gemm(s.tokens, s.hidden, width, t), {a},
            {p});
  const TensorIndex r = reduce_rows(b, layout, s, p, "cross.reduce");
  b.compute("cross.add", rows_by_columns(OpKind::add, s.shard, s.hidden, t),
            {x, r}, {y});
  return y;
}

void append_mlp(BlockBuilder& b, const Layout& layout, const LayerSizes& s,
                TensorIndex y, Role saved) {
  const DType t = layout.dtype;
  const TensorIndex n2 = b.tensor("norm2", {s.shard, s.hidden}, saved, t);
  const TensorIndex up = b.tensor("mlp_up", {s.tokens, s.up}, saved, t);
  const TensorIndex act = b.tensor("mlp_act", {s.tokens, s.ffn}, saved, t);
  const TensorIndex down =
      b.tensor("mlp_down", {s.tokens, s.hidden}, Role::temporary, t);
  const TensorIndex out = b.tensor("out", {s.shard, s.hidden}, Role::output, t);
  b.compute("norm2",
            rows_by_columns(OpKind::norm_forward, s.shard, s.hidden, t), {y},
            {n2});
  append_eager_norm(b, layout, s, y, "norm2");
  const TensorIndex g = gather_rows(b, layout, s, n2, "mlp.gather");
  b.compute("mlp_up", kernels::gemm(s.tokens, s.up, s.hidden, t), {g}, {up});
  OpShape activation =
      rows_by_columns(OpKind::activation_forward, s.tokens, s.ffn, t);
  activation.gated = s.gated;
  b.compute("activation", activation, {up}, {act});
  append_eager_gate(b, layout, s, act, false);
  b.compute("mlp_down", kernels::gemm(s.tokens, s.hidden, s.ffn, t), {act},
            {down});
  const TensorIndex r = reduce_rows(b, layout, s, down, "mlp.reduce");
  b.compute("add2", rows_by_columns(OpKind::add, s.shard, s.hidden, t), {y, r},
            {out});
  append_eager_sum(b, layout, s, out, "add2");
}

}  // namespace

LayerSizes layer_sizes(const models::Model& model, models::LayerKind kind,
                       const Layout& layout) {
  LayerSizes s;
  const std::int64_t tp = layout.tp;
  s.tokens = layout.tokens;
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
  const models::ParameterCount p = models::layer_parameters(model, kind);
  s.parameters = ceil_div(p.split, tp) + p.repeated;
  return s;
}

TensorIndex gather_rows(BlockBuilder& b, const Layout& layout,
                        const LayerSizes& s, TensorIndex shard,
                        const std::string& name) {
  if (!s.sequence_parallel) return shard;
  const TensorIndex whole =
      b.tensor(name, {s.tokens, s.hidden}, Role::temporary, layout.dtype);
  b.communicate(name,
                {Collective::all_gather, Scope::tensor,
                 kernels::size_of(layout.dtype) * (s.tokens * s.hidden)},
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
      {s.sequence_parallel ? Collective::reduce_scatter
                           : Collective::all_reduce,
       Scope::tensor, kernels::size_of(layout.dtype) * (s.tokens * s.hidden)},
      {partial}, {sum});
  return sum;
}

void append_attention(BlockBuilder& b, const Layout& layout,
                      const LayerSizes& s, TensorIndex qkv, TensorIndex out,
                      Role saved) {
  const DType dtype = layout.dtype;
  if (!layout.flash_attention) {
    append_unfused(b, layout, s, qkv, out, saved);
    return;
  }
  const TensorIndex stats =
      b.tensor("statistics", {s.tokens, s.heads}, saved, DType::fp32);
  if (layout.cp == 1) {
    b.compute("attention", attention(layout, s, s.kv_len, s.causal), {qkv},
              {out, stats});
    return;
  }
  b.compute("attention.0", attention(layout, s, s.q_len, s.causal), {qkv},
            {out, stats});
  const std::int64_t others = ceil_div(s.kv_len - s.q_len, layout.cp - 1);
  const std::int64_t kv = s.causal ? ceil_div(others, 2) : others;
  const std::int64_t width = 2 * s.kv_heads * s.head_dim;
  TensorIndex held = qkv;
  for (int round = 1; round < layout.cp; ++round) {
    const std::string n = std::to_string(round);
    const TensorIndex arrived = b.tensor(
        "kv." + n, {s.sequences * others, width}, Role::temporary, dtype);
    b.communicate("kv_shift." + n,
                  {Collective::ring_shift, Scope::context,
                   kernels::size_of(dtype) * (s.sequences * others * width)},
                  {held}, {arrived});
    b.compute("attention." + n,
              attention(layout, s, std::max<std::int64_t>(kv, 1), false),
              {qkv, arrived}, {out, stats});
    held = arrived;
  }
}

void gather_weights(BlockBuilder& b, const Layout& layout,
                    const LayerSizes& s) {
  const TensorIndex w =
      b.tensor("weights", {s.parameters}, Role::temporary, layout.dtype);
  b.communicate("weights.gather",
                {Collective::all_gather, Scope::data,
                 kernels::size_of(layout.dtype) * s.parameters, true},
                {}, {w});
  b.require_next(w);
}

void append_forward(BlockBuilder& b, const models::Model& model,
                    models::LayerKind kind, const Layout& layout, bool keep) {
  const LayerSizes s = layer_sizes(model, kind, layout);
  const DType t = layout.dtype;
  const bool all = keep && layout.recompute != strategy::Recompute::full;
  const bool core = all && layout.recompute == strategy::Recompute::none;
  const Role saved = all ? Role::saved : Role::temporary;
  const Role core_saved = core ? Role::saved : Role::temporary;
  const std::int64_t width = s.heads * s.head_dim;

  const TensorIndex x =
      b.tensor("x", {s.shard, s.hidden}, keep ? Role::saved : Role::input, t);
  if (layout.zero == strategy::Zero::three && layout.replicas > 1) {
    gather_weights(b, layout, s);
  }
  append_eager_weights(b, layout, s);
  const TensorIndex n1 = b.tensor("norm1", {s.shard, s.hidden}, saved, t);
  const TensorIndex qkv = b.tensor("qkv", {s.tokens, s.qkv}, saved, t);
  const TensorIndex a = b.tensor("attention", {s.tokens, width}, core_saved, t);
  const TensorIndex p =
      b.tensor("project", {s.tokens, s.hidden}, Role::temporary, t);
  const TensorIndex y = b.tensor("y", {s.shard, s.hidden}, saved, t);
  b.compute("norm1",
            rows_by_columns(OpKind::norm_forward, s.shard, s.hidden, t), {x},
            {n1});
  append_eager_norm(b, layout, s, x, "norm1");
  const TensorIndex g = gather_rows(b, layout, s, n1, "attention.gather");
  b.compute("qkv", kernels::gemm(s.tokens, s.qkv, s.hidden, t), {g}, {qkv});
  if (model.positions == models::Positions::rotary) {
    b.compute("rotary",
              rows_by_columns(OpKind::rotary, s.tokens,
                              (s.heads + s.kv_heads) * s.head_dim, t),
              {qkv}, {qkv});
    append_eager_rotary(b, layout, s, qkv, "rotary");
  }
  append_attention(b, layout, s, qkv, a, core_saved);
  b.compute("project", kernels::gemm(s.tokens, s.hidden, width, t), {a}, {p});
  const TensorIndex r = reduce_rows(b, layout, s, p, "attention.reduce");
  b.compute("add1", rows_by_columns(OpKind::add, s.shard, s.hidden, t), {x, r},
            {y});
  append_eager_sum(b, layout, s, y, "add1");
  const TensorIndex z = kind == models::LayerKind::cross_decoder
                            ? append_cross(b, model, layout, s, y, saved)
                            : y;
  append_mlp(b, layout, s, z, saved);
}

}  // namespace troupe::schedule
