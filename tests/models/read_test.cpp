// Reading models: our own JSON, config.json, and what must be refused.
#include "models/read.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

namespace troupe::models {
namespace {

using testing::HasSubstr;

Result<Model> parse(const std::string& text) {
  TRY(const Json json, parse_json(text, "m.json"));
  return parse_model(json, "m.json");
}

std::string error_of(const std::string& text) {
  const Result<Model> model = parse(text);
  return model ? "" : model.error().message;
}

Json native() {
  return {{"format", "troupe.model/1"},
          {"layers", 2},
          {"hidden", 64},
          {"heads", 4},
          {"ffn", 128},
          {"vocab", 100}};
}

std::string error_with(const std::string& key, const Json& value) {
  Json json = native();
  json[key] = value;
  const Result<Model> model = parse_model(json, "m.json");
  return model ? "" : model.error().message;
}

TEST(NativeModel, HasSensibleDefaults) {
  const Result<Model> m = parse_model(native(), "dir/tiny.json");
  ASSERT_TRUE(m) << m.error().message;
  EXPECT_EQ(m->name, "tiny");
  EXPECT_EQ(m->kv_heads, 4);
  EXPECT_EQ(m->head_dim, 16);
  EXPECT_EQ(m->activation, Activation::swiglu);
  EXPECT_EQ(m->norm, Norm::rms);
  EXPECT_EQ(m->positions, Positions::rotary);
  EXPECT_TRUE(m->final_norm);
}

TEST(NativeModel, OfEveryShippedFileLoadsAndRoundTrips) {
  int files = 0;
  const std::filesystem::path folder =
      std::filesystem::path(TROUPE_SOURCE_DIR) / "models";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".json") continue;
    const Result<Model> m = read_model(entry.path().stem().string());
    ASSERT_TRUE(m) << m.error().message;
    EXPECT_FALSE(m->source.empty()) << entry.path();
    EXPECT_EQ(m->name, entry.path().stem().string());
    const Result<Model> again = parse_model(to_json(*m), "again.json");
    ASSERT_TRUE(again) << again.error().message;
    EXPECT_EQ(*again, *m);
    ++files;
  }
  EXPECT_GE(files, 24);
}

TEST(NativeModel, ReportsAllProblemsTogether) {
  Json json = native();
  json["layers"] = 0;
  json["hiden"] = 64;
  json["vocab"] = "many";
  const Result<Model> m = parse_model(json, "m.json");
  ASSERT_FALSE(m);
  EXPECT_THAT(m.error().message, HasSubstr("m.json: /layers"));
  EXPECT_THAT(m.error().message, HasSubstr("did you mean 'hidden'?"));
  EXPECT_THAT(m.error().message, HasSubstr("m.json: /vocab"));
}

TEST(NativeModel, RefusesWhatCannotBe) {
  EXPECT_THAT(error_with("kv_heads", 3), HasSubstr("kv_heads 3"));
  EXPECT_THAT(error_with("encoder_layers", 3), HasSubstr("encoder_layers 3"));
  EXPECT_THAT(error_with("layers", 1e12), HasSubstr("/layers"));
  EXPECT_THAT(error_with("layers", -1), HasSubstr("/layers"));
  EXPECT_THAT(error_with("layers", 1.5), HasSubstr("/layers"));
  EXPECT_THAT(error_with("hidden", 0), HasSubstr("/hidden"));
  EXPECT_THAT(error_with("hidden", nullptr), HasSubstr("/hidden"));
  EXPECT_THAT(error_with("heads", 0), HasSubstr("/heads"));
  EXPECT_THAT(error_with("heads", 3), HasSubstr("not a multiple"));
  EXPECT_THAT(error_with("head_dim", 1 << 20), HasSubstr("head_dim"));
  EXPECT_THAT(error_with("norm", "batch"), HasSubstr("/norm"));
  EXPECT_THAT(error_with("format", "troupe.model/9"), HasSubstr("/format"));
  EXPECT_THAT(error_with("positions", "learned"), HasSubstr("max_positions"));
  EXPECT_THAT(error_with("max_positions", 5), HasSubstr("learned"));
  EXPECT_THAT(error_with("pair_head", true), HasSubstr("pooler"));
}

TEST(NativeModel, AllowsHeadsWiderThanHidden) {
  EXPECT_EQ(error_with("head_dim", 128), "");
}

TEST(NativeModel, RefusesExperts) {
  EXPECT_THAT(error_with("num_experts", 8), HasSubstr("not supported yet"));
}

TEST(Model, MustSayWhatItIs) {
  EXPECT_THAT(error_of("{}"), HasSubstr("neither"));
  EXPECT_THAT(error_of("[1]"), HasSubstr("expected an object"));
  EXPECT_THAT(error_of("7"), HasSubstr("expected an object"));
}

TEST(Model, ThatIsMissingNamesTheClosest) {
  const Result<Model> m = read_model("llama-7c");
  ASSERT_FALSE(m);
  EXPECT_THAT(m.error().message, HasSubstr("did you mean 'llama-7b'?"));
}

// The released Llama-3-8B configuration; 8,030,261,248 parameters.
TEST(HuggingFace, ReadsLlama) {
  const Result<Model> m = parse(R"({
    "architectures": ["LlamaForCausalLM"], "model_type": "llama",
    "attention_bias": false, "bos_token_id": 128000, "hidden_act": "silu",
    "hidden_size": 4096, "intermediate_size": 14336,
    "max_position_embeddings": 8192, "num_attention_heads": 32,
    "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
    "rope_scaling": null, "rope_theta": 500000.0, "head_dim": null,
    "tie_word_embeddings": false, "torch_dtype": "bfloat16",
    "vocab_size": 128256})");
  ASSERT_TRUE(m) << m.error().message;
  EXPECT_EQ(parameters(*m), 8030261248);
  EXPECT_EQ(m->name, "m");
}

// Qwen2-7B: 7,615,616,512 (its card says 7.6B), with biases on Q, K and V:
// Llama count plus 28 (3584 + 2 * 512).
TEST(HuggingFace, ReadsQwen2) {
  const Result<Model> m = parse(R"({
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2",
    "hidden_act": "silu", "hidden_size": 3584, "intermediate_size": 18944,
    "max_position_embeddings": 131072, "num_attention_heads": 28,
    "num_hidden_layers": 28, "num_key_value_heads": 4,
    "sliding_window": 131072, "use_sliding_window": false,
    "tie_word_embeddings": false, "vocab_size": 152064})");
  ASSERT_TRUE(m) << m.error().message;
  EXPECT_EQ(parameters(*m), 7615616512);
}

// Mistral-7B-v0.1: 7,241,732,096.
TEST(HuggingFace, ReadsMistralWithItsWindow) {
  const Result<Model> m = parse(R"({
    "architectures": ["MistralForCausalLM"], "model_type": "mistral",
    "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 14336,
    "max_position_embeddings": 32768, "num_attention_heads": 32,
    "num_hidden_layers": 32, "num_key_value_heads": 8,
    "sliding_window": 4096, "vocab_size": 32000})");
  ASSERT_TRUE(m) << m.error().message;
  EXPECT_EQ(parameters(*m), 7241732096);
  EXPECT_EQ(m->attention_window, 4096);
  EXPECT_EQ(layer_kind(*m, 0), LayerKind::local_decoder);
}

TEST(HuggingFace, ReadsQwen2WithWindowsInItsLastLayers) {
  const auto config = [](int first) {
    return fmt::format(R"({{
    "model_type": "qwen2", "hidden_act": "silu", "hidden_size": 64,
    "intermediate_size": 96, "num_attention_heads": 4, "num_hidden_layers": 4,
    "use_sliding_window": true, "sliding_window": 512, "rms_norm_eps": 1e-06,
    "max_window_layers": {}, "vocab_size": 100}})",
                       first);
  };
  const Result<Model> m = parse(config(3));
  ASSERT_TRUE(m) << m.error().message;
  EXPECT_EQ(layer_kind(*m, 2), LayerKind::decoder);
  EXPECT_EQ(layer_kind(*m, 3), LayerKind::local_decoder);
  EXPECT_EQ(m->norm_epsilon, 1e-6);
  const Result<Model> none = parse(config(4));
  ASSERT_TRUE(none) << none.error().message;
  EXPECT_EQ(none->attention_window, 0);
}

// Llama 3.1's, and the same in the words of newer files.
TEST(HuggingFace, ReadsRotaryScaling) {
  const char* const kLlama = R"({
    "model_type": "llama", "hidden_act": "silu", "hidden_size": 64,
    "intermediate_size": 96, "num_attention_heads": 4, "num_hidden_layers": 4,
    "max_position_embeddings": 131072, "vocab_size": 100, )";
  const char* const kScaling = R"("factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
    "rope_type": "llama3")";
  const Result<Model> old =
      parse(fmt::format(R"({}"rope_theta": 500000.0, "rope_scaling": {{{}}}}})",
                        kLlama, kScaling));
  const Result<Model> newer = parse(
      fmt::format(R"({}"rope_parameters": {{"rope_theta": 500000.0, {}}}}})",
                  kLlama, kScaling));
  for (const Result<Model>& m : {old, newer}) {
    ASSERT_TRUE(m) << m.error().message;
    EXPECT_EQ(m->rotary_base, 500000);
    EXPECT_EQ(m->rotary_scaling, (kernels::RotaryScaling{8.0, 1.0, 4.0, 8192}));
  }
  const Result<Model> other = parse(fmt::format(
      R"({}"rope_scaling": {{"type": "yarn", "factor": 4.0}}}})", kLlama));
  ASSERT_TRUE(other) << other.error().message;
  EXPECT_EQ(other->rotary_scaling.factor, 1);
  EXPECT_THAT(other->source, HasSubstr("yarn"));
}

TEST(NativeModel, KnowsWhichLayersAreLocal) {
  EXPECT_THAT(error_with("full_attention_every", 2),
              HasSubstr("no attention_window"));
  EXPECT_THAT(error_with("full_attention_first", 1),
              HasSubstr("no attention_window"));
  EXPECT_THAT(error_with("attention_window", -1), HasSubstr("0 to"));
  Json model = native();
  model["layers"] = 9;
  model["attention_window"] = 512;
  model["full_attention_first"] = 2;
  model["full_attention_every"] = 3;
  const Result<Model> m = parse_model(model, "m.json");
  ASSERT_TRUE(m) << m.error().message;
  std::string kinds;
  for (int i = 0; i < 9; ++i) {
    kinds += layer_kind(*m, i) == LayerKind::local_decoder ? 'l' : 'f';
  }
  EXPECT_EQ(kinds, "fffllfllf");
  EXPECT_EQ(layer_counts(*m),
            (std::vector<std::pair<LayerKind, int>>{
                {LayerKind::decoder, 5}, {LayerKind::local_decoder, 4}}));
  EXPECT_EQ(parse_model(to_json(*m), "m.json"), *m);
}

TEST(HuggingFace, ReadsGpt2) {
  const Result<Model> m = parse(R"({
    "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2",
    "activation_function": "gelu_new", "n_ctx": 1024, "n_embd": 1600,
    "n_head": 25, "n_layer": 48, "n_positions": 1024, "vocab_size": 50257})");
  ASSERT_TRUE(m) << m.error().message;
  EXPECT_EQ(parameters(*m), 1557611200);
}

// bert-large-uncased as released, for masked words only: the encoder without
// pooler (335,141,888 - 1024*1024 - 1024), transform and vocabulary bias.
TEST(HuggingFace, ReadsBert) {
  const Result<Model> m = parse(R"({
    "architectures": ["BertForMaskedLM"], "model_type": "bert",
    "hidden_act": "gelu", "hidden_size": 1024, "intermediate_size": 4096,
    "max_position_embeddings": 512, "num_attention_heads": 16,
    "num_hidden_layers": 24, "type_vocab_size": 2, "vocab_size": 30522})");
  ASSERT_TRUE(m) << m.error().message;
  EXPECT_EQ(parameters(*m), 335174458);
}

// t5-small: 60,506,624 parameters.
TEST(HuggingFace, ReadsT5) {
  const Result<Model> m = parse(R"({
    "architectures": ["T5ForConditionalGeneration"], "model_type": "t5",
    "d_ff": 2048, "d_kv": 64, "d_model": 512, "n_positions": 512,
    "num_heads": 8, "num_layers": 6, "relative_attention_num_buckets": 32,
    "vocab_size": 32128})");
  ASSERT_TRUE(m) << m.error().message;
  EXPECT_EQ(parameters(*m), 60506624);
}

TEST(HuggingFace, FindsTheTypeInTheArchitecture) {
  EXPECT_EQ(error_of(R"({"architectures": ["GPT2LMHeadModel"]})"), "");
}

TEST(HuggingFace, NamesWhatIsSupported) {
  const std::string error = error_of(R"({"model_type": "mamba"})");
  EXPECT_THAT(error, HasSubstr("unsupported architecture 'mamba'"));
  EXPECT_THAT(error, HasSubstr("llama, mistral, qwen2, gpt2, bert, t5"));
  EXPECT_THAT(error_of(R"({"model_type": 5})"), HasSubstr("unsupported"));
  EXPECT_THAT(error_of(R"({"architectures": []})"), HasSubstr("unsupported"));
}

TEST(HuggingFace, RefusesExpertsAndOddActivations) {
  EXPECT_THAT(error_of(R"({"model_type": "mixtral", "num_local_experts": 8})"),
              HasSubstr("not supported yet"));
  EXPECT_THAT(error_of(R"({"model_type": "gpt2", "activation_function": "x"})"),
              HasSubstr("supported: gelu, relu"));
  EXPECT_THAT(error_of(R"({"model_type": "llama"})"),
              HasSubstr("/hidden_size: missing"));
}

TEST(HuggingFace, RefusesHeadsThatDoNotDivide) {
  EXPECT_THAT(error_of(R"({"model_type": "gpt2", "n_head": 7})"),
              HasSubstr("not a multiple of 7 heads"));
}

}  // namespace
}  // namespace troupe::models
