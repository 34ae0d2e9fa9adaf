#include "models/read.h"

#include <fmt/format.h>

#include <array>
#include <filesystem>

#include "base/file.h"
#include "models/hugging_face.h"
#include "models/limits.h"

namespace troupe::models {
namespace {

constexpr const char* kFormat = "troupe.model/1";

constexpr std::array<std::pair<const char*, Norm>, 2> kNorms{
    {{"rms", Norm::rms}, {"layer", Norm::layer}}};
constexpr std::array<std::pair<const char*, Activation>, 5> kActivations{
    {{"swiglu", Activation::swiglu},
     {"geglu", Activation::geglu},
     {"gelu", Activation::gelu},
     {"gelu_tanh", Activation::gelu_tanh},
     {"relu", Activation::relu}}};
constexpr std::array<std::pair<const char*, Positions>, 5> kPositions{
    {{"rotary", Positions::rotary},
     {"none", Positions::none},
     {"learned", Positions::learned},
     {"alibi", Positions::alibi},
     {"relative", Positions::relative}}};

template <typename Words, typename Enum>
const char* word_of(const Words& words, Enum value) {
  for (const auto& [word, meaning] : words) {
    if (meaning == value) return word;
  }
  return words.front().first;
}

// Limits that no transformer comes near, and under which the counts of
// model.cpp stay far below 2^63.
constexpr Limits kWidth{1, 1 << 20};
constexpr Limits kFfn{1, 1 << 22};
constexpr Limits kVocab{1, 1 << 26};
constexpr Limits kLength{1, 1 << 30};
constexpr Limits kRows{0, 1 << 26};

/// "llama-7b" of "models/llama-7b.json", "Foo" of "Foo/config.json".
std::string name_from(const std::string& where) {
  const std::filesystem::path path(where);
  if (path.filename() == "config.json" && path.has_parent_path()) {
    const std::string folder = path.parent_path().filename().string();
    if (!folder.empty() && folder != ".") return folder;
  }
  return path.stem().string();
}

void read_flags(JsonObject& o, Model& m) {
  m.qkv_bias = o.boolean("qkv_bias", false);
  m.attention_out_bias = o.boolean("attention_out_bias", false);
  m.mlp_bias = o.boolean("mlp_bias", false);
  m.head_bias = o.boolean("head_bias", false);
  m.head_transform = o.boolean("head_transform", false);
  m.embedding_norm = o.boolean("embedding_norm", false);
  m.final_norm = o.boolean("final_norm", true);
  m.tied_embeddings = o.boolean("tied_embeddings", false);
  m.pooler = o.boolean("pooler", false);
  m.pair_head = o.boolean("pair_head", false);
}

kernels::RotaryScaling read_rotary_scaling(JsonObject& o) {
  kernels::RotaryScaling s;
  s.factor = o.real("factor", kScaling);
  s.low = o.real("low", kScaling, s.low);
  s.high = o.real("high", kScaling, s.high);
  s.original = o.real("original", kScaling, s.original);
  return s;
}

Model from_native(const Json& json, const std::string& where,
                  Findings& findings) {
  JsonObject o(json, where, findings);
  Model m;
  if (const std::string format = o.text("format"); format != kFormat) {
    findings.error(
        o.where("format"),
        fmt::format("expected \"{}\", found \"{}\"", kFormat, format));
  }
  m.name = o.text("name", name_from(where));
  m.source = o.text("source", "");
  m.layers = o.small("layers", kLayers);
  m.encoder_layers = o.small("encoder_layers", {0, kLayers.most}, 0);
  m.hidden = o.small("hidden", kWidth);
  m.heads = o.small("heads", kWidth);
  m.kv_heads = o.small("kv_heads", kWidth, m.heads);
  if (!o.has("head_dim") && m.hidden % m.heads != 0) {
    findings.error(o.where("head_dim"),
                   fmt::format("missing, and hidden {} is not a multiple of "
                               "heads {}",
                               m.hidden, m.heads));
  }
  m.head_dim = o.small("head_dim", kWidth, std::max(m.hidden / m.heads, 1));
  m.norm = o.choice<Norm>("norm", kNorms, Norm::rms);
  m.activation =
      o.choice<Activation>("activation", kActivations, Activation::swiglu);
  m.positions = o.choice<Positions>("positions", kPositions, Positions::rotary);
  // Four times the hidden size is the custom of models without a gate; with
  // one there is none, so it must be said.
  std::optional<int> ffn;
  if (!gated(m.activation)) ffn = 4 * m.hidden;
  m.ffn = o.small("ffn", kFfn, ffn);
  m.vocab = o.small("vocab", kVocab);
  const bool table = m.positions == Positions::learned;
  m.max_positions = table ? o.small("max_positions", {1, kRows.most})
                          : o.small("max_positions", kRows, 0);
  m.token_types = o.small("token_types", kRows, 0);
  m.relative_buckets = o.small("relative_buckets", kRows, 0);
  m.seq_len =
      o.small("seq_len", kLength, m.max_positions > 0 ? m.max_positions : 2048);
  m.attention_window = o.small("attention_window", {0, kLength.most}, 0);
  m.full_attention_first =
      o.small("full_attention_first", {0, kLayers.most}, 0);
  m.full_attention_every =
      o.small("full_attention_every", {0, kLayers.most}, 0);
  m.norm_epsilon = o.real("norm_epsilon", kEpsilon, m.norm_epsilon);
  m.rotary_base = o.real("rotary_base", kRotaryBase, m.rotary_base);
  if (auto scaling = o.object("rotary_scaling", true)) {
    m.rotary_scaling = read_rotary_scaling(*scaling);
    scaling->finish();
  }
  read_flags(o, m);
  o.finish();
  return m;
}

template <typename Bad>
void validate_window(const Model& m, const Bad& bad) {
  if (m.attention_window > 0 && m.encoder_layers > 0) {
    bad("attention_window is for decoders; this model has encoder layers");
  }
  if (m.attention_window == 0 &&
      (m.full_attention_first > 0 || m.full_attention_every > 0)) {
    bad("full_attention_first and full_attention_every name layers without a "
        "window, and no attention_window is given");
  }
  if (m.full_attention_first > m.layers || m.full_attention_every > m.layers) {
    bad(
        fmt::format("full_attention_first {} or full_attention_every {} is "
                    "more than layers {}",
                    m.full_attention_first, m.full_attention_every, m.layers));
  }
}

/// What no single key shows to be wrong.
void validate(const Model& m, const std::string& where, Findings& findings) {
  const auto bad = [&](std::string message) {
    findings.error(where, std::move(message));
  };
  if (m.kv_heads < 1 || m.heads % m.kv_heads != 0) {
    bad(fmt::format("heads {} is not a multiple of kv_heads {}", m.heads,
                    m.kv_heads));
  }
  if (m.encoder_layers > m.layers) {
    bad(
        fmt::format("encoder_layers {} is more than layers {} (which counts "
                    "encoder and decoder together)",
                    m.encoder_layers, m.layers));
  }
  if (std::int64_t{m.heads} * m.head_dim > kWidth.most) {
    bad(fmt::format("heads {} x head_dim {} is over {}", m.heads, m.head_dim,
                    kWidth.most));
  }
  if (m.positions != Positions::learned && m.max_positions > 0) {
    bad("max_positions is the size of a learned position table; set "
        "\"positions\": \"learned\", or use seq_len");
  }
  if (m.positions != Positions::relative && m.relative_buckets > 0) {
    bad("relative_buckets needs \"positions\": \"relative\"");
  }
  if (m.max_positions > 0 && m.seq_len > m.max_positions) {
    bad(fmt::format("seq_len {} is more than max_positions {}", m.seq_len,
                    m.max_positions));
  }
  if (m.pair_head && !m.pooler) bad("pair_head needs pooler");
  validate_window(m, bad);
  if (m.rotary_scaling.low >= m.rotary_scaling.high) {
    bad(fmt::format("rotary_scaling: low {} is not under high {}",
                    m.rotary_scaling.low, m.rotary_scaling.high));
  }
}

}  // namespace

Result<Model> parse_model(const Json& json, const std::string& where) {
  Findings findings;
  Model model;
  if (!json.is_object()) {
    findings.error(where, "expected an object that describes a model");
  } else if (json.contains("format")) {
    refuse_experts(json, where, findings);
    model = from_native(json, where, findings);
  } else if (json.contains("model_type") || json.contains("architectures")) {
    refuse_experts(json, where, findings);
    if (findings.ok()) model = from_hugging_face(json, where, findings);
    if (model.name.empty()) model.name = name_from(where);
  } else {
    findings.error(where,
                   fmt::format("neither a Troupe model (\"format\": \"{}\") "
                               "nor a Hugging Face config (\"model_type\")",
                               kFormat));
  }
  if (findings.ok()) validate(model, where, findings);
  if (!findings.ok()) return fail(findings.to_error());
  return model;
}

Result<Model> read_model(std::string_view path_or_name) {
  TRY(const std::filesystem::path path, find_shipped(path_or_name, "models"));
  TRY(const Json json, read_json(path));
  return parse_model(json, path.string());
}

Json to_json(const Model& m) {
  Json json{{"format", kFormat},
            {"name", m.name},
            {"source", m.source},
            {"layers", m.layers},
            {"encoder_layers", m.encoder_layers},
            {"hidden", m.hidden},
            {"heads", m.heads},
            {"kv_heads", m.kv_heads},
            {"head_dim", m.head_dim},
            {"ffn", m.ffn},
            {"vocab", m.vocab},
            {"max_positions", m.max_positions},
            {"token_types", m.token_types},
            {"relative_buckets", m.relative_buckets},
            {"seq_len", m.seq_len},
            {"attention_window", m.attention_window},
            {"full_attention_first", m.full_attention_first},
            {"full_attention_every", m.full_attention_every},
            {"norm_epsilon", m.norm_epsilon},
            {"rotary_base", m.rotary_base},
            {"rotary_scaling",
             {{"factor", m.rotary_scaling.factor},
              {"low", m.rotary_scaling.low},
              {"high", m.rotary_scaling.high},
              {"original", m.rotary_scaling.original}}},
            {"norm", word_of(kNorms, m.norm)},
            {"activation", word_of(kActivations, m.activation)},
            {"positions", word_of(kPositions, m.positions)},
            {"qkv_bias", m.qkv_bias},
            {"attention_out_bias", m.attention_out_bias},
            {"mlp_bias", m.mlp_bias},
            {"head_bias", m.head_bias},
            {"head_transform", m.head_transform},
            {"embedding_norm", m.embedding_norm},
            {"final_norm", m.final_norm},
            {"tied_embeddings", m.tied_embeddings},
            {"pooler", m.pooler},
            {"pair_head", m.pair_head}};
  return json;
}

}  // namespace troupe::models
