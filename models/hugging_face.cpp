#include "models/hugging_face.h"

#include <fmt/format.h>

#include <array>
#include <vector>

#include "base/text.h"
#include "models/limits.h"

namespace troupe::models {
namespace {

constexpr Limits kSize{1, 1 << 22};
constexpr Limits kTable{1, 1 << 26};

/// config.json writes null for "not set".
Json without_nulls(const Json& json) {
  Json out = Json::object();
  for (const auto& [key, value] : json.items()) {
    if (!value.is_null()) out[key] = value;
  }
  return out;
}

/// "LlamaForCausalLM", or empty.
std::string architecture_of(const Json& json) {
  const auto it = json.find("architectures");
  if (it == json.end() || !it->is_array() || it->empty()) return {};
  const Json& first = it->front();
  return first.is_string() ? first.get<std::string>() : std::string();
}

void set_all_biases(Model& m, bool value) {
  m.qkv_bias = m.attention_out_bias = m.mlp_bias = value;
}

/// Hidden size over heads, the default head size everywhere.
void read_head_dim(JsonObject& o, Model& m) {
  if (!o.has("head_dim") && m.hidden % m.heads != 0) {
    o.findings().error(o.where("head_dim"),
                       fmt::format("missing, and the hidden size {} is not a "
                                   "multiple of {} heads",
                                   m.hidden, m.heads));
  }
  m.head_dim = o.small("head_dim", kSize, std::max(1, m.hidden / m.heads));
}

/// Gated by silu (SwiGLU) or gelu (GeGLU).
Activation gated_activation(JsonObject& o, const char* key) {
  const std::string name = o.text(key, "silu");
  if (name == "silu" || name == "swish") return Activation::swiglu;
  if (name.starts_with("gelu")) return Activation::geglu;
  o.findings().error(
      o.where(key),
      fmt::format("unsupported '{}'; supported: silu, gelu", excerpt(name)));
  return Activation::swiglu;
}

Activation plain_activation(JsonObject& o, const char* key) {
  const std::string name = o.text(key, "gelu");
  if (name == "gelu_new" || name == "gelu_fast" ||
      name == "gelu_pytorch_tanh") {
    return Activation::gelu_tanh;
  }
  if (name.starts_with("gelu")) return Activation::gelu;
  if (name == "relu") return Activation::relu;
  o.findings().error(
      o.where(key),
      fmt::format("unsupported '{}'; supported: gelu, relu", excerpt(name)));
  return Activation::gelu;
}

/// Sliding windows: of all layers (Mistral), of those after the first few
/// (Qwen2).
void read_window(JsonObject& o, Model& m, const std::string& type) {
  const int window = o.small("sliding_window", {0, 1 << 30}, 0);
  if (type == "mistral") m.attention_window = window;
  if (type != "qwen2" || !o.boolean("use_sliding_window", false)) return;
  const int first = o.small("max_window_layers", {0, kLayers.most}, 28);
  if (first >= m.layers) return;
  m.attention_window = window;
  m.full_attention_first = window > 0 ? first : 0;
}

/// The base, and the scaling of Llama 3.1. Newer files have one object for
/// both. Other scalings change numbers and no cost: they are only noted.
void read_rotary(JsonObject& o, Model& m) {
  auto both = o.object("rope_parameters", true);
  JsonObject& base = both ? *both : o;
  m.rotary_base = base.real("rope_theta", kRotaryBase, 10000);
  auto scaling = both ? both : o.object("rope_scaling", true);
  if (!scaling) return;
  const std::string old = scaling->text("type", "default");
  const std::string type = scaling->text("rope_type", old);
  if (type == "llama3") {
    kernels::RotaryScaling& s = m.rotary_scaling;
    s.factor = scaling->real("factor", kScaling);
    s.low = scaling->real("low_freq_factor", kScaling, s.low);
    s.high = scaling->real("high_freq_factor", kScaling, s.high);
    s.original =
        scaling->real("original_max_position_embeddings", kScaling, m.seq_len);
  } else if (type != "default") {
    m.source += fmt::format("; its rotary scaling of type {} is not computed",
                            excerpt(type));
  }
}

/// Llama, Mistral and Qwen2: pre-norm, rotary, gated.
void read_llama(JsonObject& o, Model& m, const std::string& type) {
  m.layers = o.small("num_hidden_layers", kLayers);
  m.hidden = o.small("hidden_size", kSize);
  m.heads = o.small("num_attention_heads", kSize);
  m.kv_heads = o.small("num_key_value_heads", kSize, m.heads);
  read_head_dim(o, m);
  m.ffn = o.small("intermediate_size", kSize);
  m.vocab = o.small("vocab_size", kTable);
  m.seq_len = o.small("max_position_embeddings", {1, 1 << 30}, 2048);
  m.activation = gated_activation(o, "hidden_act");
  m.tied_embeddings = o.boolean("tie_word_embeddings", false);
  if (type == "qwen2") {
    m.qkv_bias = true;
  } else if (type == "llama") {
    m.qkv_bias = m.attention_out_bias = o.boolean("attention_bias", false);
    m.mlp_bias = o.boolean("mlp_bias", false);
  }
  m.norm_epsilon = o.real("rms_norm_eps", kEpsilon, 1e-6);
  read_rotary(o, m);
  read_window(o, m, type);
}

void read_gpt2(JsonObject& o, Model& m) {
  m.layers = o.small("n_layer", kLayers, 12);
  m.hidden = o.small("n_embd", kSize, 768);
  m.heads = m.kv_heads = o.small("n_head", kSize, 12);
  read_head_dim(o, m);
  m.ffn = o.small("n_inner", kSize, 4 * m.hidden);
  m.vocab = o.small("vocab_size", kTable, 50257);
  m.max_positions = m.seq_len = o.small("n_positions", kTable, 1024);
  m.norm = Norm::layer;
  m.activation = plain_activation(o, "activation_function");
  m.positions = Positions::learned;
  m.norm_epsilon = o.real("layer_norm_epsilon", kEpsilon, 1e-5);
  set_all_biases(m, true);
  m.tied_embeddings = o.boolean("tie_word_embeddings", true);
}

void read_bert(JsonObject& o, Model& m, const std::string& architecture) {
  m.layers = m.encoder_layers = o.small("num_hidden_layers", kLayers, 12);
  m.hidden = o.small("hidden_size", kSize, 768);
  m.heads = m.kv_heads = o.small("num_attention_heads", kSize, 12);
  read_head_dim(o, m);
  m.ffn = o.small("intermediate_size", kSize, 3072);
  m.vocab = o.small("vocab_size", kTable, 30522);
  m.max_positions = m.seq_len = o.small("max_position_embeddings", kTable, 512);
  m.token_types = o.small("type_vocab_size", kTable, 2);
  m.norm = Norm::layer;
  m.activation = plain_activation(o, "hidden_act");
  m.positions = Positions::learned;
  set_all_biases(m, true);
  m.embedding_norm = m.head_transform = m.head_bias = true;
  m.final_norm = false;  // the norms come after each block
  m.tied_embeddings = o.boolean("tie_word_embeddings", true);
  // The pair task came with the original training; masked-word training of
  // the same encoder has neither of the two.
  m.pooler = m.pair_head = architecture != "BertForMaskedLM";
}

void read_t5(JsonObject& o, Model& m) {
  m.encoder_layers = o.small("num_layers", kLayers, 6);
  const int decoders = o.small("num_decoder_layers", kLayers, m.encoder_layers);
  m.layers = m.encoder_layers + decoders;
  m.hidden = o.small("d_model", kSize, 512);
  m.heads = m.kv_heads = o.small("num_heads", kSize, 8);
  m.head_dim = o.small("d_kv", kSize, 64);
  m.ffn = o.small("d_ff", kSize, 2048);
  m.vocab = o.small("vocab_size", kTable, 32128);
  m.relative_buckets = o.small("relative_attention_num_buckets", kTable, 32);
  m.seq_len = o.small("n_positions", kTable, 512);
  m.positions = Positions::relative;
  const std::string mlp = o.text("feed_forward_proj", "relu");
  if (mlp == "relu" || mlp == "gelu") {
    m.activation = mlp == "relu" ? Activation::relu : Activation::gelu;
  } else if (mlp == "gated-gelu" || mlp == "gated-silu") {
    m.activation = mlp == "gated-gelu" ? Activation::geglu : Activation::swiglu;
  } else {
    o.findings().error(o.where("feed_forward_proj"),
                       fmt::format("unsupported '{}'; supported: relu, gelu, "
                                   "gated-gelu, gated-silu",
                                   excerpt(mlp)));
  }
  m.tied_embeddings = o.boolean("tie_word_embeddings", true);
}

const std::vector<std::string>& supported_types() {
  static const std::vector<std::string> types{"llama", "mistral", "qwen2",
                                              "gpt2",  "bert",    "t5"};
  return types;
}

/// "LlamaForCausalLM" names its type when "model_type" is missing.
std::string type_of(const Json& json, const std::string& architecture) {
  if (const auto it = json.find("model_type");
      it != json.end() && it->is_string()) {
    return it->get<std::string>();
  }
  std::string lower;
  for (const char c : architecture) {
    lower += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  for (const std::string& type : supported_types()) {
    if (lower.starts_with(type + "for") || lower.starts_with(type + "lm") ||
        lower == type + "model") {
      return type;
    }
  }
  return architecture;
}

}  // namespace

Model from_hugging_face(const Json& json, const std::string& where,
                        Findings& findings) {
  const Json clean = without_nulls(json);
  const std::string architecture = architecture_of(clean);
  const std::string type = type_of(clean, architecture);
  JsonObject o(clean, where, findings);
  Model m;
  m.name = o.text("_name_or_path", "");
  m.source = fmt::format("Hugging Face config.json ({})", excerpt(type));
  if (type == "llama" || type == "mistral" || type == "qwen2") {
    read_llama(o, m, type);
  } else if (type == "gpt2") {
    read_gpt2(o, m);
  } else if (type == "bert") {
    read_bert(o, m, architecture);
  } else if (type == "t5") {
    read_t5(o, m);
  } else {
    findings.error(
        where, fmt::format("unsupported architecture '{}'{}; supported: {}",
                           excerpt(type), did_you_mean(type, supported_types()),
                           join(supported_types())));
  }
  return m;
}

void refuse_experts(const Json& json, const std::string& where,
                    Findings& findings) {
  static constexpr std::array kKeys{
      "num_experts",        "num_local_experts",     "n_routed_experts",
      "n_shared_experts",   "num_experts_per_tok",   "moe_intermediate_size",
      "moe_layer_freq",     "num_experts_per_token", "experts",
      "decoder_sparse_step"};
  for (const char* key : kKeys) {
    const auto it = json.find(key);
    if (it == json.end() || it->is_null() || *it == 0) continue;
    findings.error(fmt::format("{}: /{}", where, key),
                   "mixture-of-experts models are not supported yet");
  }
}

}  // namespace troupe::models
