#include "schedule/order.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <set>

#include "schedule/check.h"
#include "schedule/lower.h"
#include "tests/support/fixtures.h"

namespace troupe::schedule {
namespace {

std::string words(const std::vector<Slot>& slots) {
  std::string out;
  for (const Slot& s : slots) out += to_string(s) + " ";
  return out;
}

// Stage 0 of 3 warms up with two forwards.
TEST(OneFOneB, AlternatesAfterTheWarmUp) {
  EXPECT_EQ(words(one_f_one_b(0, 3, 4)), "F0 F1 F2 B0 F3 B1 B2 B3 ");
  EXPECT_EQ(words(one_f_one_b(2, 3, 4)), "F0 B0 F1 B1 F2 B2 F3 B3 ");
}

TEST(OneFOneB, WorksWithFewerMicroBatchesThanStages) {
  EXPECT_EQ(words(one_f_one_b(0, 8, 2)), "F0 F1 B0 B1 ");
  EXPECT_EQ(words(one_f_one_b(7, 8, 1)), "F0 B0 ");
}

TEST(Gpipe, RunsAllForwardsFirst) {
  EXPECT_EQ(words(gpipe(3)), "F0 F1 F2 B0 B1 B2 ");
}

// Two stages, two chunks, four micro-batches; stage 0 warms up with
// 2 (2-1-0) + (2-1) 2 = 4 forwards.
TEST(Interleaved, FollowsTheGroupsOfMicroBatches) {
  EXPECT_EQ(words(interleaved(0, 2, 2, 4)),
            "F0 F1 F0.1 F1.1 F2 B0.1 F3 B1.1 F2.1 B0 F3.1 B1 B2.1 B3.1 B2 "
            "B3 ");
}

RC_GTEST_PROP(Interleaved, DoesEverySlotOnce, ()) {
  const int stages = *rc::gen::inRange(1, 7);
  const int chunks = *rc::gen::inRange(1, 5);
  const int micro_batches = *rc::gen::inRange(1, 20);
  const int stage = *rc::gen::inRange(0, stages);
  const auto slots = interleaved(stage, stages, chunks, micro_batches);
  const std::set<Slot> distinct(slots.begin(), slots.end());
  RC_ASSERT(distinct.size() == slots.size());
  RC_ASSERT(slots.size() ==
            static_cast<std::size_t>(2 * chunks * micro_batches));
}

// Every order that the three schedules make can be performed, also with a
// number of micro-batches that the stages do not divide.
RC_GTEST_PROP(Orders, NeverDeadlock, ()) {
  test::Degrees d;
  d.pp = *rc::gen::inRange(1, 6);
  d.chunks = *rc::gen::inRange(1, 4);
  d.micro_batches = *rc::gen::inRange(1, 14);
  const models::Model model = test::tiny_model(d.pp * d.chunks);
  strategy::Strategy s = test::strategy_of(model, d);
  if (d.chunks == 1 && *rc::gen::arbitrary<bool>()) {
    s.schedule = strategy::ScheduleKind::gpipe;
  }
  s.overlap_hand_over = *rc::gen::arbitrary<bool>();
  const auto cluster = test::cluster_of(
      "8 x h100-sxm per node, 400 Gbit/s "
      "per GPU, 8 nodes");
  const auto schedule = lower(s, s.phases[0], model, cluster);
  RC_ASSERT(schedule.has_value());
  const Findings findings = check_schedule(*schedule, &cluster, Bytes{});
  RC_ASSERT(findings.ok());
}

TEST(OrderFile, ReadsSlotsAndReportsEveryProblem) {
  const models::Model model = test::tiny_model(2);
  const auto s = test::strategy_of(model, {.pp = 2, .micro_batches = 2});
  const auto good =
      parse_order(Json::parse(R"({"stages": [["F0","F1","B0","B1"],
                                 ["F0","I0","F1","I1","W0","W1"]]})"),
                  "order.json", s.phases[0]);
  ASSERT_TRUE(good.has_value()) << good.error().message;
  EXPECT_EQ(words((*good)[0][1]), "F0 I0 F1 I1 W0 W1 ");
  const auto bad = parse_order(
      Json::parse(R"({"stages": [["F0","F0","B1","B0"], ["F0","X1"]]})"),
      "order.json", s.phases[0]);
  ASSERT_FALSE(bad.has_value());
  EXPECT_NE(bad.error().message.find("F0 appears twice"), std::string::npos);
  EXPECT_NE(bad.error().message.find("B1 comes before F1"), std::string::npos);
  EXPECT_NE(bad.error().message.find("is not a slot"), std::string::npos);
}

// Stage 1 wants micro-batch 1 first, stage 0 makes it only after the
// backward of micro-batch 0.
TEST(OrderFile, ACircleIsFoundByTheCheck) {
  const models::Model model = test::tiny_model(2);
  auto s = test::strategy_of(model, {.pp = 2, .micro_batches = 2});
  s.schedule = strategy::ScheduleKind::custom;
  const auto order =
      parse_order(Json::parse(R"({"stages": [["F0","B0","F1","B1"],
                                 ["F1","B1","F0","B0"]]})"),
                  "order.json", s.phases[0]);
  ASSERT_TRUE(order.has_value());
  const auto cluster = test::cluster_of(
      "8 x h100-sxm per node, 400 Gbit/s "
      "per GPU, 1 nodes");
  const auto schedule = lower(s, s.phases[0], model, cluster, *order);
  ASSERT_TRUE(schedule.has_value());
  EXPECT_FALSE(check_deadlock(*schedule).ok());
}

}  // namespace
}  // namespace troupe::schedule
