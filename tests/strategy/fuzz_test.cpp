// Damaged files of every format: an error or a strategy, never a crash.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "strategy/megatron_arguments.h"
#include "strategy/python_literal.h"
#include "tests/strategy/helpers.h"

namespace troupe::strategy {
namespace {

struct Sample {
  const char* from;
  const char* text;
};

/// A small valid file of each kind, with most of its fields.
const std::vector<Sample> kSamples{
    {"", R"({"format": "troupe.strategy/1", "model": "llama-7b",
             "cluster": "a800-16", "seq_len": 2048, "dp": 2, "tp": 4, "pp": 2,
             "cp": 1, "interleave": 2, "micro_batches": 4, "zero": 1,
             "order": "tp-cp-dp-pp", "devices": "0-15",
             "layers_per_stage": [8, 8, 8, 8], "recompute": "full"})"},
    {"", R"({"format": "troupe.strategy/1", "model": "llama-7b",
             "cluster": "a800-16", "seq_len": 2048, "phases": [
             {"name": "a", "rule": {"seq_len": [0, 99]}, "dp": 2},
             {"rule": {"event": "x"}, "pipelines": [
               {"repeat": 2, "device_stride": [4, 4], "micro_batches": 2,
                "micro_batch_seq_lens": [5, 6],
                "stages": [{"devices": "0-1", "layers": [0, 16]},
                           {"devices": [2, 3], "tp": 1, "cp": 2,
                            "shares": [0.5, 0.5], "layers": 16}]},
               {"stages": [{"devices": {"kind": "a800-sxm-80", "count": 2},
                            "recompute": {"mode": "full", "layers": "1-3"}},
                           {"members": [{"devices": "15", "share": 1}]}]}]}]})"},
    {"hspmd", R"({"num_layers": 60, "num_gpus": 16, "dp": 2, "tp": 4,
                  "cp_list": [1, 1], "layers_num_list": [[30, 30], [20, 40]],
                  "micro_batch_num_list": [3, 4], "unused_rank": [2, 3],
                  "rank_to_device_mapping": {"0": 0, "1": 1, "2": 2, "3": 3,
                  "4": 4, "5": 5, "6": 6, "7": 7, "8": 8, "9": 9, "10": 10,
                  "11": 11, "12": 12, "13": 13, "14": 14, "15": 15},
                  "seq_len_list": [4096, 4096], "zero": true})"},
    {"hspmd", R"({"num_gpus": 16, "dp": 2, "tp": 2, "pp": 2, "cp": 2})"},
    {"hotspa", R"({"model": "7b", "num_gpus": 8, "max_seq_len": 8192,
                   "bucket_bounds": [8192, 4096, 0], "strategies": [
                   {"dp": 2, "tp": 2, "pp": 2, "bucket": 0},
                   {"dp": 8, "tp": 1, "pp": 1, "bucket": 1}]})"},
    {"hydraulis", R"([[[1, 16, 1], [1, 8, 2]], [[1, 4, 2], [1, 4, 2]]])"},
    {"hydraulis", R"({"model": "32b", "num_gpus": 16, "pipeline_tuple":
                      "[cp, tp, pp, count]", "global_token_num": 100000,
                      "strategies": [{"pipelines": [[1, 4, 2, 2]]}]})"},
    {"hexiscale", R"({"hetero_configs": [[2, 1], [1]],
                      "layer_partitions": [[20, 12], [32]],
                      "devices_id": [[[1, 0], [1]], [[0]]], "chunks": [4],
                      "pp_layouts": [[[0, 1], [2]], [[3]]],
                      "accum_iter": 3, "global_bsz_size": [8, 4]})"},
    {"megatron", R"({"tensor-model-parallel-size": 2, "world-size": 8,
                     "pipeline-model-parallel-size": 4, "num-layers": 32,
                     "hidden-size": 4096, "num-attention-heads": 32,
                     "num-virtual-stages-per-pipeline-rank": 2, "bf16": true,
                     "global-batch-size": 8, "recompute-granularity": "full",
                     "recompute-method": "block"})"}};

const Json& poison() {
  static const Json values = Json::array({nullptr,
                                          true,
                                          0,
                                          -1,
                                          1,
                                          3,
                                          1e300,
                                          2.5,
                                          1 << 30,
                                          4611686018427387904LL,
                                          18446744073709551615ULL,
                                          "",
                                          "x",
                                          "0-9",
                                          "0-99999999",
                                          "[[1]]",
                                          "null",
                                          "{0: 1}",
                                          Json::array(),
                                          Json::array({1, 2}),
                                          Json::object(),
                                          Json::array({Json::array({0})}),
                                          "../x.json",
                                          "\x01\xff"});
  return values;
}

/// Changes, removes or adds one thing somewhere in the value.
void damage(Json& json, int depth = 0) {
  const bool inside = json.is_structured() && !json.empty() &&
                      *rc::gen::inRange(0, 10) > (depth == 0 ? 0 : 2);
  if (!inside) {
    json = poison()[static_cast<std::size_t>(
        *rc::gen::inRange(0, static_cast<int>(poison().size())))];
    return;
  }
  auto it = json.begin();
  std::advance(it, *rc::gen::inRange(0, static_cast<int>(json.size())));
  switch (*rc::gen::inRange(0, 12)) {
    case 0:
      json.erase(it);
      return;
    case 1:
      if (json.is_array()) {
        const Json copy = *it;
        json.push_back(copy);
      } else {
        json["extra"] = 1;
      }
      return;
    default:
      damage(*it, depth + 1);
  }
}

/// One damaged file, loaded; what is accepted can be written and read again.
void load_damaged() {
  const auto& sample = kSamples[static_cast<std::size_t>(
      *rc::gen::inRange(0, static_cast<int>(kSamples.size())))];
  Json json = Json::parse(sample.text);
  const int times = *rc::gen::inRange(0, 4);
  for (int i = 0; i < times; ++i) damage(json);
  LoadOptions options;
  options.from = sample.from;
  const auto plan = load(to_text(json), options);
  if (times == 0) RC_ASSERT(plan.has_value());
  if (plan) {
    const auto again =
        load_plan_text(to_text(native_of(*plan)), "again.json", {});
    RC_ASSERT(again.has_value());
    RC_ASSERT(again->strategy.phases == plan->strategy.phases);
    static_cast<void>(to_megatron(*plan));
  } else {
    RC_ASSERT(!plan.error().message.empty());
  }
}

RC_GTEST_PROP(Fuzz, DamagedJsonGivesAnErrorOrAStrategy, ()) {
  for (int i = 0; i < 10; ++i) load_damaged();
}

RC_GTEST_PROP(Fuzz, CutAndScrambledTextsGiveAnError, ()) {
  const auto& sample = kSamples[static_cast<std::size_t>(
      *rc::gen::inRange(0, static_cast<int>(kSamples.size())))];
  std::string text = sample.text;
  const auto size = static_cast<int>(text.size());
  text.resize(static_cast<std::size_t>(*rc::gen::inRange(0, size)));
  if (!text.empty() && *rc::gen::inRange(0, 2)) {
    text[text.size() / 2] = *rc::gen::arbitrary<char>();
  }
  LoadOptions options;
  options.from = sample.from;
  options.case_index = *rc::gen::inRange(-2, 3);
  const auto plan = load(text, options);
  RC_ASSERT(plan.has_value() || !plan.error().message.empty());
}

RC_GTEST_PROP(Fuzz, LiteralsAndArgumentsOfAnyText, ()) {
  const auto text = *rc::gen::container<std::string>(rc::gen::element(
      '[', ']', '(', ')', '{', '}', ',', ':', '1', '2', '-', '.', '"', '\'',
      ' ', '\n', '\\', '#', '=', 'N', 'e', '_', '$', '\0', '\xff'));
  const auto json = parse_python(text, "t");
  RC_ASSERT(json.has_value() || !json.error().message.empty());
  const auto arguments = parse_arguments("--" + text, "t");
  RC_ASSERT(arguments.has_value() || !arguments.error().message.empty());
}

TEST(PythonLiteral, ReadsWhatScriptsHold) {
  const auto json = parse_python(
      "LIST = [(1, 2.5, -3), {'a': None, 7: True}, \"t\\\"x\", 1_000,]  # end",
      "t");
  ASSERT_TRUE(json) << json.error().message;
  EXPECT_EQ(*json, Json::parse(
                       R"([[1, 2.5, -3], {"a": null, "7": true}, "t\"x",
                           1000])"));
  for (const char* wrong : {"", "[", "[1", "(1]", "{1}", "x", "[1] 2", "1e999",
                            "__import__('os')", "[1,,2]", "'open"}) {
    const auto bad = parse_python(wrong, "t");
    ASSERT_FALSE(bad) << wrong << " is " << bad->dump();
    EXPECT_NE(bad.error().message.find("t: line 1, column"), std::string::npos);
  }
  EXPECT_FALSE(parse_python(std::string(100000, '['), "t"));
}

}  // namespace
}  // namespace troupe::strategy
