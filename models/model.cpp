#include "models/model.h"

#include <algorithm>

namespace troupe::models {
namespace {

using Count = std::int64_t;

Count norm_size(const Model& m) {
  return m.norm == Norm::layer ? 2 * Count{m.hidden} : Count{m.hidden};
}
Count query_width(const Model& m) { return Count{m.heads} * m.head_dim; }
Count key_width(const Model& m) { return Count{m.kv_heads} * m.head_dim; }

/// Encoder and decoder are two stacks, each with its final norm.
Count stacks(const Model& m) {
  return m.encoder_layers > 0 && m.encoder_layers < m.layers ? 2 : 1;
}

ParameterCount attention_parameters(const Model& m) {
  const Count h = m.hidden;
  const Count q = query_width(m);
  const Count kv = key_width(m);
  ParameterCount count{
      .split = h * q + q * h, .key_value = 2 * h * kv, .kv_heads = m.kv_heads};
  if (m.qkv_bias) {
    count.split += q;
    count.key_value += 2 * kv;
  }
  if (m.attention_out_bias) count.repeated += h;
  return count;
}

ParameterCount mlp_parameters(const Model& m) {
  const Count h = m.hidden;
  const Count f = m.ffn;
  const Count inputs = gated(m.activation) ? 2 : 1;
  ParameterCount count{.split = (inputs + 1) * h * f};
  if (m.mlp_bias) {
    count.split += inputs * f;
    count.repeated += h;
  }
  return count;
}

double to_double(Count n) { return static_cast<double>(n); }

/// Matrix elements of one layer that every token is multiplied with.
double layer_matrices(const Model& m, LayerKind kind) {
  const Count h = m.hidden;
  const Count attention = 2 * h * (query_width(m) + key_width(m));
  const Count attentions = kind == LayerKind::cross_decoder ? 2 : 1;
  const Count mlp = (gated(m.activation) ? 3 : 2) * h * Count{m.ffn};
  return to_double(attentions * attention + mlp);
}

/// Forward FLOPs of one layer; a causal square counts `causal_share`.
double layer_forward(const Model& m, LayerKind kind, Count tokens,
                     Count seq_len, double causal_share) {
  const double square = 4.0 * to_double(seq_len) * to_double(query_width(m));
  double attention = 0;
  switch (kind) {
    case LayerKind::encoder:
      attention = square;
      break;
    case LayerKind::decoder:
      attention = square * causal_share;
      break;
    case LayerKind::cross_decoder:
      attention = square * causal_share + square;
      break;
  }
  return to_double(tokens) * (2.0 * layer_matrices(m, kind) + attention);
}

Flops training_flops(const Model& m, Count tokens, Count seq_len,
                     double causal_share) {
  const int decoders = m.layers - m.encoder_layers;
  double forward = head_forward_flops(m, tokens).v;
  if (m.encoder_layers > 0) {
    forward += m.encoder_layers * layer_forward(m, LayerKind::encoder, tokens,
                                                seq_len, causal_share);
  }
  if (decoders > 0) {
    forward += decoders * layer_forward(m, layer_kind(m, m.layers - 1), tokens,
                                        seq_len, causal_share);
  }
  return {3.0 * forward};
}

}  // namespace

std::int64_t ParameterCount::key_parts(std::int64_t tp) const {
  return std::min(tp, std::int64_t{kv_heads});
}

std::int64_t ParameterCount::on_rank(std::int64_t tp) const {
  return ceil_div(split, tp) + repeated + ceil_div(key_value, key_parts(tp));
}

ParameterCount operator+(const ParameterCount& a, const ParameterCount& b) {
  return {a.split + b.split, a.repeated + b.repeated, a.key_value + b.key_value,
          std::max(a.kv_heads, b.kv_heads)};
}

LayerKind layer_kind(const Model& model, int layer) {
  if (layer < model.encoder_layers) return LayerKind::encoder;
  return model.encoder_layers > 0 ? LayerKind::cross_decoder
                                  : LayerKind::decoder;
}

bool gated(Activation activation) {
  switch (activation) {
    case Activation::swiglu:
    case Activation::geglu:
      return true;
    case Activation::gelu:
    case Activation::relu:
      return false;
  }
  return false;
}

ParameterCount layer_parameters(const Model& model, LayerKind kind) {
  ParameterCount count = attention_parameters(model) + mlp_parameters(model);
  count.repeated += 2 * norm_size(model);
  if (kind == LayerKind::cross_decoder) {
    count = count + attention_parameters(model);
    count.repeated += norm_size(model);
  }
  return count;
}

ParameterCount embedding_parameters(const Model& model) {
  const Count h = model.hidden;
  ParameterCount count{.split = Count{model.vocab} * h};
  count.repeated = (Count{model.max_positions} + model.token_types) * h +
                   stacks(model) * model.relative_buckets * model.heads;
  if (model.embedding_norm) count.repeated += norm_size(model);
  return count;
}

ParameterCount head_parameters(const Model& model) {
  const Count h = model.hidden;
  ParameterCount count;
  if (model.final_norm) count.repeated += stacks(model) * norm_size(model);
  if (model.head_transform) count.repeated += h * h + h + norm_size(model);
  if (model.pooler) count.repeated += h * h + h;
  if (model.pair_head) count.repeated += 2 * h + 2;
  if (!model.tied_embeddings) count.split += Count{model.vocab} * h;
  if (model.head_bias) count.split += model.vocab;
  return count;
}

std::int64_t tied_copy(const Model& model) {
  return model.tied_embeddings ? Count{model.vocab} * model.hidden : 0;
}

std::int64_t parameters(const Model& model) {
  Count total =
      embedding_parameters(model).total() + head_parameters(model).total();
  const Count decoders = model.layers - model.encoder_layers;
  total += Count{model.encoder_layers} *
           layer_parameters(model, LayerKind::encoder).total();
  if (decoders > 0) {
    const LayerKind kind = layer_kind(model, model.layers - 1);
    total += decoders * layer_parameters(model, kind).total();
  }
  return total;
}

Flops model_flops(const Model& model, std::int64_t tokens,
                  std::int64_t seq_len) {
  return training_flops(model, tokens, seq_len, 0.5);
}

Flops model_flops_full_attention(const Model& model, std::int64_t tokens,
                                 std::int64_t seq_len) {
  return training_flops(model, tokens, seq_len, 1.0);
}

Flops layer_forward_flops(const Model& model, LayerKind kind,
                          std::int64_t tokens, std::int64_t seq_len) {
  return {layer_forward(model, kind, tokens, seq_len, 0.5)};
}

Flops head_forward_flops(const Model& model, std::int64_t tokens) {
  const double h = model.hidden;
  const double transform = model.head_transform ? h * h : 0.0;
  return {2.0 * to_double(tokens) * (h * model.vocab + transform)};
}

}  // namespace troupe::models
