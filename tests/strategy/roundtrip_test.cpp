// Written and read again, any strategy is the same.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <numeric>

#include "strategy/native.h"
#include "strategy/validate.h"
#include "strategy/write.h"
#include "tests/strategy/helpers.h"

namespace troupe::strategy {
namespace {

using rc::gen::inRange;

/// A chain of stages on devices from `next` on, with every option varied.
Pipeline any_pipeline(const models::Model& model, int& next) {
  Pipeline p;
  const int stages = *inRange(1, 5);
  const int chunks = *rc::gen::element(1, 1, 2);
  std::vector<int> counts(static_cast<std::size_t>(stages * chunks), 1);
  for (int left = model.layers - stages * chunks; left > 0; --left) {
    ++counts[static_cast<std::size_t>(*inRange(0, stages * chunks))];
  }
  for (int s = 0; s < stages; ++s) {
    Stage stage;
    const int cp = *inRange(1, 4);
    const int tp = *rc::gen::element(1, 2, 4);
    for (int c = 0; c < cp; ++c) {
      Member member{{}, 1.0 / cp};
      for (int t = 0; t < tp; ++t) member.devices.push_back(DeviceId{next++});
      stage.members.push_back(std::move(member));
    }
    if (cp == 2 && *inRange(0, 2)) {
      stage.members[0].share = 0.625;
      stage.members[1].share = 0.375;
    }
    if (*inRange(0, 2)) std::swap(stage.members[0], stage.members.back());
    if (*inRange(0, 3) == 0) {
      stage.recompute = RecomputeRule{Recompute::full, {}};
      if (*inRange(0, 2)) stage.recompute->layers = {3, 1, 2};
    }
    p.stages.push_back(std::move(stage));
  }
  int first = 0;
  for (std::size_t v = 0; v < counts.size(); ++v) {
    p.stages[v % p.stages.size()].chunks.push_back({first, first + counts[v]});
    first += counts[v];
  }
  p.micro_batches = *inRange(1, 9);
  p.micro_batch_size = *inRange(1, 4);
  if (*inRange(0, 2)) p.seq_len = 512;
  if (*inRange(0, 3) == 0) {
    p.micro_batch_seq_lens = *rc::gen::container<std::vector<int>>(
        static_cast<std::size_t>(p.micro_batches), inRange(64, 1000));
  }
  return p;
}

PhaseRule any_rule(int index) {
  switch (*inRange(0, 3)) {
    case 0:
      return {PhaseRule::Kind::seq_len, index * 100, index * 100 + 50, ""};
    case 1:
      return {PhaseRule::Kind::steps, index * 10, index * 10 + 10, ""};
    default:
      return {PhaseRule::Kind::event, 0, 0, "event" + std::to_string(index)};
  }
}

Strategy any_strategy(const models::Model& model) {
  Strategy s;
  s.name = "any \"thing\"";
  s.source = "made up";
  s.model = "llama-7b";
  s.cluster = "a800-64";
  s.seq_len = *inRange(64, 5000);
  s.dtype = *rc::gen::element(kernels::DType::bf16, kernels::DType::fp16);
  s.zero = *rc::gen::element(Zero::none, Zero::one, Zero::two, Zero::three);
  s.sequence_parallel = *rc::gen::arbitrary<bool>();
  s.overlap_gradient_sync = *rc::gen::arbitrary<bool>();
  s.flash_attention = *rc::gen::arbitrary<bool>();
  s.attention_kernel = *rc::gen::element(kernels::AttentionKernel::tuned,
                                         kernels::AttentionKernel::flash1,
                                         kernels::AttentionKernel::flash2);
  s.pointwise = *rc::gen::element(Pointwise::fused, Pointwise::eager,
                                  Pointwise::autocast);
  s.overlap_hand_over = *rc::gen::arbitrary<bool>();
  s.hand_over = *rc::gen::element(HandOver::cheapest, HandOver::batched,
                                  HandOver::leader, HandOver::scatter);
  s.schedule = ScheduleKind::custom;
  s.order_file = "/order.json";
  if (*inRange(0, 2)) s.recompute.mode = Recompute::selective;
  const int phases = *inRange(1, 4);
  for (int i = 0; i < phases; ++i) {
    Phase phase;
    if (phases > 1) phase.rule = any_rule(i);
    phase.name = "phase" + std::to_string(i);
    int next = 0;
    const int pipelines = *inRange(1, 4);
    for (int p = 0; p < pipelines; ++p) {
      phase.pipelines.push_back(any_pipeline(model, next));
    }
    s.phases.push_back(std::move(phase));
  }
  return s;
}

RC_GTEST_PROP(RoundTrip, WrittenAndReadAgainAStrategyIsTheSame, ()) {
  static const models::Model model = model_named("llama-7b");
  static const clusters::Cluster cluster =
      cluster_named("8 x a800 per node, 200 Gbit/s per GPU, 18 nodes");
  const Strategy strategy = any_strategy(model);
  const Json json = to_json(strategy);
  const Draft draft = read_native(json, "again.json", model, cluster);
  RC_ASSERT(draft.findings.all().empty());
  RC_ASSERT(draft.strategy == strategy);
  // What the generator makes is valid, and so is what comes back.
  const Findings findings =
      validate(draft.strategy, model, cluster, draft.places);
  if (!findings.ok()) RC_FAIL(findings.to_error().message);
  RC_ASSERT(to_json(draft.strategy) == json);
}

RC_GTEST_PROP(RoundTrip, ADamagedStrategyIsAlwaysFound, ()) {
  static const models::Model model = model_named("llama-7b");
  static const clusters::Cluster cluster =
      cluster_named("8 x a800 per node, 200 Gbit/s per GPU, 18 nodes");
  Strategy s = any_strategy(model);
  auto& pipelines = s.phases.back().pipelines;
  Pipeline& p = pipelines.back();
  Stage& stage = p.stages.back();
  const int damage = *inRange(0, 9);
  switch (damage) {
    case 0:
      stage.chunks.back().last -= 1;
      break;
    case 1:
      stage.members[0].devices[0] = p.stages[0].members[0].devices[0];
      if (&stage == &p.stages[0]) stage.members[0].devices.clear();
      break;
    case 2:
      stage.members[0].devices[0] = DeviceId{100000};
      break;
    case 3:
      p.micro_batches = 0;
      break;
    case 4:
      stage.members[0].share = std::nan("");
      break;
    case 5:
      p.micro_batch_seq_lens.assign(
          static_cast<std::size_t>(p.micro_batches) + 1, 128);
      break;
    case 6:
      stage.members[0].devices.assign(3, DeviceId{140});
      break;
    case 7:
      stage.chunks.front().first += 1;
      break;
    default:
      s.phases.push_back(s.phases.back());
      s.phases.back().rule = {PhaseRule::Kind::event, 0, 0, ""};
      break;
  }
  RC_TAG(damage);
  RC_ASSERT(!validate(s, model, cluster).ok());
}

TEST(Tokens, SaturateInsteadOfWrapping) {
  Strategy s;
  s.seq_len = 1 << 30;
  Phase phase;
  phase.pipelines.resize(3);
  for (Pipeline& p : phase.pipelines) {
    p.micro_batches = 1 << 30;
    p.micro_batch_size = 1 << 30;
  }
  EXPECT_EQ(tokens_per_step(s, phase),
            std::numeric_limits<std::int64_t>::max());
}

TEST(Tokens, CountEveryMicroBatchOfItsOwnLength) {
  Strategy s;
  s.seq_len = 100;
  Phase phase;
  phase.pipelines.resize(2);
  phase.pipelines[0].micro_batches = 3;
  phase.pipelines[0].micro_batch_size = 2;
  phase.pipelines[1].micro_batches = 2;
  phase.pipelines[1].micro_batch_seq_lens = {7, 9};
  // 3 x 2 x 100 + 7 + 9.
  EXPECT_EQ(tokens_per_step(s, phase), 616);
  EXPECT_EQ(sequence_length(s, phase.pipelines[1], 1), 9);
  phase.pipelines[0].seq_len = 50;
  EXPECT_EQ(sequence_length(s, phase.pipelines[0], 2), 50);
}

}  // namespace
}  // namespace troupe::strategy
