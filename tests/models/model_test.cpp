// Parameter counts against the published ones, FLOPs against closed forms.
#include "models/model.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "base/json.h"
#include "models/read.h"

namespace troupe::models {
namespace {

Model shipped(const std::string& name) {
  const Result<Model> model = read_model(name);
  if (!model) {
    ADD_FAILURE() << model.error().message;
    return {};
  }
  return *model;
}

std::filesystem::path shared_folder() {
  if (const char* set = std::getenv("TROUPE_SHARED"); set && *set) return set;
  return std::filesystem::path(TROUPE_SOURCE_DIR) / "../shared";
}

struct Published {
  const char* name;
  std::int64_t parameters;
};

class PublishedCount : public testing::TestWithParam<Published> {};

// Sources: parameter counts of the released checkpoints (Hugging Face, with
// tied matrices counted once). BERT-large is the encoder with pooler
// 335,141,888 plus transform 1024*1024 + 3*1024, vocabulary bias 30522 and
// pair head 2*1024 + 2: 336,226,108.
TEST_P(PublishedCount, IsExact) {
  EXPECT_EQ(parameters(shipped(GetParam().name)), GetParam().parameters);
}

INSTANTIATE_TEST_SUITE_P(Models, PublishedCount,
                         testing::Values(Published{"llama-7b", 6738415616},
                                         Published{"llama-13b", 13015864320},
                                         Published{"llama-30b", 32528943616},
                                         Published{"llama2-70b", 68976648192},
                                         Published{"llama3-8b", 8030261248},
                                         Published{"llama3-70b", 70553706496},
                                         Published{"gpt2-345m", 354823168},
                                         Published{"gpt2-xl", 1557611200},
                                         Published{"bert-large", 336226108}),
                         [](const auto& test) {
                           std::string name = test.param.name;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

// Encoder-only count of BERT-large: without what its training heads add.
TEST(Parameters, OfBertLargeWithoutTrainingHeads) {
  Model bert = shipped("bert-large");
  bert.head_transform = bert.head_bias = bert.pair_head = false;
  EXPECT_EQ(parameters(bert), 335141888);
}

// h = 1024, q = 32 * 128 = 4096, f = 3072.
// attention 4 h q + 3 q + h = 16,790,528; MLP 2 h f + f + h = 6,295,552;
// norm 2 h. Encoder layer: 23,090,176 with two norms. Decoder layer: two
// attentions and three norms, 39,882,752.
// Embedding (30522 + 512) h = 31,778,816; head: two norms and 30522.
TEST(Parameters, OfTheEncoderDecoderMatchAHandCount) {
  const Model t5 = shipped("t5");
  EXPECT_EQ(layer_parameters(t5, LayerKind::encoder).total(), 23090176);
  EXPECT_EQ(layer_parameters(t5, LayerKind::cross_decoder).total(), 39882752);
  EXPECT_EQ(parameters(t5),
            24 * 23090176LL + 24 * 39882752LL + 31778816 + 2 * 2048 + 30522);
}

// GPT-3: 96 (12 h^2 + 13 h) + (51200 + 2048) h + 2 h; the padded vocabulary
// makes it 175.2e9 where the paper says 175e9.
TEST(Parameters, OfGpt3MatchTheMegatronFormula) {
  const std::int64_t h = 12288;
  EXPECT_EQ(parameters(shipped("gpt3-175b")),
            96 * (12 * h * h + 13 * h) + (51200 + 2048) * h + 2 * h);
}

void check_reference(const std::string& system, const std::string& key) {
  const auto path =
      shared_folder() / "seeds-data" / system / "model_configs.json";
  if (!std::filesystem::exists(path)) {
    GTEST_SKIP() << path << " is not here";
  }
  const Result<Json> json = read_json(path);
  ASSERT_TRUE(json) << json.error().message;
  ASSERT_FALSE((*json)["models"].empty());
  for (const Json& entry : (*json)["models"]) {
    const auto size = entry["name"].get<std::string>();
    const Model model = shipped(system + "-" + size);
    EXPECT_EQ(parameters(model), entry[key].get<std::int64_t>()) << size;
    EXPECT_EQ(model.heads, entry["num_attention_heads"].get<int>()) << size;
    EXPECT_EQ(model.head_dim, entry["head_dim"].get<int>()) << size;
  }
}

TEST(Parameters, OfHspmdModelsMatchItsList) {
  check_reference("hspmd", "parameters_vocab_50304");
}

TEST(Parameters, OfHotspaModelsMatchItsList) {
  check_reference("hotspa", "parameters_vocab_30592");
}

// Its list has shapes only; the count follows HSPMD's formula with a
// vocabulary of 30592: RMSNorm, untied, no biases.
TEST(Parameters, OfHydraulisModelsMatchItsShapes) {
  const auto path =
      shared_folder() / "seeds-data/hydraulis/paper_exp_configs.json";
  if (!std::filesystem::exists(path)) {
    GTEST_SKIP() << path << " is not here";
  }
  const Result<Json> json = read_json(path);
  ASSERT_TRUE(json) << json.error().message;
  const auto vocab = (*json)["common"]["vocab_size"].get<std::int64_t>();
  for (const auto& [size, entry] : (*json)["models"].items()) {
    const auto layers = entry["num_layers"].get<std::int64_t>();
    const auto h = entry["hidden_size"].get<std::int64_t>();
    const auto ffn = entry["ffn_hidden_size"].get<std::int64_t>();
    const Model model = shipped("hydraulis-" + size);
    EXPECT_EQ(parameters(model),
              layers * (4 * h * h + 3 * h * ffn + 2 * h) + 2 * vocab * h + h);
    EXPECT_EQ(model.heads, entry["num_heads"].get<int>());
  }
}

// The column biases are cut by tensor parallelism, the row biases are not:
// GPT-2 layer with h = 1024 has 3 h + 4 h cut, h + h repeated, 4 h of norms.
TEST(Parameters, KeepSplitAndRepeatedApart) {
  const ParameterCount count =
      layer_parameters(shipped("gpt2-345m"), LayerKind::decoder);
  EXPECT_EQ(count.split, 10 * 1024 * 1024 + 5 * 1024);
  EXPECT_EQ(count.key_value, 2 * 1024 * 1024 + 2 * 1024);
  EXPECT_EQ(count.repeated, 6 * 1024);
}

TEST(Parameters, CountATiedMatrixOnce) {
  Model gpt = shipped("gpt2-345m");
  const std::int64_t tied = parameters(gpt);
  EXPECT_EQ(tied_copy(gpt), 50257LL * 1024);
  gpt.tied_embeddings = false;
  EXPECT_EQ(tied_copy(gpt), 0);
  EXPECT_EQ(parameters(gpt), tied + 50257LL * 1024);
}

RC_GTEST_PROP(Parameters, AreTheSumOfTheParts, ()) {
  Model m;
  m.layers = *rc::gen::inRange(1, 20);
  m.encoder_layers = *rc::gen::inRange(0, m.layers + 1);
  m.hidden = 64 * *rc::gen::inRange(1, 9);
  m.heads = *rc::gen::element(4, 8);
  m.kv_heads = *rc::gen::element(1, 2, 4);
  m.head_dim = *rc::gen::inRange(1, 130);
  m.ffn = *rc::gen::inRange(1, 999);
  m.vocab = *rc::gen::inRange(1, 999);
  m.tied_embeddings = *rc::gen::arbitrary<bool>();
  m.mlp_bias = *rc::gen::arbitrary<bool>();
  m.qkv_bias = *rc::gen::arbitrary<bool>();
  if (m.encoder_layers == 0) {
    m.attention_window = *rc::gen::inRange(0, 200);
    m.full_attention_first = *rc::gen::inRange(0, m.layers + 1);
    m.full_attention_every = *rc::gen::inRange(0, m.layers + 1);
  }
  std::int64_t sum =
      embedding_parameters(m).total() + head_parameters(m).total();
  double forward = head_forward_flops(m, 512).v;
  for (int layer = 0; layer < m.layers; ++layer) {
    sum += layer_parameters(m, layer_kind(m, layer)).total();
    forward += layer_forward_flops(m, layer_kind(m, layer), 512, 128).v;
  }
  RC_ASSERT(parameters(m) == sum);
  RC_ASSERT(std::abs(model_flops(m, 512, 128).v - 3 * forward) <=
            1e-12 * 3 * forward);
}

// Narayanan et al. 2021, section 3.4: with activation recomputation
// 96 B s l h^2 (1 + s/6h + V/16lh), that is 4 forwards of the layers and 3 of
// the head. Without it, 3 forwards of both: 72 B s l h^2 (1 + s/6h + V/12lh).
TEST(Flops, OfGpt3MatchTheMegatronFormula) {
  const Model gpt = shipped("gpt3-175b");
  const double B = 1536, s = 2048, l = 96, h = 12288, V = 51200;
  const auto tokens = static_cast<std::int64_t>(B * s);
  const double plain =
      72 * B * s * l * h * h * (1 + s / (6 * h) + V / (12 * l * h));
  const double full = model_flops_full_attention(gpt, tokens, 2048).v;
  EXPECT_NEAR(full / plain, 1.0, 1e-12);
  const double recomputed =
      96 * B * s * l * h * h * (1 + s / (6 * h) + V / (16 * l * h));
  // The forward of a layer here counts causal attention as half; the other
  // half, 2 s^2 h a sequence, is added back.
  const double again =
      l * (layer_forward_flops(gpt, LayerKind::decoder, tokens, 2048).v +
           2 * B * s * s * h);
  EXPECT_NEAR((full + again) / recomputed, 1.0, 1e-12);
}

// Causal half: the difference to the full square is 3 x 2 s h per token and
// layer. Llama-7B, one sequence of 2048.
TEST(Flops, CountCausalAttentionAsHalf) {
  const Model llama = shipped("llama-7b");
  const double difference = model_flops_full_attention(llama, 2048, 2048).v -
                            model_flops(llama, 2048, 2048).v;
  EXPECT_DOUBLE_EQ(difference, 3.0 * 2 * 2048 * 4096 * 2048 * 32);
}

// Of a window, what lies in it: Mistral 7B at 8192 tokens, of 4096 seen.
TEST(Flops, CountOnlyWhatLiesInAWindow) {
  Model mistral = shipped("mistral-7b");
  EXPECT_EQ(parameters(mistral), 7241732096);
  const double with = model_flops(mistral, 8192, 8192).v;
  const double square = model_flops_full_attention(mistral, 8192, 8192).v;
  mistral.attention_window = 0;
  const double without = model_flops(mistral, 8192, 8192).v;
  EXPECT_EQ(square, model_flops_full_attention(mistral, 8192, 8192).v);
  // The triangle of (8192 - 4096)^2 / 2 pairs.
  const double hidden = 4096.0 * 4096 / 2;
  EXPECT_DOUBLE_EQ(without - with, 3.0 * 32 * 4 * 4096 * hidden);
}

// 6 N per token with N the parameters of matrices: all of Llama-7B but its
// embedding (32000 * 4096) and 65 norms of 4096, plus 6 s h per layer.
TEST(Flops, OfLlamaAreSixPerMatrixParameter) {
  const Model llama = shipped("llama-7b");
  const double matrices = 6738415616.0 - 32000.0 * 4096 - 65.0 * 4096;
  const double per_token = 6 * matrices + 6.0 * 2048 * 4096 * 32;
  EXPECT_DOUBLE_EQ(model_flops(llama, 4096, 2048).v, 4096 * per_token);
}

// Grouped KV heads shrink the projections, not the scores: two layers that
// differ in kv_heads differ by 2 x 2 h (q - kv) per token.
TEST(Flops, OfGroupedHeadsShrinkOnlyProjections) {
  Model m = shipped("llama2-70b");
  const double grouped = layer_forward_flops(m, LayerKind::decoder, 1, 4096).v;
  m.kv_heads = 64;
  const double all = layer_forward_flops(m, LayerKind::decoder, 1, 4096).v;
  EXPECT_DOUBLE_EQ(all - grouped, 2.0 * 2 * 8192 * (8192 - 1024));
}

// An encoder has no causal half: both customs agree on BERT.
TEST(Flops, OfAnEncoderHaveNoCausalHalf) {
  const Model bert = shipped("bert-large");
  EXPECT_EQ(model_flops(bert, 512, 512),
            model_flops_full_attention(bert, 512, 512));
}

// One decoder layer of T5, per token, sequence 512: causal self attention
// half of 4 s q, cross attention the full 4 s q.
TEST(Flops, OfACrossDecoderCountBothAttentions) {
  const Model t5 = shipped("t5");
  const double matrices = 2 * 4.0 * 1024 * 4096 + 2.0 * 1024 * 3072;
  EXPECT_DOUBLE_EQ(layer_forward_flops(t5, LayerKind::cross_decoder, 1, 512).v,
                   2 * matrices + 6.0 * 512 * 4096);
}

TEST(LayerKinds, FollowTheEncoderCount) {
  Model m;
  m.layers = 4;
  m.encoder_layers = 2;
  EXPECT_EQ(layer_kind(m, 1), LayerKind::encoder);
  EXPECT_EQ(layer_kind(m, 2), LayerKind::cross_decoder);
  m.encoder_layers = 0;
  EXPECT_EQ(layer_kind(m, 0), LayerKind::decoder);
}

}  // namespace
}  // namespace troupe::models
