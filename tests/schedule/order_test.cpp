#include "schedule/order.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <map>
#include <set>
#include <tuple>

#include "schedule/check.h"
#include "schedule/lower.h"
#include "schedule/successors.h"
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

/// When the last of all stages' tasks ends, where a chunk's forward takes 1
/// and its backward 2 and hand-overs take no time; -1 for a deadlock.
/// Relaxes start times until nothing moves: knows nothing of the engine.
int makespan(const std::vector<std::vector<Slot>>& stages, int chunks) {
  const int last = static_cast<int>(stages.size()) * chunks - 1;
  std::map<std::tuple<TaskKind, int, int>, int> end;  // by virtual stage
  std::vector<std::size_t> done(stages.size(), 0);
  std::vector<int> free(stages.size(), 0);
  int most = 0;
  for (bool moved = true; moved;) {
    moved = false;
    for (std::size_t s = 0; s < stages.size(); ++s) {
      while (done[s] < stages[s].size()) {
        const Slot& slot = stages[s][done[s]];
        const bool forward = slot.kind == TaskKind::forward;
        const int at =
            slot.chunk * static_cast<int>(stages.size()) + static_cast<int>(s);
        // A forward needs the one before it; a backward the one after it, at
        // the end of the pipeline its own forward.
        int ready = 0;
        if (!forward || at > 0) {
          const auto needs =
              forward      ? std::tuple{slot.kind, at - 1, slot.micro_batch}
              : at == last ? std::tuple{TaskKind::forward, at, slot.micro_batch}
                           : std::tuple{slot.kind, at + 1, slot.micro_batch};
          if (!end.contains(needs)) break;
          ready = end[needs];
        }
        free[s] = std::max(free[s], ready) + (forward ? 1 : 2);
        end[{slot.kind, at, slot.micro_batch}] = free[s];
        most = std::max(most, free[s]);
        ++done[s];
        moved = true;
      }
    }
  }
  for (std::size_t s = 0; s < stages.size(); ++s) {
    if (done[s] < stages[s].size()) return -1;
  }
  return most;
}

// P - 1 stages' forward and backward are the only idle time, whatever the
// number of micro-batches M: (M + P - 1) (1 + 2).
RC_GTEST_PROP(OneFOneB, AndGpipeTakeTheClosedForm, ()) {
  const int stages = *rc::gen::inRange(1, 12);
  const int micro_batches = *rc::gen::inRange(1, 30);
  std::vector<std::vector<Slot>> one;
  std::vector<std::vector<Slot>> all;
  for (int s = 0; s < stages; ++s) {
    one.push_back(one_f_one_b(s, stages, micro_batches));
    all.push_back(gpipe(micro_batches));
  }
  RC_ASSERT(makespan(one, 1) == 3 * (micro_batches + stages - 1));
  RC_ASSERT(makespan(all, 1) == 3 * (micro_batches + stages - 1));
}

// With v chunks the pipeline fills and drains in chunks: M v + P - 1 times a
// chunk's forward and backward, where P divides M.
RC_GTEST_PROP(Interleaved, TakesTheClosedForm, ()) {
  const int stages = *rc::gen::inRange(1, 9);
  const int chunks = *rc::gen::inRange(1, 5);
  const int micro_batches = stages * *rc::gen::inRange(1, 6);
  std::vector<std::vector<Slot>> order;
  for (int s = 0; s < stages; ++s) {
    order.push_back(interleaved(s, stages, chunks, micro_batches));
  }
  RC_ASSERT(makespan(order, chunks) ==
            3 * (micro_batches * chunks + stages - 1));
}

// Where the stages do not divide the micro-batches it still ends, and never
// later than one stage after the other.
RC_GTEST_PROP(Interleaved, NeverDeadlocksOnARest, ()) {
  const int stages = *rc::gen::inRange(2, 9);
  const int chunks = *rc::gen::inRange(1, 5);
  const int micro_batches = *rc::gen::inRange(1, 30);
  std::vector<std::vector<Slot>> order;
  for (int s = 0; s < stages; ++s) {
    order.push_back(interleaved(s, stages, chunks, micro_batches));
  }
  const int all = makespan(order, chunks);
  RC_ASSERT(all >= 3 * (micro_batches * chunks + stages - 1));
  RC_ASSERT(all <= 3 * micro_batches * chunks * stages);
}

// Stage s of P keeps the activations of at most P - s micro-batches: what
// makes 1F1B need less memory than GPipe.
RC_GTEST_PROP(OneFOneB, KeepsFewMicroBatches, ()) {
  const int stages = *rc::gen::inRange(1, 12);
  const int micro_batches = *rc::gen::inRange(1, 30);
  const int stage = *rc::gen::inRange(0, stages);
  int kept = 0;
  int most = 0;
  for (const Slot& slot : one_f_one_b(stage, stages, micro_batches)) {
    kept += slot.kind == TaskKind::forward ? 1 : -1;
    most = std::max(most, kept);
    RC_ASSERT(kept >= 0);
  }
  RC_ASSERT(most == std::min(micro_batches, stages - stage));
}

RC_GTEST_PROP(Interleaved, WithOneChunkIsOneFOneB, ()) {
  const int stages = *rc::gen::inRange(1, 12);
  const int micro_batches = *rc::gen::inRange(1, 30);
  const int stage = *rc::gen::inRange(0, stages);
  RC_ASSERT(interleaved(stage, stages, 1, micro_batches) ==
            one_f_one_b(stage, stages, micro_batches));
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

// A small file could otherwise claim millions of waits.
TEST(Structure, TasksDoNotShareDependencies) {
  const models::Model model = test::tiny_model(2);
  const auto s = test::strategy_of(model, {.pp = 2, .micro_batches = 2});
  const auto cluster =
      test::cluster_of("8 x h100-sxm per node, 400 Gbit/s per GPU, 1 nodes");
  auto schedule = lower(s, s.phases[0], model, cluster);
  ASSERT_TRUE(schedule.has_value());
  EXPECT_TRUE(check_structure(*schedule).ok());
  for (Task& task : schedule->tasks) {
    task.first_dependency = 0;
    task.dependencies =
        static_cast<std::uint32_t>(schedule->dependencies.size());
  }
  EXPECT_FALSE(check_structure(*schedule).ok());
}

// Task 2 waits for 0 and 1, and follows 1 in its stage as well.
TEST(Successors, AreTheTurnedAroundDependencies) {
  Schedule s;
  s.tasks.resize(3);
  s.tasks[2].dependencies = 2;
  s.dependencies = {TaskId{0}, TaskId{1}};
  s.stages.resize(1);
  s.stages[0].order = {TaskId{1}, TaskId{2}};
  const Successors all(s);
  EXPECT_EQ(all.waiting, (std::vector<std::uint32_t>{0, 0, 3}));
  EXPECT_EQ(all.of(TaskId{0}).size(), 1u);
  EXPECT_EQ(all.of(TaskId{1}).size(), 2u);
  EXPECT_TRUE(all.of(TaskId{2}).empty());
  // Task 1 is played by 0: whoever waits for it waits for 0.
  const std::vector<TaskId> like{TaskId{0}, TaskId{0}, TaskId{2}};
  const Successors folded(s, like);
  EXPECT_EQ(folded.of(TaskId{0}).size(), 3u);
  EXPECT_TRUE(folded.of(TaskId{1}).empty());
}

}  // namespace
}  // namespace troupe::schedule
