#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/strategy/helpers.h"

namespace troupe::strategy {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

/// A strategy of llama-7b (32 layers, 32 heads) on a800-16 (2 nodes of 8).
std::string on_a800(const std::string& rest) {
  return R"({"format": "troupe.strategy/1", "model": "llama-7b",
             "cluster": "a800-16", "seq_len": 2048, )" +
         rest + "}";
}

TEST(Native, ShortFormMakesEqualPipelines) {
  const auto plan = load(
      on_a800(R"("dp": 2, "tp": 4, "pp": 2, "micro_batches": 8, "zero": 1)"));
  ASSERT_TRUE(plan) << plan.error().message;
  const Strategy& s = plan->strategy;
  ASSERT_EQ(s.phases.size(), 1u);
  ASSERT_EQ(s.phases[0].pipelines.size(), 2u);
  const Pipeline& second = s.phases[0].pipelines[1];
  EXPECT_EQ(second.micro_batches, 8);
  // tp-cp-dp-pp: rank = tp + 4 (dp + 2 pp).
  EXPECT_THAT(devices_of(second.stages[0]), ElementsAre(4, 5, 6, 7));
  EXPECT_THAT(devices_of(second.stages[1]), ElementsAre(12, 13, 14, 15));
  EXPECT_THAT(second.stages[1].chunks, ElementsAre(LayerRange{16, 32}));
  EXPECT_EQ(s.zero, Zero::one);
  EXPECT_EQ(tokens_per_step(s, s.phases[0]), 2 * 8 * 2048);
  EXPECT_TRUE(plan->findings.all().empty()) << warnings(*plan);
  for (const char* key : {"strategy", "model", "cluster"}) {
    EXPECT_EQ(plan->hashes.at(key).size(), 32u) << key;
  }
  expect_rereads_equal(*plan);
}

TEST(Native, GlobalBatchStandsForMicroBatches) {
  const auto plan = load(on_a800(
      R"("dp": 4, "tp": 4, "global_batch": 64, "micro_batch_size": 2)"));
  ASSERT_TRUE(plan) << plan.error().message;
  // 64 sequences / (4 pipelines x 2).
  EXPECT_EQ(plan->strategy.phases[0].pipelines[0].micro_batches, 8);
  EXPECT_THAT(problem(on_a800(R"("dp": 4, "tp": 4, "global_batch": 63)")),
              HasSubstr("s.json: /global_batch: 63 sequences"));
}

TEST(Native, InterleavingChoosesItsSchedule) {
  const auto plan = load(on_a800(
      R"("dp": 2, "tp": 4, "pp": 2, "interleave": 2, "micro_batches": 4)"));
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->strategy.schedule, ScheduleKind::interleaved);
  EXPECT_EQ(plan->strategy.phases[0].pipelines[0].stages[0].chunks.size(), 2u);
  expect_rereads_equal(*plan);
}

TEST(Native, UnevenLayersAndAnotherOrder) {
  const auto plan = load(on_a800(
      R"("dp": 2, "tp": 4, "pp": 2, "layers_per_stage": [10, 22],
         "order": "tp-pp-cp-dp", "micro_batches": 2)"));
  ASSERT_TRUE(plan) << plan.error().message;
  const Pipeline& second = plan->strategy.phases[0].pipelines[1];
  EXPECT_THAT(second.stages[0].chunks, ElementsAre(LayerRange{0, 10}));
  EXPECT_THAT(devices_of(second.stages[0]), ElementsAre(8, 9, 10, 11));
}

TEST(Native, FullFormWithMembersCountsAndRepeats) {
  const auto plan = load(on_a800(R"(
    "pipelines": [
      {"micro_batches": 3, "stages": [
        {"members": [{"devices": "0-1", "share": 0.75},
                     {"devices": [2, 3], "share": 0.25}], "layers": 12},
        {"devices": "4-7", "cp": 2, "layers": [12, 32],
         "recompute": {"mode": "full", "layers": "12-15"}}]},
      {"repeat": 2, "device_stride": 4, "micro_batches": 2,
       "stages": [{"devices": "8-11"}]}])"));
  ASSERT_TRUE(plan) << plan.error().message;
  const auto& pipelines = plan->strategy.phases[0].pipelines;
  ASSERT_EQ(pipelines.size(), 3u);
  EXPECT_EQ(pipelines[0].stages[0].members[1].share, 0.25);
  EXPECT_EQ(pipelines[0].stages[1].members[0].tp(), 2);
  EXPECT_THAT(pipelines[0].stages[1].recompute->layers,
              ElementsAre(12, 13, 14, 15));
  EXPECT_THAT(devices_of(pipelines[2].stages[0]), ElementsAre(12, 13, 14, 15));
  EXPECT_THAT(pipelines[2].stages[0].chunks, ElementsAre(LayerRange{0, 32}));
  expect_rereads_equal(*plan);
}

TEST(Native, TakesTheNextFreeDevicesOfAKind) {
  const auto plan = load(R"({
    "format": "troupe.strategy/1", "model": "llama-7b",
    "cluster":
      "8 x h20 per node, 400 Gbit/s per GPU, 2 nodes + 8 x h800 per node",
    "pipelines": [
      {"repeat": 2, "stages": [
        {"devices": {"kind": "h20", "count": 4}},
        {"devices": {"kind": "H800", "count": 4}}]},
      {"stages": [{"devices": "0-3"}, {"devices": {"count": 4}}]}]})");
  ASSERT_TRUE(plan) << plan.error().message;
  const auto& p = plan->strategy.phases[0].pipelines;
  // 0-3 are taken by number, so the first free H20 is 4.
  EXPECT_THAT(devices_of(p[0].stages[0]), ElementsAre(4, 5, 6, 7));
  EXPECT_THAT(devices_of(p[0].stages[1]), ElementsAre(16, 17, 18, 19));
  EXPECT_THAT(devices_of(p[1].stages[0]), ElementsAre(8, 9, 10, 11));
  EXPECT_THAT(devices_of(p[2].stages[1]), ElementsAre(12, 13, 14, 15));
}

TEST(Native, AClusterMayBeAShortForm) {
  LoadOptions options;
  options.cluster = "4 x a100-sxm-80";
  const auto plan = load(on_a800(R"("tp": 4, "micro_batches": 1)"), options);
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->cluster.devices.size(), 4u);
  expect_rereads_equal(*plan);
}

TEST(Native, PhasesMayUseTheShortForm) {
  const auto plan = load(on_a800(R"("phases": [
    {"name": "short", "rule": {"seq_len": [0, 1024]}, "seq_len": 1024,
     "dp": 16, "micro_batches": 2},
    {"rule": {"seq_len": [1024, 2048]}, "dp": 4, "tp": 4}])"));
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->strategy.phases[0].rule.to, 1024);
  EXPECT_EQ(plan->strategy.phases[0].pipelines[7].seq_len, 1024);
  expect_rereads_equal(*plan);
}

TEST(Native, ReportsProblemsOfEveryKindTogether) {
  const std::string text = problem(on_a800(R"(
    "zero": 7, "recompte": "full", "schedule": "zigzag",
    "pipelines": [
      {"micro_batches": "many", "stages": [{"devices": "0-2"}]},
      {"stages": [{"devices": "3-5,5", "layers": [0, 20]},
                  {"devices": "40", "layers": [21, 32]}]}])"));
  // Reading and validation, each with its own place.
  EXPECT_THAT(text, HasSubstr("s.json: /zero: expected a whole number"));
  EXPECT_THAT(text, HasSubstr("s.json: /recompte: unknown key (did you mean "
                              "'recompute'?)"));
  EXPECT_THAT(text, HasSubstr("s.json: /schedule: expected one of 1f1b"));
  EXPECT_THAT(text, HasSubstr("s.json: /pipelines/0/micro_batches: expected"));
  EXPECT_THAT(text, HasSubstr("s.json: /pipelines/0/stages/0/tp: "
                              "tensor-parallel degree 3 does not divide the "
                              "32 heads"));
  EXPECT_THAT(text, HasSubstr("s.json: /pipelines/1/stages/0/devices: device "
                              "5 is used already"));
  EXPECT_THAT(text, HasSubstr("s.json: /pipelines/1/stages/1/devices: device "
                              "40 is beyond cluster a800-16, which has 16 "
                              "devices"));
  EXPECT_THAT(text, HasSubstr("s.json: /pipelines/1/stages/1/layers: layers "
                              "[21, 32) should begin at 20"));
}

TEST(Native, ReportsABrokenModelBesideTheStrategysOwnProblems) {
  const std::string text = problem(
      R"({"format": "troupe.strategy/1", "model": "lama-7b",
          "cluster": {"format": "troupe.cluster/1", "nodes": []},
          "dp": 0, "wrong": 1})");
  EXPECT_THAT(text, HasSubstr("llama-7b"));
  EXPECT_THAT(text, HasSubstr("nodes"));
  EXPECT_THAT(text, HasSubstr("/dp: expected a whole number"));
  EXPECT_THAT(text, HasSubstr("/wrong: unknown key"));
}

TEST(Native, ModelAndClusterMayBeWrittenInline) {
  const auto plan = load(R"({"format": "troupe.strategy/1",
    "model": {"format": "troupe.model/1", "name": "tiny", "layers": 2,
              "hidden": 64, "heads": 4, "ffn": 128, "vocab": 256},
    "cluster": {"format": "troupe.cluster/1", "name": "two",
                "nodes": [{"kind": "a100-sxm-80", "count": 2}]},
    "seq_len": 32, "pp": 2, "micro_batches": 2})");
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->model.name, "tiny");
  expect_rereads_equal(*plan);
}

TEST(Native, WindowsNeedFusedAttentionOnOneMember) {
  const auto windowed = [](const char* rest) {
    return fmt::format(
        R"({{"format": "troupe.strategy/1", "model": "mistral-7b",
             "cluster": "a800-16", "seq_len": 8192, {}}})",
        rest);
  };
  const auto plan = load(windowed(R"("dp": 2, "tp": 4, "pp": 2)"));
  EXPECT_TRUE(plan) << plan.error().message;
  EXPECT_THAT(problem(windowed(R"("dp": 2, "tp": 4, "cp": 2)")),
              HasSubstr("attention windows of 4096 tokens"));
  EXPECT_THAT(problem(windowed(
                  R"("dp": 2, "tp": 4, "pp": 2, "flash_attention": false)")),
              HasSubstr("only fused attention"));
}

TEST(Native, RelativePathsBeginAtTheFile) {
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / "troupe_native_test";
  std::filesystem::create_directories(folder / "inner");
  ASSERT_TRUE(write_file(folder / "m.json",
                         to_text(models::to_json(model_named("llama-7b")))));
  ASSERT_TRUE(write_file(folder / "inner" / "s.json",
                         R"({"format": "troupe.strategy/1",
                             "model": "../m.json", "cluster": "a800-8",
                             "tp": 8, "micro_batches": 1})"));
  const auto plan = load_plan((folder / "inner/s.json").string());
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->model.layers, 32);
  // Written anew, it no longer depends on where it was.
  EXPECT_TRUE(native_of(*plan)["model"].is_object());
  std::filesystem::remove_all(folder);
}

TEST(Native, FieldsCanBeSetFromOutside) {
  LoadOptions options;
  options.set = {{"dp", "2"},
                 {"tp", "4"},
                 {"cluster.nodes.0.nodes", "1"},
                 {"model.layers", "6"},
                 {"name", "smaller"}};
  const std::string text = on_a800(R"("dp": 16, "micro_batches": 1)");
  const auto plan = load(text, options);
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->cluster.devices.size(), 8u);
  EXPECT_EQ(plan->model.layers, 6);
  EXPECT_EQ(plan->strategy.name, "smaller");
  EXPECT_NE(plan->hashes.at("model"), load(text)->hashes.at("model"));
  expect_rereads_equal(*plan);
  options.set = {{"cluster.nodes.7.nodes", "1"}, {"model..x", "2"}};
  EXPECT_THAT(problem(text, options), HasSubstr("'7' is not one of the 1"));
  EXPECT_THAT(problem(text, options), HasSubstr("an empty step"));
}

TEST(Native, AFileOfAnotherSystemIsRecognised) {
  EXPECT_THAT(problem(R"({"cases": [{"layers_num_list": [[1]]}]})"),
              HasSubstr("use --from hspmd"));
  EXPECT_THAT(problem(R"([[[1, 2, 1]]])"), HasSubstr("--from hydraulis"));
  EXPECT_THAT(problem(R"({"hetero_configs": []})"),
              HasSubstr("--from hexiscale"));
  EXPECT_THAT(problem("{}"), HasSubstr("/format: missing"));
  LoadOptions options;
  options.from = "deepspeed";
  EXPECT_THAT(problem("{}", options), HasSubstr("unknown format 'deepspeed'"));
}

struct Wrong {
  const char* rest;
  const char* message;
};
class NativeErrors : public testing::TestWithParam<Wrong> {};

TEST_P(NativeErrors, NamePlaceAndRemedy) {
  EXPECT_THAT(problem(on_a800(GetParam().rest)), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    All, NativeErrors,
    testing::Values(
        Wrong{R"("dp": 3, "tp": 8)",
              "/dp: dp 3 x tp 8 x pp 1 x cp 1 = 24 "
              "ranks, but cluster a800-16 has 16"},
        Wrong{R"("dp": 262144, "tp": 262144, "pp": 262144)", "at most"},
        Wrong{R"("pp": 33)", "/pp: pp 33 x interleave 1 = 33 stages"},
        Wrong{R"("tp": 4, "devices": "0-2")", "/devices: 3 devices for"},
        Wrong{R"("pp": 2, "layers_per_stage": [32])",
              "/layers_per_stage: 1 counts; expected pp 2"},
        Wrong{R"("pp": 2, "layers_per_stage": [16, 15])",
              "/layers_per_stage: the stages hold 31 layers"},
        Wrong{R"("tp": 2, "order": "tp-dp")", "/order: expected an order"},
        Wrong{R"("seq_len2": 3)", "unknown key (did you mean 'seq_len'?)"},
        Wrong{R"("dp": 2, "pipelines": [])", "/pipelines: give pipelines, or"},
        Wrong{R"("phases": [])", "/phases: no phases"},
        Wrong{R"("pipelines": [])", "/pipelines: no pipelines"},
        Wrong{R"("pipelines": [{"stages": []}])",
              "/pipelines/0/stages: no "
              "stages"},
        Wrong{R"("pipelines": [{"stages": [{}]}])",
              "/pipelines/0/stages/0/devices: missing"},
        Wrong{R"("pipelines": [{"stages": [{"devices": ""}]}])",
              "/pipelines/0/stages/0/devices: expected at least one"},
        Wrong{R"("pipelines": [{"repeat": 2, "stages": [{"devices": "0"}]}])",
              "/pipelines/0/device_stride: missing"},
        Wrong{R"("pipelines": [{"stages": [{"devices": "0-3", "tp": 3}]}])",
              "/pipelines/0/stages/0/devices: 4 devices; expected tp 3"},
        Wrong{R"("pipelines": [{"stages": [
                {"devices": "0", "layers": 3}, {"devices": "1"}]}])",
              "/pipelines/0/stages/1/layers: missing"},
        Wrong{R"("pipelines": [{"stages": [{"devices": {"kind": "h100",
                "count": 1}}]}])",
              "1 more h100 device wanted, 0 free"},
        Wrong{R"("pipelines": [{"stages": [{"devices": "0-1", "cp": 2,
                "shares": [0.5, 0.6]}]}])",
              "the shares of the sequence add up to 1.1"},
        Wrong{R"("tp": 1, "dtype": "int8")", "/dtype: expected one of fp32"},
        Wrong{R"("tp": 1, "dtype": "fp8")", "has no fp8 peak"},
        Wrong{R"("tp": 1, "schedule": "custom")", "/order_file: schedule"},
        Wrong{R"("tp": 1, "micro_batches": 0)", "/micro_batches: 0"},
        Wrong{R"("tp": 1, "recompute": {"mode": "full", "layers": "30-40"})",
              "/recompute: layer 32 is beyond"},
        Wrong{R"("tp": 1, "micro_batches": 1048576, "seq_len": 67108864)",
              "key 'seq_len' appears twice"},
        Wrong{R"("phases": [{"rule": {"seq_len": [0, 10]}, "tp": 1},
                            {"rule": {"seq_len": [9, 20]}, "tp": 1}])",
              "/phases/1/rule: applies at the same time as phase 0"},
        Wrong{R"("phases": [{"rule": {"steps": [5, 5]}, "tp": 1}])",
              "/phases/0/rule: range from 5 to 5 is empty"},
        Wrong{R"("phases": [{"rule": {}, "tp": 1}])",
              "/phases/0/rule: expected one of"},
        Wrong{R"("dp": 2, "phases": [{"tp": 1}])",
              "/dp: belongs into each of the phases"}));

TEST(Native, OdditiesAreAcceptedWithAWarning) {
  // 40 heads of 13b with tp 8 over the node boundary, and idle devices.
  const auto plan = load(R"({"format": "troupe.strategy/1",
    "model": "llama-13b", "cluster": "a800-16", "pipelines": [
      {"micro_batches": 1, "stages": [{"devices": "4-11", "layers": 40},
                                      {"devices": "12", "layers": 0}]}]})");
  ASSERT_TRUE(plan) << plan.error().message;
  const std::string text = warnings(*plan);
  EXPECT_THAT(text, HasSubstr("crosses nodes"));
  EXPECT_THAT(text, HasSubstr("8 of 16 devices idle: 0-3,12-15"));
  EXPECT_THAT(text, HasSubstr("/pipelines/0/stages/1: a stage without layers; "
                              "it is left out and its devices (12)"));
  EXPECT_EQ(plan->strategy.phases[0].pipelines[0].stages.size(), 1u);
}

}  // namespace
}  // namespace troupe::strategy
