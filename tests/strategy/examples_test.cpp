// The shipped examples, and that those taken from other systems are theirs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/strategy/helpers.h"

namespace troupe::strategy {
namespace {

Plan example(const std::string& name) {
  auto plan = load_plan(name);
  EXPECT_TRUE(plan) << (plan ? "" : plan.error().message);
  return plan ? *std::move(plan) : Plan{};
}

TEST(Examples, AllLoadNameTheirSourceAndRereadEqual) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(
           std::filesystem::path(TROUPE_SOURCE_DIR) / "examples")) {
    if (entry.path().extension() != ".json") continue;
    const auto json = read_json(entry.path());
    ASSERT_TRUE(json) << json.error().message;
    if (json->value("format", "") != "troupe.strategy/1") continue;
    SCOPED_TRACE(entry.path().string());
    const Plan plan = example(entry.path().stem().string());
    EXPECT_FALSE(plan.strategy.source.empty());
    expect_rereads_equal(plan);
    ++count;
  }
  EXPECT_GE(count, 9);
}

TEST(Examples, TheMixedClusterIsUsedWhollyAndLayersFollowSpeed) {
  const Plan plan = example("mixed-1024gpu");
  const Phase& phase = plan.strategy.phases[0];
  EXPECT_EQ(used_devices(phase).size(), 1024u);
  EXPECT_TRUE(plan.findings.all().empty()) << warnings(plan);
  ASSERT_EQ(phase.pipelines.size(), 16u);
  for (const Pipeline& p : phase.pipelines) {
    ASSERT_EQ(p.stages.size(), 8u);
    for (const Stage& s : p.stages) {
      const auto& kind = plan.cluster.kind_of(s.members[0].devices[0]);
      EXPECT_EQ(s.layers(), kind.name == "h20" ? 7 : 19);
      EXPECT_TRUE(plan.cluster.same_node(s.members[0].devices.front(),
                                         s.members[0].devices.back()));
    }
  }
  // 16 pipelines x 64 micro-batches x 4096 tokens.
  EXPECT_EQ(tokens_per_step(plan.strategy, phase), 16 * 64 * 4096);
}

/// Phases without their names, which the examples word more kindly.
std::vector<Phase> unnamed(std::vector<Phase> phases) {
  for (Phase& phase : phases) phase.name.clear();
  return phases;
}

TEST(Examples, AreWhatTheRecordedFilesConvertTo) {
  SKIP_WITHOUT_SEEDS();
  struct Pair {
    const char* name;
    const char* from;
    const char* file;
    int case_index;
  };
  for (const Pair& pair :
       {Pair{"hspmd-case5", "hspmd", "hspmd/hetero_cluster_cases.json", 5},
        Pair{"hspmd-case13", "hspmd", "hspmd/hetero_cluster_cases.json", 13},
        Pair{"hotspa-7b-8gpu", "hotspa", "hotspa/paper_configs.json", 0},
        Pair{"hydraulis-case-study", "hydraulis", "hydraulis/case_study.json",
             -1}}) {
    SCOPED_TRACE(pair.name);
    LoadOptions options;
    options.from = pair.from;
    options.case_index = pair.case_index;
    const auto converted = load_plan((seeds() / pair.file).string(), options);
    ASSERT_TRUE(converted) << converted.error().message;
    const Plan plan = example(pair.name);
    EXPECT_EQ(unnamed(plan.strategy.phases),
              unnamed(converted->strategy.phases));
    EXPECT_EQ(plan.strategy.model, converted->strategy.model);
    EXPECT_EQ(plan.strategy.cluster, converted->strategy.cluster);
    EXPECT_EQ(plan.strategy.zero, converted->strategy.zero);
  }
}

TEST(Examples, FasopsPartitionPutsTheA100NodeLast) {
  const Plan plan = example("fasop-a100-a10");
  const auto& stages = plan.strategy.phases[0].pipelines[1].stages;
  ASSERT_EQ(stages.size(), 16u);
  const auto kind = [&](const Stage& s) {
    return plan.cluster.kind_of(s.members[0].devices[0]).name;
  };
  EXPECT_EQ(kind(stages[13]), "a10");
  EXPECT_EQ(kind(stages[14]), "a100-sxm-40");
  // Each node holds two stages of both pipelines.
  EXPECT_TRUE(plan.cluster.same_node(stages[0].members[0].devices[0],
                                     stages[1].members[0].devices[0]));
}

}  // namespace
}  // namespace troupe::strategy
