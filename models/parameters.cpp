#include "models/parameters.h"

#include <fmt/format.h>

#include <utility>

namespace troupe::models {
namespace {

using Shape = std::vector<std::int64_t>;

/// Adds the parameters of one place.
class List {
 public:
  List(std::string prefix, int layer)
      : prefix_(std::move(prefix)), layer_(layer) {}

  void whole(const std::string& name, Shape shape, ParameterRole role) {
    list_.push_back(
        {prefix_ + name, layer_, std::move(shape), Cut::none, 0, role});
  }
  void cut(const std::string& name, Shape shape, int dimension,
           ParameterRole role = ParameterRole::matrix, Cut how = Cut::along) {
    list_.push_back(
        {prefix_ + name, layer_, std::move(shape), how, dimension, role});
  }
  void norm(const Model& m, const std::string& name) {
    whole(name + ".scale", {m.hidden}, ParameterRole::scale);
    if (m.norm == Norm::layer) {
      whole(name + ".bias", {m.hidden}, ParameterRole::bias);
    }
  }
  void attention(const Model& m, const std::string& name);
  void mlp(const Model& m);
  std::vector<Parameter> take() { return std::move(list_); }

 private:
  std::string prefix_;
  int layer_;
  std::vector<Parameter> list_;
};

void List::attention(const Model& m, const std::string& name) {
  const auto bias = ParameterRole::bias;
  cut(name + ".query", {m.heads, m.head_dim, m.hidden}, 0);
  for (const char* part : {".key", ".value"}) {
    cut(name + part, {m.kv_heads, m.head_dim, m.hidden}, 0,
        ParameterRole::matrix, Cut::kv_heads);
  }
  cut(name + ".output", {m.hidden, m.heads, m.head_dim}, 1);
  if (m.qkv_bias) {
    cut(name + ".query.bias", {m.heads, m.head_dim}, 0, bias);
    cut(name + ".key.bias", {m.kv_heads, m.head_dim}, 0, bias, Cut::kv_heads);
    cut(name + ".value.bias", {m.kv_heads, m.head_dim}, 0, bias, Cut::kv_heads);
  }
  if (m.attention_out_bias) whole(name + ".output.bias", {m.hidden}, bias);
}

void List::mlp(const Model& m) {
  const auto bias = ParameterRole::bias;
  if (gated(m.activation)) {
    cut("mlp.gate", {m.ffn, m.hidden}, 0);
    if (m.mlp_bias) cut("mlp.gate.bias", {m.ffn}, 0, bias);
  }
  cut("mlp.up", {m.ffn, m.hidden}, 0);
  if (m.mlp_bias) cut("mlp.up.bias", {m.ffn}, 0, bias);
  cut("mlp.down", {m.hidden, m.ffn}, 1);
  if (m.mlp_bias) whole("mlp.down.bias", {m.hidden}, bias);
}

bool two_stacks(const Model& m) {
  return m.encoder_layers > 0 && m.encoder_layers < m.layers;
}

void append(std::vector<Parameter>& to, std::vector<Parameter> from) {
  to.insert(to.end(), std::make_move_iterator(from.begin()),
            std::make_move_iterator(from.end()));
}

}  // namespace

std::int64_t Parameter::elements() const {
  std::int64_t product = 1;
  for (const std::int64_t size : shape) product *= size;
  return product;
}

std::vector<Parameter> layer_parameter_list(const Model& model, int layer) {
  List list(fmt::format("layers.{}.", layer), layer);
  list.norm(model, "norm1");
  list.attention(model, "attention");
  if (layer_kind(model, layer) == LayerKind::cross_decoder) {
    list.norm(model, "cross.norm");
    list.attention(model, "cross");
  }
  list.norm(model, "norm2");
  list.mlp(model);
  return list.take();
}

std::vector<Parameter> embedding_parameter_list(const Model& model) {
  List list("embedding.", kEmbedding);
  list.cut("tokens", {model.vocab, model.hidden}, 0, ParameterRole::table);
  if (model.max_positions > 0) {
    list.whole("positions", {model.max_positions, model.hidden},
               ParameterRole::table);
  }
  if (model.token_types > 0) {
    list.whole("token_types", {model.token_types, model.hidden},
               ParameterRole::table);
  }
  if (model.relative_buckets > 0) {
    for (int stack = 0; stack < (two_stacks(model) ? 2 : 1); ++stack) {
      list.whole(fmt::format("relative.{}", stack),
                 {model.relative_buckets, model.heads}, ParameterRole::table);
    }
  }
  if (model.embedding_norm) list.norm(model, "norm");
  return list.take();
}

std::vector<Parameter> head_parameter_list(const Model& model) {
  const auto bias = ParameterRole::bias;
  List list("head.", kHead);
  if (model.final_norm) {
    if (two_stacks(model)) list.norm(model, "encoder_norm");
    list.norm(model, "norm");
  }
  const auto square = [&](const std::string& name) {
    list.whole(name, {model.hidden, model.hidden}, ParameterRole::matrix);
    list.whole(name + ".bias", {model.hidden}, bias);
  };
  if (model.head_transform) {
    square("transform");
    list.norm(model, "transform.norm");
  }
  if (model.pooler) square("pooler");
  if (model.pair_head) {
    list.whole("pair", {2, model.hidden}, ParameterRole::matrix);
    list.whole("pair.bias", {2}, bias);
  }
  if (!model.tied_embeddings) {
    list.cut("output", {model.vocab, model.hidden}, 0);
  }
  if (model.head_bias) list.cut("output.bias", {model.vocab}, 0, bias);
  return list.take();
}

std::vector<Parameter> parameter_list(const Model& model) {
  std::vector<Parameter> all = embedding_parameter_list(model);
  for (int layer = 0; layer < model.layers; ++layer) {
    append(all, layer_parameter_list(model, layer));
  }
  append(all, head_parameter_list(model));
  return all;
}

}  // namespace troupe::models
