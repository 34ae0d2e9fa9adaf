// Whole switches: senders, buckets, and the exact check of every tensor.
#include "reshard/switch.h"

#include <gmock/gmock.h>

#include <map>

#include "helpers.h"
#include "models/read.h"
#include "reshard/verify.h"
#include "strategy/load.h"

namespace troupe::reshard {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

struct TwoPlans {
  strategy::Plan from, to;
  Rates rates;
};

/// A small Llama between two strategies on 16 GPUs.
strategy::Plan plan_with(const std::string& parts) {
  auto plan = strategy::load_plan_text(
      R"({"format": "troupe.strategy/1", "micro_batches": 4, "zero": 1,
          "model": {"format": "troupe.model/1", "name": "tiny", "layers": 6,
                    "hidden": 96, "heads": 12, "kv_heads": 4, "ffn": 176,
                    "vocab": 1001, "seq_len": 64},
          "cluster": "4 x h100-sxm per node, 400 Gbit/s per GPU, 4 nodes", )" +
          parts + "}",
      "s.json", {});
  EXPECT_TRUE(plan) << (plan ? "" : plan.error().message);
  return plan ? *std::move(plan) : strategy::Plan{};
}

std::vector<TensorChange> changes_between(const strategy::Plan& from,
                                          const strategy::Plan& to,
                                          strategy::Use use) {
  const strategy::Layouts before(from.strategy, from.strategy.phases.at(0),
                                 from.model);
  const strategy::Layouts after(to.strategy, to.strategy.phases.at(0),
                                to.model);
  return parameter_changes(before, after, from.model, use,
                           kernels::DType::fp32);
}

constexpr const char* kSquare = R"("dp": 4, "tp": 2, "pp": 2)";
constexpr const char* kUneven = R"("pipelines": [
  {"micro_batches": 3, "stages": [{"devices": "0-3", "layers": 2},
                                  {"devices": "4-5", "layers": 4}]},
  {"micro_batches": 1, "stages": [{"devices": "8-11", "layers": 5},
                                  {"devices": "12", "layers": 1}]}])";

class Switch : public testing::TestWithParam<strategy::Use> {};

TEST_P(Switch, MovesEveryTensorExactly) {
  const strategy::Plan from = plan_with(kSquare);
  const strategy::Plan to = plan_with(kUneven);
  const Rates rates = rates_of(from.cluster);
  const Routes routes(from.cluster, rates);
  for (const auto& [a, b] : {std::pair(&from, &to), std::pair(&to, &from)}) {
    const auto changes = changes_between(*a, *b, GetParam());
    for (const std::int64_t bucket : {0, 4096, 100'000}) {
      SwitchOptions options;
      options.bucket = Bytes{bucket};
      const auto plan = plan_switch(changes, routes, options);
      ASSERT_TRUE(plan) << plan.error().message;
      std::int64_t moved = 0;
      for (std::size_t t = 0; t < changes.size(); ++t) {
        const auto one = plan_of(*plan, changes, static_cast<std::int32_t>(t));
        ASSERT_TRUE(one);
        const auto wrong = wrong_with(*one);
        ASSERT_TRUE(wrong);
        EXPECT_THAT(*wrong, IsEmpty()) << changes[t].name;
        moved += moved_bytes(*one).v;
        // A switch moves only what must move.
        const auto ratio = bytes_ratio(*one);
        ASSERT_TRUE(ratio);
        EXPECT_EQ(ratio->moved, ratio->least) << changes[t].name;
      }
      EXPECT_EQ(moved, plan->moved.v);
      if (bucket > 0) {
        EXPECT_LE(plan->peak.v, bucket);
      }
      if (bucket == 0) {
        EXPECT_EQ(plan->buckets.size(), 1U);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Uses, Switch,
                         testing::Values(strategy::Use::compute,
                                         strategy::Use::optimizer));

// Device 1 is gone; device 2 has a copy of its half besides its own.
TEST(SwitchPlanning, TakesWhatIsHeldInPlaceOfTheSource) {
  const auto cluster = cluster_of("4 x h100-sxm per node, 1 nodes");
  const Rates rates = rates_of(cluster);
  const Routes routes(cluster, rates);
  TensorChange change;
  change.name = "t";
  change.shape = {8, 4};
  change.source.groups = {
      {{DeviceId{0}, DeviceId{1}}, strategy::States{.split = {{0, 2}}}}};
  change.destination.groups = {
      {{DeviceId{0}, DeviceId{3}}, strategy::States{.split = {{0, 2}}}}};
  const Box low{{0, 4}, {0, 4}};
  const Box high{{4, 8}, {0, 4}};
  change.held = std::make_shared<const Layout>(
      Layout{{DeviceId{0}, kSource, 0, 0, {low}},
             {DeviceId{2}, kSource, 0, 0, {high}}});
  const auto plan = plan_switch({&change, 1}, routes);
  ASSERT_TRUE(plan);
  ASSERT_EQ(plan->transfers.size(), 1U);
  EXPECT_EQ(plan->transfers[0].from, DeviceId{2});
  EXPECT_EQ(plan->transfers[0].to, DeviceId{3});
  const auto one = plan_of(*plan, {&change, 1}, 0);
  ASSERT_TRUE(one);
  const auto right = wrong_with(*one, source_of(change));
  ASSERT_TRUE(right);
  EXPECT_THAT(*right, IsEmpty());
  // By the annotation alone, device 2 would have nothing to send.
  const auto wrong = wrong_with(*one);
  ASSERT_TRUE(wrong);
  EXPECT_FALSE(wrong->empty());
}

TEST(SwitchPlanning, FusesMessagesAndSharesPieces) {
  const strategy::Plan from = plan_with(kSquare);
  const strategy::Plan to = plan_with(kUneven);
  const auto changes = changes_between(from, to, strategy::Use::compute);
  const Rates rates = rates_of(from.cluster);
  const Routes routes(from.cluster, rates);
  const auto plan = plan_switch(changes, routes);
  ASSERT_TRUE(plan);
  EXPECT_LT(plan->classes.size(), changes.size());
  std::map<std::pair<int, int>, int> pairs;
  for (const Transfer& t : plan->transfers) ++pairs[{t.from.v, t.to.v}];
  ASSERT_EQ(plan->buckets.size(), 1U);
  EXPECT_EQ(plan->buckets[0].messages, std::ssize(pairs));
}

TEST(SwitchPlanning, IsNeverWorseThanTheSixRules) {
  const Shape shape{64, 48};
  for (const char* text :
       {"4 x h100-sxm per node, 400 Gbit/s per GPU, 4 nodes",
        "4 x a100-sxm-80 per node, 1 x 200 Gbit/s per node, 4 nodes"}) {
    const auto cluster = cluster_of(text);
    const Rates rates = rates_of(cluster);
    const Routes routes(cluster, rates);
    for (std::uint64_t seed = 0; seed < 200; ++seed) {
      Dice dice(seed);
      std::vector<TensorChange> changes;
      for (int i = 0; i < 4; ++i) {
        RandomChange c = random_change(dice, 16);
        if (c.shape.size() != 2) continue;
        changes.push_back({"t", c.source, c.destination, {640, 480}});
      }
      SwitchOptions options;
      options.compare = true;
      const auto plan = plan_switch(changes, routes, options);
      if (!plan) continue;
      for (const Makespan& other : plan->by_rule) {
        EXPECT_LE(plan->makespan.total(), other.total());
      }
    }
  }
}

TEST(SwitchPlanning, DividesAPieceAmongOwners) {
  // One GPU and one card of 50 GB/s a node. Two owners, three needers: with
  // whole pieces one owner sends two of them; divided, each sends 1.5.
  const auto cluster =
      cluster_of("1 x h100-sxm per node, 400 Gbit/s per GPU, 5 nodes");
  const Rates rates = rates_of(cluster);
  const Routes routes(cluster, rates);
  strategy::States two;
  two.duplicate = 2;
  strategy::States three;
  three.duplicate = 3;
  const TensorChange change{
      "t",
      {{{{DeviceId{0}, DeviceId{1}}, two, 1}}},
      {{{{DeviceId{2}, DeviceId{3}, DeviceId{4}}, three, 1}}},
      {300'000, 100},
      kernels::DType::bf16};
  SwitchOptions options;
  options.compare = true;
  const auto plan = plan_switch({&change, 1}, routes, options);
  ASSERT_TRUE(plan);
  const double piece = 300'000.0 * 100 * 2 / 50e9;
  EXPECT_NEAR(plan->makespan.seconds, 1.5 * piece, 1e-3 * piece);
  for (std::size_t r = 0; r + 1 < plan->by_rule.size(); ++r) {
    EXPECT_GE(plan->by_rule[r].seconds, 2 * piece * (1 - 1e-9));
  }
  const auto one = plan_of(*plan, {&change, 1}, 0);
  ASSERT_TRUE(one);
  const auto wrong = wrong_with(*one);
  ASSERT_TRUE(wrong);
  EXPECT_THAT(*wrong, IsEmpty());
}

TEST(SwitchPlanning, RefusesWhatItCannotDo) {
  const auto cluster =
      cluster_of("2 x h100-sxm per node, 400 Gbit/s per GPU, 1 nodes");
  const Rates rates = rates_of(cluster);
  const Routes routes(cluster, rates);
  strategy::States partial;
  partial.partial = 2;
  strategy::States whole;
  whole.duplicate = 2;
  TensorChange change{"grad",
                      {{{{DeviceId{0}, DeviceId{1}}, partial, 1}}},
                      {{{{DeviceId{0}, DeviceId{1}}, whole, 1}}},
                      {4, 4}};
  auto plan = plan_switch({&change, 1}, routes);
  ASSERT_FALSE(plan);
  EXPECT_THAT(plan.error().message, HasSubstr("grad: would be reduced"));
  change.source = {{{{DeviceId{0}}, {}, 1}}};
  SwitchOptions tiny;
  tiny.bucket = Bytes{3};
  plan = plan_switch({&change, 1}, routes, tiny);
  ASSERT_FALSE(plan);
  EXPECT_THAT(plan.error().message, HasSubstr("one row"));
  change.source = {{{{DeviceId{7}}, {}, 1}}};
  plan = plan_switch({&change, 1}, routes);
  ASSERT_FALSE(plan);
  EXPECT_THAT(plan.error().message, HasSubstr("device 7"));
}

}  // namespace
}  // namespace troupe::reshard
