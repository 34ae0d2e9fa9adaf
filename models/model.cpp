#include "models/model.h"

#include <algorithm>

#include "kernels/operator.h"

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

/// How causal attention is counted.
enum class Causal : std::uint8_t { what_is_seen, full_square };

/// Keys that a token meets on average in a layer of the kind.
double keys_per_token(const Model& m, LayerKind kind, Count seq_len,
                      Causal causal) {
  const double all = to_double(seq_len);
  if (kind == LayerKind::encoder || seq_len == 0) return all;
  double own = all;
  if (causal == Causal::what_is_seen) {
    // Of a window w, all but the first w tokens see w; the diagonal counts
    // half.
    const double w = to_double(window_of(m, kind, seq_len));
    own = w > 0 ? w - w * w / (2 * all) : all / 2;
  }
  return kind == LayerKind::cross_decoder ? own + all : own;
}

/// Forward FLOPs of one layer.
double layer_forward(const Model& m, LayerKind kind, Count tokens,
                     Count seq_len, Causal causal) {
  const double attention = 4.0 * keys_per_token(m, kind, seq_len, causal) *
                           to_double(query_width(m));
  return to_double(tokens) * (2.0 * layer_matrices(m, kind) + attention);
}

Flops training_flops(const Model& m, Count tokens, Count seq_len,
                     Causal causal) {
  double forward = head_forward_flops(m, tokens).v;
  for (const auto& [kind, layers] : layer_counts(m)) {
    forward += layers * layer_forward(m, kind, tokens, seq_len, causal);
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
  if (model.encoder_layers > 0) return LayerKind::cross_decoder;
  const int every = model.full_attention_every;
  const bool full = model.attention_window == 0 ||
                    layer < model.full_attention_first ||
                    (every > 0 && (layer + 1) % every == 0);
  return full ? LayerKind::decoder : LayerKind::local_decoder;
}

std::vector<std::pair<LayerKind, int>> layer_counts(const Model& model) {
  std::vector<std::pair<LayerKind, int>> counts;
  for (int layer = 0; layer < model.layers; ++layer) {
    const LayerKind kind = layer_kind(model, layer);
    const auto at = std::ranges::find(
        counts, kind, [](const auto& count) { return count.first; });
    if (at != counts.end()) {
      ++at->second;
    } else {
      counts.emplace_back(kind, 1);
    }
  }
  return counts;
}

std::int64_t window_of(const Model& model, LayerKind kind,
                       std::int64_t seq_len) {
  if (kind != LayerKind::local_decoder) return 0;
  return kernels::effective_window(model.attention_window, seq_len);
}

bool gated(Activation activation) {
  switch (activation) {
    case Activation::swiglu:
    case Activation::geglu:
      return true;
    case Activation::gelu:
    case Activation::gelu_tanh:
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
  for (const auto& [kind, layers] : layer_counts(model)) {
    total += layers * layer_parameters(model, kind).total();
  }
  return total;
}

Flops model_flops(const Model& model, std::int64_t tokens,
                  std::int64_t seq_len) {
  return training_flops(model, tokens, seq_len, Causal::what_is_seen);
}

Flops model_flops_full_attention(const Model& model, std::int64_t tokens,
                                 std::int64_t seq_len) {
  return training_flops(model, tokens, seq_len, Causal::full_square);
}

Flops layer_forward_flops(const Model& model, LayerKind kind,
                          std::int64_t tokens, std::int64_t seq_len) {
  return {layer_forward(model, kind, tokens, seq_len, Causal::what_is_seen)};
}

Flops head_forward_flops(const Model& model, std::int64_t tokens) {
  const double h = model.hidden;
  const double transform = model.head_transform ? h * h : 0.0;
  return {2.0 * to_double(tokens) * (h * model.vocab + transform)};
}

}  // namespace troupe::models
