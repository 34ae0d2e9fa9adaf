#include "schedule/lower.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "schedule/check.h"
#include "schedule/file.h"
#include "schedule/memory.h"
#include "tests/support/fixtures.h"

namespace troupe::schedule {
namespace {

const char* const kCluster =
    "8 x h100-sxm per node, 400 Gbit/s per GPU, "
    "16 nodes";

Schedule lowered(const strategy::Strategy& s, const models::Model& model) {
  auto schedule = lower(s, s.phases[0], model, test::cluster_of(kCluster));
  EXPECT_TRUE(schedule.has_value());
  return std::move(*schedule);
}

/// Pipelines 0 and 1 with TP 4 | 4 and 4 | 2 | 1 over 8 layers.
strategy::Strategy unequal(const models::Model& model) {
  auto s = test::strategy_of(model, {.dp = 2, .tp = 4, .pp = 2});
  auto& stages = s.phases[0].pipelines[1].stages;
  stages[1].members[0].devices = {clusters::DeviceId{12},
                                  clusters::DeviceId{13}};
  stages[0].chunks = {{0, 5}};
  stages[1].chunks = {{5, 7}};
  strategy::Stage last;
  last.members.push_back({{clusters::DeviceId{14}}, 1.0});
  last.chunks = {{7, 8}};
  stages.push_back(last);
  s.phases[0].pipelines[1].micro_batches = 3;
  return s;
}

TEST(Lowering, MakesOneTaskForEachMicroBatchStageAndDirection) {
  const auto model = test::tiny_model();
  const Schedule s =
      lowered(test::strategy_of(model, {.dp = 2, .tp = 2, .pp = 4}), model);
  std::map<TaskKind, int> count;
  for (const Task& t : s.tasks) ++count[t.kind];
  EXPECT_EQ(count[TaskKind::forward], 2 * 4 * 4);
  EXPECT_EQ(count[TaskKind::backward], 2 * 4 * 4);
  EXPECT_EQ(count[TaskKind::transfer], 2 * 3 * 4 * 2);
  EXPECT_EQ(count[TaskKind::optimizer], 8);
  // One gradient sync per stage pair, one within each stage for what its
  // ranks hold in common, one for the norm.
  EXPECT_EQ(count[TaskKind::gradient_sync], 4 + 8 + 1);
  EXPECT_EQ(s.ranks.size(), 16u);
}

// Layers 0-3 | 4-7 against 0-4 | 5-6 | 7: cuts at 4, 5, 7.
TEST(Lowering, SyncsTheSegmentsThatUnequalPipelinesShare) {
  const auto model = test::tiny_model();
  const Schedule s = lowered(unequal(model), model);
  std::vector<std::string> names;
  for (const Sync& sync : s.syncs) names.push_back(sync.name);
  EXPECT_EQ(names, (std::vector<std::string>{"embedding, layers 0-3", "layer 4",
                                             "layers 5-6", "layer 7, head",
                                             "norms", "norms", "norms", "norms",
                                             "gradient norm"}));
  // Two norms of each layer and, at the end, one more; fp32.
  EXPECT_EQ(s.syncs[4].groups[0].bytes.v, 4 * 2 * 256 * 4);
  EXPECT_EQ(s.syncs[5].groups[0].bytes.v, (4 * 2 + 1) * 256 * 4);
  // Layer 7: TP 4 against TP 1, so the single device is in all four groups.
  const Sync& last = s.syncs[3];
  ASSERT_EQ(last.groups.size(), 4u);
  for (const SyncGroup& g : last.groups) {
    ASSERT_EQ(g.ranks.size(), 2u);
    EXPECT_EQ(s.rank(g.ranks[1]).device.v, 14);
  }
}

TEST(Lowering, LeavesOutStagesWithoutLayers) {
  const auto model = test::tiny_model();
  auto s = test::strategy_of(model, {.pp = 3});
  s.phases[0].pipelines[0].stages[0].chunks = {{0, 4}};
  s.phases[0].pipelines[0].stages[1].chunks = {{4, 4}};
  s.phases[0].pipelines[0].stages[2].chunks = {{4, 8}};
  const Schedule out = lowered(s, model);
  EXPECT_EQ(out.stages.size(), 2u);
  EXPECT_TRUE(check_schedule(out, nullptr, {}).ok());
}

// TP 4 -> TP 2 under sequence parallelism: rows regroup 2 to 1.
TEST(HandOver, RegroupsRowsBetweenDifferentTensorParallelDegrees) {
  const auto model = test::tiny_model();
  const Schedule s = lowered(unequal(model), model);
  for (const Transfer& t : s.transfers) {
    Bytes sum;
    for (const Message& m : t.messages) sum += m.bytes;
    // 128 tokens x 256 hidden x 2 bytes, each row sent once.
    EXPECT_EQ(sum.v, 128 * 256 * 2);
  }
}

TEST(HandOver, ReplicatesWithoutSequenceParallelism) {
  const auto model = test::tiny_model();
  auto strategy = test::strategy_of(model, {.tp = 2, .pp = 2});
  strategy.sequence_parallel = false;
  const Schedule s = lowered(strategy, model);
  ASSERT_EQ(s.transfers[0].messages.size(), 2u);
  EXPECT_EQ(s.transfers[0].messages[0].bytes.v, 128 * 256 * 2);
}

// Four stages, many micro-batches: stage s keeps 4 - s of them.
TEST(Memory, FollowsTheMicroBatchesInFlight) {
  const auto model = test::tiny_model();
  const Schedule s =
      lowered(test::strategy_of(model, {.pp = 4, .micro_batches = 16}), model);
  const auto layers = [&](std::size_t stage) {
    // Stage 1 and 2 hold nothing but layers.
    return memory_of(s, s.stages[stage]).activations.v;
  };
  EXPECT_EQ(layers(1) * 2, layers(2) * 3);
  const auto gpipe_layers = [&] {
    auto g = test::strategy_of(model, {.pp = 4, .micro_batches = 16});
    g.schedule = strategy::ScheduleKind::gpipe;
    const Schedule out = lowered(g, model);
    return memory_of(out, out.stages[2]).activations.v;
  };
  EXPECT_EQ(gpipe_layers(), layers(2) / 2 * 16);
}

// Unfused attention keeps the softmax and what dropout left of it, each
// heads x seq x seq in bf16, besides the fp32 statistics of heads x seq that
// both keep. Stage 1 of 2 keeps one micro-batch of four layers.
TEST(Memory, UnfusedAttentionKeepsTheScoreMatrices) {
  const auto model = test::tiny_model();
  auto strategy = test::strategy_of(model, {.pp = 2});
  const Schedule fused = lowered(strategy, model);
  strategy.flash_attention = false;
  const Schedule unfused = lowered(strategy, model);
  EXPECT_EQ(memory_of(unfused, unfused.stages[1]).activations.v -
                memory_of(fused, fused.stages[1]).activations.v,
            4 * (2 * 16 * 128 * 128 * 2));
  EXPECT_TRUE(check_schedule(unfused, nullptr, {}).ok());
}

// Full recomputation keeps the layer's input only: T h 2 bytes a layer.
TEST(Memory, FullRecomputationKeepsInputsOnly) {
  const auto model = test::tiny_model();
  auto strategy = test::strategy_of(model, {.pp = 4, .micro_batches = 8});
  strategy.recompute.mode = strategy::Recompute::full;
  const Schedule s = lowered(strategy, model);
  EXPECT_EQ(memory_of(s, s.stages[1]).activations.v, 3 * 2 * (128 * 256 * 2));
}

// bf16 weights, fp32 gradients, master and two moments: 2 + 4 + 12 bytes; a
// layer has 4 h^2 + 3 h f = 655,360 matrix elements and two norms of 256.
TEST(Memory, CountsParametersGradientsAndOptimizer) {
  const auto model = test::tiny_model();
  auto strategy = test::strategy_of(model, {.dp = 4, .tp = 2, .pp = 4});
  const std::int64_t local = 2 * (655360 / 2 + 512);
  const Schedule plain = lowered(strategy, model);
  EXPECT_EQ(plain.stages[1].memory.parameters.v, 2 * local);
  EXPECT_EQ(plain.stages[1].memory.gradients.v, 4 * local);
  EXPECT_EQ(plain.stages[1].memory.optimizer.v, 12 * local);
  strategy.zero = strategy::Zero::one;
  const Schedule one = lowered(strategy, model);
  EXPECT_EQ(one.stages[1].memory.optimizer.v, 12 * local / 4);
  EXPECT_EQ(one.stages[1].memory.gradients.v, 4 * local);
  strategy.zero = strategy::Zero::three;
  const Schedule three = lowered(strategy, model);
  EXPECT_EQ(three.stages[1].memory.parameters.v, 2 * local / 4);
}

// Over all ranks ZeRO keeps every parameter's state once, a tied table's too.
RC_GTEST_PROP(Memory, ZeroKeepsTheStateOfEveryParameterOnce, ()) {
  auto model = test::tiny_model();
  model.tied_embeddings = *rc::gen::arbitrary<bool>();
  auto strategy = test::strategy_of(
      model, {.dp = *rc::gen::inRange(1, 5), .pp = *rc::gen::inRange(1, 5)});
  strategy.zero = *rc::gen::element(strategy::Zero::one, strategy::Zero::two,
                                    strategy::Zero::three);
  const Schedule s = lowered(strategy, model);
  std::int64_t kept = 0;
  for (const Stage& stage : s.stages) {
    kept += std::ssize(stage.members) * stage.memory.optimizer.v / 12;
  }
  const std::int64_t all = models::parameters(model);
  RC_ASSERT(kept >= all);
  // At most one element a rank for each group of layers and for the table.
  RC_ASSERT(kept < all + 6 * std::ssize(s.ranks));
}

// Eight layers on one stage: the last backward in four parts of two layers,
// each with a sync that waits for that part only.
TEST(Lowering, CutsTheLastBackwardWhereSyncsOverlapIt) {
  const auto model = test::tiny_model();
  auto strategy = test::strategy_of(model, {.dp = 2, .micro_batches = 3});
  strategy.overlap_gradient_sync = true;
  const Schedule s = lowered(strategy, model);
  int parts = 0;
  for (const Task& t : s.tasks) {
    if (t.parts == 1) continue;
    EXPECT_EQ(t.kind, TaskKind::backward);
    EXPECT_EQ(t.micro_batch, 2);
    ++parts;
  }
  EXPECT_EQ(parts, 2 * 4);
  ASSERT_EQ(s.syncs.size(), 5u);  // four buckets and the norm
  EXPECT_EQ(s.syncs[3].name, "layers 6-7, head");
  for (const Task& t : s.tasks) {
    if (t.kind != TaskKind::gradient_sync || t.what != 3) continue;
    for (std::uint32_t d = 0; d < t.dependencies; ++d) {
      const auto before = s.dependencies[t.first_dependency + d];
      EXPECT_EQ(s.tasks[before.at()].part, 0);
    }
  }
}

RC_GTEST_PROP(Lowering, EveryStrategyGivesACheckedSchedule, ()) {
  test::Degrees d;
  d.dp = *rc::gen::inRange(1, 4);
  d.tp = 1 << *rc::gen::inRange(0, 4);
  d.cp = *rc::gen::inRange(1, 3);
  d.pp = *rc::gen::inRange(1, 5);
  d.micro_batches = *rc::gen::inRange(1, 7);
  d.micro_batch_size = *rc::gen::inRange(1, 3);
  RC_PRE(d.dp * d.tp * d.cp * d.pp <= 128);
  const auto model = test::tiny_model();
  auto s = test::strategy_of(model, d);
  s.zero = static_cast<strategy::Zero>(*rc::gen::inRange(0, 4));
  s.recompute.mode = static_cast<strategy::Recompute>(*rc::gen::inRange(0, 3));
  s.sequence_parallel = *rc::gen::arbitrary<bool>();
  s.overlap_gradient_sync = *rc::gen::arbitrary<bool>();
  s.flash_attention = *rc::gen::arbitrary<bool>();
  const auto cluster = test::cluster_of(kCluster);
  const auto schedule = lower(s, s.phases[0], model, cluster);
  RC_ASSERT(schedule.has_value());
  const Findings findings = check_schedule(*schedule, &cluster, {});
  if (!findings.ok()) RC_FAIL(findings.to_error().message);
}

TEST(ScheduleFile, ReadsBackEqualAndKeepsItsHash) {
  const auto model = test::tiny_model();
  const Schedule s = lowered(unequal(model), model);
  const Json json = to_json(s);
  const auto back = schedule_from_json(json, "s.json");
  ASSERT_TRUE(back.has_value()) << back.error().message;
  EXPECT_EQ(*back, s);
  EXPECT_EQ(content_hash(*back), content_hash(s));
}

TEST(ScheduleFile, RefusesAChangedFile) {
  const auto model = test::tiny_model();
  Json json = to_json(lowered(unequal(model), model));
  json["tokens"] = 1;
  const auto back = schedule_from_json(json, "s.json");
  ASSERT_FALSE(back.has_value());
  EXPECT_NE(back.error().message.find("/hash"), std::string::npos);
}

TEST(Check, FindsAHandOverThatNobodyReceives) {
  const auto model = test::tiny_model();
  Schedule s = lowered(test::strategy_of(model, {.pp = 2}), model);
  for (Task& t : s.tasks) {
    if (t.kind == TaskKind::forward && t.stage.v == 1) t.dependencies = 0;
  }
  EXPECT_FALSE(check_messages(s).ok());
}

TEST(Check, FindsAnOperandOfTheWrongShape) {
  const auto model = test::tiny_model();
  Schedule s = lowered(test::strategy_of(model, {}), model);
  for (Operator& op : s.blocks[1].operators) {
    if (op.name == "qkv") op.shape.dim[2] += 1;
  }
  EXPECT_FALSE(check_shapes(s).ok());
}

}  // namespace
}  // namespace troupe::schedule
