#include "sim/engine.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "schedule/lower.h"
#include "sim/attribution.h"
#include "tests/support/fixtures.h"

namespace troupe::sim {
namespace {

using test::Degrees;

const char* const kCluster =
    "8 x h100-sxm per node, 400 Gbit/s per GPU, "
    "16 nodes";

/// A strategy, performed.
struct Stage {
  clusters::Cluster cluster;
  schedule::Schedule schedule;
  test::FlatCosts costs;
  std::unique_ptr<Network> network;
  std::unique_ptr<PriceList> prices;
  Activities activities;
  Run run;

  explicit Stage(const strategy::Strategy& s, const models::Model& model,
                 bool detailed = false, double flop_rate = 1e14,
                 const std::string& on = kCluster)
      : cluster(test::cluster_of(on)) {
    costs.flop_rate = flop_rate;
    schedule = *schedule::lower(s, s.phases[0], model, cluster);
    network = std::make_unique<Network>(cluster, costs);
    prices = std::make_unique<PriceList>(schedule, cluster, *network, costs);
    activities = activities_of(schedule, *network);
    OperatorDetail detail(schedule, *prices);
    auto done = perform(schedule, *prices, activities, network->links(),
                        detailed ? &detail : nullptr);
    EXPECT_TRUE(done.has_value());
    run = *done;
  }
};

/// A model whose layers cost the same and whose ends cost next to nothing.
models::Model even_model(int layers) {
  models::Model m = test::tiny_model(layers);
  m.vocab = 16;
  m.seq_len = 2048;
  return m;
}

// Equal stages, hand-over far below the stage time: with v chunks a step takes
// M v + P - 1 chunk times, so the bubble is (P-1)/(M v + P-1) of it, for 1F1B
// with v = 1 (Narayanan et al. 2021). Slow devices make transfers negligible;
// the ends and the optimizer leave a few per mille.
TEST(Bubble, IsThatOfTheClosedForm) {
  for (const int stages : {2, 4, 8}) {
    for (const int chunks : {1, 2, 4}) {
      for (const int rounds : {1, 3, 8}) {
        const int micro_batches = rounds * stages;
        const auto model = even_model(stages * chunks);
        const Stage s(
            test::strategy_of(model, {.pp = stages,
                                      .chunks = chunks,
                                      .micro_batches = micro_batches}),
            model, false, 1e10);
        const auto times = stage_times(s.schedule, *s.prices, s.run);
        const double expected =
            (stages - 1.0) / (micro_batches * chunks + stages - 1.0);
        EXPECT_NEAR(times[1].bubble / s.run.step, expected, 0.005)
            << stages << " stages, " << chunks << " chunks, " << micro_batches
            << " micro-batches";
      }
    }
  }
}

// Also with fewer micro-batches than stages, where 1F1B is GPipe.
TEST(Bubble, OfFewMicroBatches) {
  const auto model = even_model(4);
  const Stage s(test::strategy_of(model, {.pp = 4, .micro_batches = 2}), model,
                false, 1e10);
  const auto times = stage_times(s.schedule, *s.prices, s.run);
  EXPECT_NEAR(times[1].bubble / s.run.step, 3.0 / 5, 0.01);
}

TEST(OneFOneB, NeverTakesLongerThanGpipeOfEqualWork) {
  const auto model = even_model(4);
  auto g = test::strategy_of(model, {.pp = 4, .micro_batches = 8});
  const Stage one(g, model, false, 1e10);
  g.schedule = strategy::ScheduleKind::gpipe;
  const Stage all(g, model, false, 1e10);
  EXPECT_LE(one.run.step / all.run.step, 1.001);
}

TEST(Engine, GivesTheSameBytesTwice) {
  const auto model = test::tiny_model();
  const auto s = test::strategy_of(model, {.dp = 4, .tp = 4, .pp = 4});
  const Stage a(s, model);
  const Stage b(s, model);
  EXPECT_EQ(a.run.start, b.run.start);
  EXPECT_EQ(a.run.end, b.run.end);
  EXPECT_EQ(a.run.events, b.run.events);
}

// Two pipelines of two one-GPU stages on two nodes whose GPUs share one
// network card: both hand over at the same moments, so each gets half.
TEST(Engine, SharesANetworkCardBetweenHandOvers) {
  models::Model model = even_model(2);
  auto s = test::strategy_of(model, {.dp = 2, .pp = 2, .micro_batches = 1});
  auto& pipelines = s.phases[0].pipelines;
  const int devices[2][2] = {{0, 8}, {1, 9}};
  for (std::size_t p = 0; p < 2; ++p) {
    for (std::size_t stage = 0; stage < 2; ++stage) {
      pipelines[p].stages[stage].members[0].devices = {
          clusters::DeviceId{devices[p][stage]}};
    }
  }
  const std::string card =
      "8 x h100-sxm per node, 10 Gbit/s per node, "
      "2 nodes";
  const Stage both(s, model, false, 1e14, card);
  pipelines.pop_back();
  const Stage alone(s, model, false, 1e14, card);
  Time shared, single;
  for (std::size_t t = 0; t < both.schedule.tasks.size(); ++t) {
    if (both.schedule.tasks[t].kind == schedule::TaskKind::transfer) {
      shared = std::max(shared, both.run.end[t] - both.run.start[t]);
    }
  }
  for (std::size_t t = 0; t < alone.schedule.tasks.size(); ++t) {
    if (alone.schedule.tasks[t].kind == schedule::TaskKind::transfer) {
      single = std::max(single, alone.run.end[t] - alone.run.start[t]);
    }
  }
  EXPECT_GT(both.run.contended, 0);
  EXPECT_EQ(alone.run.contended, 0);
  const Time latency = alone.activities.transfers[0].latency;
  EXPECT_NEAR((shared - latency) / (single - latency), 2.0, 1e-6);
}

// Backward of micro-batch 1 before its forward: nobody can go on.
TEST(Engine, NamesTheTasksOfADeadlock) {
  const auto model = test::tiny_model(2);
  Stage s(test::strategy_of(model, {.pp = 2, .micro_batches = 2}), model);
  auto& order = s.schedule.stages[0].order;
  std::reverse(order.begin(), order.end());
  const auto run =
      perform(s.schedule, *s.prices, s.activities, s.network->links());
  ASSERT_FALSE(run.has_value());
  EXPECT_EQ(run.error().fault, Fault::input);
  EXPECT_NE(run.error().message.find("deadlock"), std::string::npos);
  EXPECT_NE(run.error().message.find("stage 0"), std::string::npos);
}

// A device that outruns its host waits for it: a task takes at least the
// launches of its operators.
TEST(Prices, AreNeverBelowWhatTheHostNeeds) {
  const auto model = test::tiny_model(2);
  const auto strategy = test::strategy_of(model, {.micro_batches = 1});
  const Stage s(strategy, model);
  const Time launch = seconds(1e-3);
  PriceList slow(s.schedule, s.cluster, *s.network, s.costs, launch);
  const auto forward = s.schedule.stages[0].order[0];
  std::int64_t operators = 0;
  for (const auto& [block, count] : slow.runs(forward, 0)) {
    operators += static_cast<std::int64_t>(block->operators.size()) * count;
  }
  EXPECT_EQ(slow.of(forward).time, launch * operators);
  EXPECT_EQ(slow.of(forward).parts.total(), slow.of(forward).time);
  EXPECT_LT(s.prices->of(forward).time, launch * operators);
}

// With gradient sync during the last backward only the first layers' bucket
// is left after it.
TEST(Engine, OverlapsGradientSyncWithTheLastBackward) {
  const auto model = test::tiny_model();
  auto strategy = test::strategy_of(model, {.dp = 8, .micro_batches = 2});
  const std::string slow = "8 x h100-sxm per node, 10 Gbit/s per GPU, 1 nodes";
  const Stage after(strategy, model, false, 1e12, slow);
  strategy.overlap_gradient_sync = true;
  const Stage beside(strategy, model, false, 1e12, slow);
  EXPECT_LT(beside.run.step, after.run.step);
  const auto exposed = [](const Stage& s) {
    return stage_times(s.schedule, *s.prices, s.run)[0].sync;
  };
  EXPECT_LT(exposed(beside) / exposed(after), 0.5);
}

// Every part of every stage adds up to the step, and so does the critical
// path, to the last picosecond.
RC_GTEST_PROP(Attribution, SumsToTheStep, ()) {
  Degrees d;
  d.dp = *rc::gen::inRange(1, 4);
  d.tp = 1 << *rc::gen::inRange(0, 3);
  d.cp = *rc::gen::inRange(1, 3);
  d.pp = *rc::gen::inRange(1, 5);
  d.micro_batches = *rc::gen::inRange(1, 7);
  const auto model = test::tiny_model();
  auto strategy = test::strategy_of(model, d);
  strategy.zero = static_cast<strategy::Zero>(*rc::gen::inRange(0, 4));
  const Stage s(strategy, model);
  for (const StageTimes& t : stage_times(s.schedule, *s.prices, s.run)) {
    RC_ASSERT(t.total() == s.run.step);
    RC_ASSERT(t.bubble.v >= 0 && t.hand_over.v >= 0 && t.sync.v >= 0);
  }
  Time sum;
  for (const Time t :
       critical_path_provenance(s.schedule, *s.prices, s.activities, s.run)) {
    sum += t;
  }
  RC_ASSERT(sum == s.run.step);
}

// Performing every operator on every rank gives the same times as pricing
// each distinct block once.
RC_GTEST_PROP(Detail, EqualsThePricesToTheLastTick, ()) {
  Degrees d;
  d.dp = *rc::gen::inRange(1, 3);
  d.tp = 1 << *rc::gen::inRange(0, 4);
  d.cp = *rc::gen::inRange(1, 4);
  d.pp = *rc::gen::inRange(1, 4);
  d.micro_batches = *rc::gen::inRange(1, 5);
  RC_PRE(d.dp * d.tp * d.cp * d.pp <= 128);
  const auto model = test::tiny_model();
  auto strategy = test::strategy_of(model, d);
  strategy.zero = static_cast<strategy::Zero>(*rc::gen::inRange(0, 4));
  strategy.recompute.mode =
      static_cast<strategy::Recompute>(*rc::gen::inRange(0, 3));
  strategy.sequence_parallel = *rc::gen::arbitrary<bool>();
  const Stage priced(strategy, model);
  const Stage detailed(strategy, model, true);
  RC_ASSERT(priced.run.end == detailed.run.end);
}

// One pipeline stands for its equals: every time is the same to the last
// tick, also where network cards are shared and nothing may be folded.
RC_GTEST_PROP(Fold, ChangesNoTime, ()) {
  Degrees d;
  d.dp = *rc::gen::inRange(1, 6);
  d.tp = 1 << *rc::gen::inRange(0, 4);
  d.pp = *rc::gen::inRange(1, 4);
  d.micro_batches = *rc::gen::inRange(1, 6);
  RC_PRE(d.dp * d.tp * d.pp <= 128);
  const auto model = test::tiny_model();
  auto strategy = test::strategy_of(model, d);
  strategy.overlap_gradient_sync = *rc::gen::arbitrary<bool>();
  if (d.dp > 2 && *rc::gen::arbitrary<bool>()) {
    strategy.phases[0].pipelines[1].micro_batches += 1;
  }
  const std::string on = *rc::gen::element<std::string>(
      "8 x h100-sxm per node, 400 Gbit/s per GPU, 16 nodes",
      "8 x h100-sxm per node, 1 Gbit/s per node, 16 nodes");
  const Stage s(strategy, model, false, 1e14, on);
  const auto folded = perform(s.schedule, *s.prices, s.activities,
                              s.network->links(), nullptr, true);
  RC_ASSERT(folded.has_value());
  RC_ASSERT(folded->start == s.run.start);
  RC_ASSERT(folded->end == s.run.end);
}

TEST(Fold, SimulatesEqualPipelinesOnce) {
  const auto model = test::tiny_model();
  const Stage s(
      test::strategy_of(model, {.dp = 4, .tp = 8, .pp = 4, .micro_batches = 8}),
      model);
  const auto folded = perform(s.schedule, *s.prices, s.activities,
                              s.network->links(), nullptr, true);
  ASSERT_TRUE(folded.has_value());
  EXPECT_GT(folded->folded, 0);
  EXPECT_LT(folded->events * 3, s.run.events);
}

}  // namespace
}  // namespace troupe::sim
