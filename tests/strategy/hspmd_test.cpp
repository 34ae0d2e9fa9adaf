// HSPMD's packed strategies against what its artifact derives from them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/strategy/helpers.h"

namespace troupe::strategy {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

LoadOptions hspmd(int case_index = -1) {
  LoadOptions options;
  options.from = "hspmd";
  options.case_index = case_index;
  return options;
}

Json seed(const char* name) {
  auto json = read_json(seeds() / "hspmd" / name);
  EXPECT_TRUE(json) << (json ? "" : json.error().message);
  return json.value_or(Json());
}

TEST(Hspmd, EveryCaseHasItsPipelines) {
  SKIP_WITHOUT_SEEDS();
  const std::string file =
      (seeds() / "hspmd/hetero_cluster_cases.json").string();
  const Json all = seed("hetero_cluster_cases.json");
  for (const Json& expected : all["cases"]) {
    const int number = expected["case"];
    SCOPED_TRACE(number);
    const auto plan = load_plan(file, hspmd(number));
    ASSERT_TRUE(plan) << plan.error().message;
    expect_rereads_equal(*plan);
    if (!expected.contains("derived_pipelines")) continue;
    const auto& pipelines = plan->strategy.phases[0].pipelines;
    const Json& derived = expected["derived_pipelines"];
    ASSERT_EQ(pipelines.size(), derived.size());
    for (std::size_t p = 0; p < derived.size(); ++p) {
      ASSERT_EQ(pipelines[p].stages.size(), derived[p].size());
      EXPECT_EQ(pipelines[p].micro_batches,
                expected["micro_batch_num_list"][p]);
      for (std::size_t s = 0; s < derived[p].size(); ++s) {
        const Stage& stage = pipelines[p].stages[s];
        EXPECT_EQ(Json(devices_of(stage)), derived[p][s]["devices"]);
        EXPECT_EQ(Json({stage.chunks[0].first, stage.chunks[0].last}),
                  derived[p][s]["layers"]);
        const std::string kind =
            plan->cluster.kind_of(stage.members[0].devices[0]).name;
        EXPECT_EQ(kind.substr(0, 3),
                  derived[p][s]["device_type"][0] == "H20" ? "h20" : "h80");
      }
    }
    EXPECT_EQ(plan->model.layers, expected["num_layers"]);
    EXPECT_EQ(plan->strategy.zero,
              derived.size() == 1 ? Zero::none : Zero::one);
  }
}

TEST(Hspmd, TheHomogeneousCaseIsContextParallel) {
  SKIP_WITHOUT_SEEDS();
  const auto plan = load_plan(
      (seeds() / "hspmd/hetero_cluster_cases.json").string(), hspmd(0));
  ASSERT_TRUE(plan) << plan.error().message;
  const auto& pipelines = plan->strategy.phases[0].pipelines;
  ASSERT_EQ(pipelines.size(), 2u);
  // Stage s is on GPUs [8 s, 8 s + 8); inside, dp, then cp, then tp.
  EXPECT_THAT(devices_of(pipelines[1].stages[1]), ElementsAre(12, 13, 14, 15));
  EXPECT_EQ(pipelines[1].stages[1].members.size(), 2u);
  EXPECT_EQ(pipelines[0].micro_batches, 32);
}

/// Case 5 with one of the recorded edits.
Json edited(const Json& change) {
  Json json;
  const Json all = seed("hetero_cluster_cases.json");
  for (const Json& c : all["cases"]) {
    if (c["case"] == 5) json = c;
  }
  for (const auto& [key, value] : change.items()) {
    const bool edit = value.is_object() &&
                      (value.contains("remove") || value.contains("set"));
    if (!edit) {
      json[key] = value;
      continue;
    }
    for (const Json& gone : value.value("remove", Json::array())) {
      json[key].erase(gone.get<std::string>());
    }
    const Json set = value.value("set", Json::object());
    for (const auto& [rank, device] : set.items()) json[key][rank] = device;
  }
  return json;
}

TEST(Hspmd, EveryRecordedMistakeIsNamedOrDoneRight) {
  SKIP_WITHOUT_SEEDS();
  // Edit by name: the field and the reason, or empty where a system that
  // allows uneven parts does what was asked.
  const std::map<std::string, std::string> expected{
      {"cp_list length differs from dp",
       ": /cp_list: 2 entries; expected one for each of dp 3 groups"},
      {"layer lists fewer than pipelines",
       ": /layers_num_list: 2 lists of layers; expected one for each of the 3"},
      {"layers of a pipeline do not add up",
       ": /layers_num_list/0: the stages hold 59 layers; expected 60"},
      {"negative layer count that still adds up",
       ": /layers_num_list/0/2: expected a whole number from 0"},
      {"zero-layer stage", ""},
      {"rank missing from mapping",
       ": /rank_to_device_mapping: no device for rank 17"},
      {"two ranks on one device",
       ": /rank_to_device_mapping/17: device 8 is used already (at "
       "/rank_to_device_mapping/16)"},
      {"device id beyond the cluster",
       ": /rank_to_device_mapping/17: device 99 is beyond"},
      {"all ranks of a stage unused",
       ": /unused_rank: all ranks of stage 2 of pipeline 2 (36 to 39)"},
      {"three working GPUs in a TP-4 stage",
       ": /unused_rank: tensor-parallel degree 3 does not divide the 64 heads"},
      {"unused rank outside range", ": /unused_rank/5: rank 44 does not exist"},
      {"micro batch list length differs from dp",
       ": /micro_batch_num_list: 2 counts; expected one for each of dp 3"},
      {"micro batches do not add up to the global batch",
       ": /micro_batch_num_list: the micro-batches add up to 63; the global "
       "batch is 64"},
      {"fewer micro batches than stages", ""},
      {"sequence lengths do not add up",
       ": /seq_len_list: 2 lengths; expected one for each of the 3"},
      {"zero micro batches for a pipeline", ": /micro_batch_num_list/2: 0"},
      {"tensor rows not divisible under ZeRO", ""},
      {"tp not a power of two",
       ": /tp: tensor-parallel degree 3 does not divide the 64 heads"}};
  std::size_t met = 0;
  const Json invalid = seed("invalid_strategies.json");
  for (const Json& c : invalid["cases"]) {
    const std::string name = c["name"];
    SCOPED_TRACE(name);
    const auto it = expected.find(name);
    const auto plan = load(to_text(edited(c["change"])), hspmd());
    if (it == expected.end()) {
      continue;  // an edit that this list does not know
    }
    ++met;
    if (it->second.empty()) {
      ASSERT_TRUE(plan) << plan.error().message;
      expect_rereads_equal(*plan);
    } else {
      ASSERT_FALSE(plan);
      EXPECT_THAT(plan.error().message, HasSubstr("s.json" + it->second));
    }
  }
  EXPECT_EQ(met, 18u);
}

TEST(Hspmd, AZeroLayerStageLeavesItsDevicesIdle) {
  SKIP_WITHOUT_SEEDS();
  const Json change{
      {"layers_num_list", {{7, 0, 30, 23}, {11, 11, 38}, {12, 11, 24, 13}}}};
  const auto plan = load(to_text(edited(change)), hspmd());
  ASSERT_TRUE(plan) << plan.error().message;
  const auto& stages = plan->strategy.phases[0].pipelines[0].stages;
  ASSERT_EQ(stages.size(), 3u);
  EXPECT_THAT(devices_of(stages[1]), ElementsAre(24, 25, 26, 27));
  EXPECT_THAT(warnings(*plan), HasSubstr("its devices (4-7) stay idle"));
}

TEST(Hspmd, SeveralMistakesComeTogether) {
  SKIP_WITHOUT_SEEDS();
  const Json change{
      {"layers_num_list", {{7, 7, 23, 22}, {11, 11, 38}, {12, 11, 24, 13}}},
      {"micro_batch_num_list", {29, 18, 16}},
      {"rank_to_device_mapping", {{"set", {{"17", 99}}}}},
      {"unused_rank", {38, 39, 41, 42, 43, 70}},
      {"mistake", 1}};
  const auto plan = load(to_text(edited(change)), hspmd());
  ASSERT_FALSE(plan);
  for (const char* part :
       {"/layers_num_list/0: ", "/micro_batch_num_list: ",
        "/rank_to_device_mapping/17: device 99", "/unused_rank/5: rank 70",
        "/mistake: unknown key"}) {
    EXPECT_THAT(plan.error().message, HasSubstr(part));
  }
}

TEST(Hspmd, OlderRevisionsAndElasticTracesConvert) {
  SKIP_WITHOUT_SEEDS();
  for (const auto& [name, list] :
       {std::pair{"older_revision_strategies.json", "strategies"},
        std::pair{"elastic_traces_inferred.json", "configs"}}) {
    const auto count = static_cast<int>(seed(name)[list].size());
    for (int i = 0; i < count; ++i) {
      SCOPED_TRACE(std::string(name) + " " + std::to_string(i));
      const auto plan =
          load_plan((seeds() / "hspmd" / name).string(), hspmd(i));
      ASSERT_TRUE(plan) << plan.error().message;
      expect_rereads_equal(*plan);
    }
    EXPECT_GT(count, 0);
  }
}

/// A packed strategy of 60 layers on 16 H20 with context parallelism.
std::string with_cp(const std::string& lists) {
  return R"({"num_layers": 60, "dp": 1, "tp": 4, "cluster": "16*H20",
             "cp_list": [2], "micro_batch_num_list": [8], )" +
         lists + "}";
}

TEST(Hspmd, PipelinesOfOneGroupBecomeMembers) {
  const auto plan = load(with_cp(R"("layers_num_list": "[[30, 30], [30, 30]]",
                 "unused_rank": "[10, 11]", "seq_len_list": [3072, 1024],
                 "hetero": true)"),
                         hspmd());
  ASSERT_TRUE(plan) << plan.error().message;
  const Strategy& s = plan->strategy;
  EXPECT_EQ(s.seq_len, 4096);
  ASSERT_EQ(s.phases[0].pipelines.size(), 1u);
  const Stage& first = s.phases[0].pipelines[0].stages[0];
  ASSERT_EQ(first.members.size(), 2u);
  EXPECT_EQ(first.members[0].tp(), 4);
  EXPECT_EQ(first.members[1].tp(), 2);
  EXPECT_EQ(first.members[0].share, 0.75);
  EXPECT_THAT(devices_of(first), ElementsAre(0, 1, 2, 3, 8, 9));
  // Two pipelines, so ZeRO stays on as in the artifact.
  EXPECT_EQ(s.zero, Zero::one);
  expect_rereads_equal(*plan);
}

TEST(Hspmd, MembersMustHaveTheSameLayers) {
  EXPECT_THAT(
      problem(with_cp(R"("layers_num_list": [[30, 30], [20, 40]])"), hspmd()),
      HasSubstr("/layers_num_list/1: pipelines of one context-parallel group "
                "must have the same layers"));
}

TEST(Hspmd, ListsMayBeEmptyNullOrTexts) {
  const auto plan =
      load(R"({"num_layers": 60, "num_gpus": 8, "dp": "2", "tp": 4})", hspmd());
  EXPECT_FALSE(plan);
  const char* text = R"({"num_layers": 60, "num_gpus": 8, "dp": 2, "tp": 4,
      "hetero": true, "zero": false, "cp_list": "null",
      "layers_num_list": "[[60],[60]]", "rank_to_device_mapping":
      "{0: 4, 1: 5, 2: 6, 3: 7, 4: 0, 5: 1, 6: 2, 7: 3}",
      "unused_rank": "[]", "micro_batch_num_list": "[3, 5]",
      "seq_len_list": null})";
  const auto good = load(text, hspmd());
  ASSERT_TRUE(good) << good.error().message;
  const auto& p = good->strategy.phases[0].pipelines;
  EXPECT_THAT(devices_of(p[0].stages[0]), ElementsAre(4, 5, 6, 7));
  EXPECT_EQ(p[1].micro_batches, 5);
  EXPECT_EQ(good->strategy.zero, Zero::none);
}

TEST(Hspmd, SequenceLengthsOfGroupsMustAgree) {
  const std::string text = problem(
      R"({"num_layers": 60, "dp": 2, "tp": 4, "cluster": "8 H20",
          "layers_num_list": [[60], [60]], "micro_batch_num_list": [1, 1],
          "seq_len_list": [4096, 2048]})",
      hspmd());
  EXPECT_THAT(text, HasSubstr("/seq_len_list: the lengths of DP group 1 add "
                              "up to 2048; expected 4096"));
}

TEST(Hspmd, AnUnknownCaseListsTheOnesThereAre) {
  SKIP_WITHOUT_SEEDS();
  const std::string file =
      (seeds() / "hspmd/hetero_cluster_cases.json").string();
  for (const int number : {-1, 15}) {
    const auto plan = load_plan(file, hspmd(number));
    ASSERT_FALSE(plan);
    EXPECT_THAT(plan.error().message, HasSubstr("15 cases"));
    EXPECT_THAT(plan.error().message, HasSubstr("--case: 0, 1, 2"));
  }
}

TEST(Hspmd, RecomputationIsPerPipeline) {
  const auto plan = load(
      R"({"num_layers": 60, "dp": 2, "tp": 4, "cluster": "8 H20",
          "layers_num_list": [[60], [60]], "micro_batch_num_list": [1, 1],
          "recompute_granularity": ["full", null],
          "recompute_layer_idxs_list": [[1, 2], []]})",
      hspmd());
  ASSERT_TRUE(plan) << plan.error().message;
  const auto& p = plan->strategy.phases[0].pipelines;
  ASSERT_TRUE(p[0].stages[0].recompute);
  EXPECT_THAT(p[0].stages[0].recompute->layers, ElementsAre(1, 2));
  EXPECT_FALSE(p[1].stages[0].recompute);
}

}  // namespace
}  // namespace troupe::strategy
