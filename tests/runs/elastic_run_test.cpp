// Runs over traces with given step times: where the time goes, to the last
// picosecond, and what a run does about each event.
#include "runs/elastic_run.h"

#include <gmock/gmock.h>
#include <rapidcheck/gtest.h>

#include "elastic_helpers.h"
#include "runs/recovery_plan.h"

namespace troupe::runs {
namespace {

using testing::HasSubstr;

constexpr const char* kCheckpoint =
    R"("checkpoint": {"every_steps": 3, "write_gbytes_per_s": 1e9,
                      "latency_s": 5})";

/// Two strategies on four nodes of four, "wide" on nodes 0 and 1, "narrow"
/// on node 0 alone.
std::string trace_text(const std::string& options, const std::string& events,
                       int zero, double until, const std::string& more = "") {
  return fmt::format(
      R"({{"format": "troupe.trace/1", "model": {}, "cluster": "{}",
           "until_s": {}, "options": {{{}}}, "start": "wide",
           "strategies": [
             {{"name": "wide", "strategy": {{"zero": {}, "pipelines": [
               {{"micro_batches": 2,
                 "stages": [{{"devices": "0-1", "layers": 4}}]}},
               {{"micro_batches": 2,
                 "stages": [{{"devices": "4-5", "layers": 4}}]}}]}}}},
             {{"name": "narrow", "strategy": {{"zero": {}, "pipelines": [
               {{"micro_batches": 4,
                 "stages": [{{"devices": "0", "layers": 4}}]}}]}}}}{}],
           "events": [{}]}})",
      model_text(false), kCluster, until, options, zero, zero, more, events);
}

Trace trace_of(const std::string& text) {
  const auto trace = load_trace_text(text, "t.json");
  EXPECT_TRUE(trace) << (trace ? "" : trace.error().message);
  return trace ? *trace : Trace{};
}

Outcome outcome_of(const Trace& trace, Policy policy,
                   const Machinery& machinery) {
  auto out = run_trace(trace, policy, machinery);
  EXPECT_TRUE(out) << (out ? "" : out.error().message);
  return out ? *out : Outcome{};
}

const Machinery kTen = fake({{"wide", 10}, {"narrow", 20}});

// Steps of 10 s; after every third a save of 5 s: steps end at 10, 20, 30 |
// 45, 55, 65 | 80, 90, and at 97 device 5 is lost.
TEST(ElasticRun, UndoesStepsSinceTheCheckpointWhenStateIsLost) {
  const Trace trace = trace_of(trace_text(
      kCheckpoint, R"({"at_s": 97, "kind": "lost", "devices": "5"})", 1, 300));
  const Outcome o = outcome_of(trace, Policy::elastic, kTen);
  ASSERT_EQ(o.changes.size(), 1U);
  const Change& c = o.changes[0];
  EXPECT_EQ(c.from, "wide");
  EXPECT_EQ(c.to, "narrow");
  EXPECT_TRUE(c.from_checkpoint);
  EXPECT_TRUE(c.finished);
  EXPECT_EQ(c.voided, 2);
  EXPECT_EQ(c.survival.complete(), false);
  EXPECT_EQ(o.wall[Account::detecting], seconds(10));
  EXPECT_EQ(o.wall[Account::restarting], seconds(20));
  EXPECT_EQ(o.wall[Account::loading], seconds(5));
  // One new owner reads all; nothing is left to move.
  EXPECT_EQ(o.wall[Account::moving], Time{});
  EXPECT_EQ(o.wall[Account::undone], seconds(20));
  // From 132 on: three steps of 20 to 192, 5 to 197, 217, 237, 257, 262, 282,
  // and 18 s of a step that does not end.
  EXPECT_EQ(o.saves, 4);
  EXPECT_EQ(o.wall[Account::saving], seconds(20));
  EXPECT_EQ(o.wall[Account::cut], seconds(7 + 18));
  EXPECT_EQ(o.wall[Account::useful], seconds(60 + 140));
  EXPECT_EQ(o.steps, 6 + 7);
  EXPECT_EQ(o.voided, 2);
  EXPECT_EQ(o.wall.total(), seconds(300));
  EXPECT_EQ(o.tokens, 13'000);
  EXPECT_DOUBLE_EQ(o.tokens_per_s, 13'000 / 300.0);
  ASSERT_EQ(o.segments.size(), 2U);
  EXPECT_EQ(o.segments[0].steps, 8);
  EXPECT_EQ(o.segments[0].voided, 2);
  EXPECT_EQ(o.segments[1].from, seconds(132));
}

// The same loss without ZeRO: everything is on the other pipeline.
TEST(ElasticRun, KeepsEveryStepWhereReplicasAreLeft) {
  const Trace trace = trace_of(trace_text(
      kCheckpoint, R"({"at_s": 97, "kind": "lost", "devices": "5"})", 0, 300));
  const Outcome o = outcome_of(trace, Policy::elastic, kTen);
  ASSERT_EQ(o.changes.size(), 1U);
  EXPECT_FALSE(o.changes[0].from_checkpoint);
  EXPECT_EQ(o.voided, 0);
  EXPECT_EQ(o.wall[Account::undone], Time{});
  EXPECT_EQ(o.wall[Account::loading], Time{});
  EXPECT_GT(o.wall[Account::moving], Time{});
  EXPECT_EQ(o.changes[0].wall[Account::moving], o.wall[Account::moving]);
  EXPECT_EQ(o.changes[0].by_rule.size(),
            static_cast<std::size_t>(reshard::kSenderRules));
  EXPECT_EQ(o.wall.total(), seconds(300));
}

TEST(ElasticRun, StopsWithTheNameOfWhatIsLost) {
  const Trace trace =
      trace_of(trace_text("", R"({"at_s": 97, "kind": "lost", "devices": "5"},
             {"at_s": 200, "kind": "back", "devices": "5"})",
                          1, 300));
  const Outcome o = outcome_of(trace, Policy::elastic, kTen);
  EXPECT_THAT(o.stopped, HasSubstr("held only by device 5"));
  EXPECT_THAT(o.stopped, HasSubstr("master copy"));
  // A device that comes back has lost its memory all the same.
  EXPECT_EQ(o.wall[Account::stopped], seconds(300 - 107));
  // Nobody has the result of any of the nine steps.
  EXPECT_EQ(o.steps, 0);
  EXPECT_EQ(o.voided, 9);
  EXPECT_EQ(o.wall[Account::undone], seconds(90));
  EXPECT_EQ(o.wall.total(), seconds(300));
}

TEST(ElasticRun, PeersSaveWhatZeroWouldLose) {
  const Trace trace = trace_of(
      trace_text(R"("peers": 1)",
                 R"({"at_s": 97, "kind": "lost", "devices": "5"})", 1, 300));
  const Outcome o = outcome_of(trace, Policy::elastic, kTen);
  EXPECT_EQ(o.stopped, "");
  EXPECT_EQ(o.voided, 0);
  EXPECT_GT(o.changes.at(0).survival.bytes[1].peer, 0);
  EXPECT_GT(o.copies.v, 0);
  // Each finished step of "wide" pays for its copies. "narrow" is on one
  // node: nobody else is there to keep any.
  EXPECT_EQ(o.wall[Account::redundancy],
            o.segments[0].copying * o.segments[0].steps);
  EXPECT_GT(o.segments[0].copying, Time{});
  EXPECT_EQ(o.segments[1].copying, Time{});
  EXPECT_EQ(o.wall.total(), seconds(300));
}

// Device 5 is twice as slow from 23 s on, 3 s into the third step: its other
// 7 s take 14, and it ends at 37. From 33 on (10 s of detection) a change may
// begin: "narrow" is as fast as the slow "wide", which therefore stays.
TEST(ElasticRun, StretchesTheStepThatIsUnderWay) {
  const Trace trace = trace_of(trace_text(
      "", R"({"at_s": 23, "kind": "slowed", "devices": "5", "factor": 2})", 1,
      77));
  const Outcome o = outcome_of(trace, Policy::elastic, kTen);
  EXPECT_TRUE(o.changes.empty());
  EXPECT_EQ(o.steps, 5);
  EXPECT_EQ(o.wall[Account::useful], seconds(77));
  const Outcome slower =
      outcome_of(trace, Policy::elastic, fake({{"wide", 10}, {"narrow", 19}}));
  ASSERT_EQ(slower.changes.size(), 1U);
  EXPECT_EQ(slower.changes[0].at, seconds(37));
  EXPECT_EQ(slower.wall[Account::detecting], Time{});
}

TEST(ElasticRun, ComesBackAtTheEndOfAStep) {
  const Trace trace =
      trace_of(trace_text(R"("regroup_s": 1)",
                          R"({"at_s": 5, "kind": "lost", "devices": "5"},
         {"at_s": 60, "kind": "back", "devices": "5"})",
                          0, 200));
  const Outcome o = outcome_of(trace, Policy::elastic, kTen);
  ASSERT_EQ(o.changes.size(), 2U);
  EXPECT_EQ(o.changes[1].to, "wide");
  // Cut 5, detect 10, regroup 1 and a short move: the third step of 20 s that
  // begins after 16 s is under way at 60.
  EXPECT_GT(o.changes[1].at, seconds(76));
  EXPECT_LT(o.changes[1].at, seconds(76.1));
  EXPECT_EQ(o.segments.size(), 3U);
  EXPECT_EQ(o.segments[2].strategy, "wide");
}

// The second loss comes while the first is being detected; both are answered
// by one recovery, and what was spent is not lost from the account.
TEST(ElasticRun, BeginsAgainWhenAnotherLossBreaksARecoveryOff) {
  const Trace trace =
      trace_of(trace_text(kCheckpoint,
                          R"({"at_s": 12, "kind": "lost", "devices": "5"},
         {"at_s": 18, "kind": "lost", "devices": "1"},
         {"at_s": 40, "kind": "lost", "devices": "0"})",
                          1, 300));
  const Outcome o = outcome_of(trace, Policy::elastic, kTen);
  ASSERT_EQ(o.changes.size(), 3U);
  EXPECT_FALSE(o.changes[0].finished);
  EXPECT_EQ(o.changes[0].wall[Account::detecting], seconds(6));
  EXPECT_FALSE(o.changes[1].finished);
  // 28 to 40 of the 20 s.
  EXPECT_EQ(o.changes[1].wall[Account::restarting], seconds(12));
  EXPECT_EQ(o.changes[1].voided, 1);
  EXPECT_THAT(o.stopped, HasSubstr("no strategy fits"));
  EXPECT_EQ(o.wall[Account::stopped], seconds(250));
  EXPECT_EQ(o.wall.total(), seconds(300));
}

// The survivors of a roll-back that was broken off hold later steps than the
// checkpoint; nothing of theirs may be taken.
TEST(ElasticRun, ReadsEverythingAgainAfterABrokenRollBack) {
  const std::string third = R"(, {"name": "third", "strategy": {"zero": 1,
      "pipelines": [{"micro_batches": 4,
                     "stages": [{"devices": "8", "layers": 4}]}]}})";
  const Trace trace = trace_of(trace_text(
      kCheckpoint,
      R"({"at_s": 12, "kind": "lost", "devices": "5", "strategy": "narrow"},
         {"at_s": 43, "kind": "lost", "devices": "0", "strategy": "third"})",
      1, 300, third));
  const Outcome o = outcome_of(trace, Policy::elastic, kTen);
  ASSERT_EQ(o.changes.size(), 2U);
  EXPECT_EQ(o.changes[0].wall[Account::loading], seconds(1));
  EXPECT_EQ(o.changes[1].to, "third");
  EXPECT_EQ(o.changes[1].voided, 0);
  std::int64_t elements = 0;
  for (const auto& p : models::parameter_list(trace.model)) {
    elements += p.elements();
  }
  EXPECT_EQ(o.changes[1].read.v, 12 * elements);
}

// The loss comes 2 s before the end of the run, which does not get to know of
// it; the two steps since the checkpoint are gone all the same.
TEST(ElasticRun, CountsALossThatTheEndOvertakes) {
  for (const int zero : {0, 1}) {
    const Trace trace = trace_of(trace_text(
        kCheckpoint, R"({"at_s": 97, "kind": "lost", "devices": "5"})", zero,
        99));
    const Outcome o = outcome_of(trace, Policy::elastic, kTen);
    EXPECT_EQ(o.steps, zero == 0 ? 8 : 6);
    EXPECT_EQ(o.wall.total(), seconds(99));
    EXPECT_EQ(outcome_of(trace, Policy::stop, kTen).steps, o.steps);
    // What restarts has nothing but its checkpoint.
    EXPECT_EQ(outcome_of(trace, Policy::restart, kTen).steps, 6);
  }
}

TEST(ElasticRun, StopsAtTheFirstLossUnderThatPolicy) {
  const Trace trace = trace_of(trace_text(
      kCheckpoint, R"({"at_s": 97, "kind": "lost", "devices": "5"})", 0, 300));
  const Outcome o = outcome_of(trace, Policy::stop, kTen);
  EXPECT_EQ(o.steps, 8);
  EXPECT_EQ(o.wall[Account::stopped], seconds(300 - 107));
  EXPECT_EQ(o.wall.total(), seconds(300));
}

// The pipeline on devices 0 and 1 takes over all four micro-batches.
TEST(ElasticRun, DropsTheBrokenPipeline) {
  const Trace trace = trace_of(trace_text(
      kCheckpoint, R"({"at_s": 97, "kind": "lost", "devices": "5"})", 0, 300));
  const Outcome o = outcome_of(trace, Policy::drop, kTen);
  ASSERT_EQ(o.segments.size(), 2U);
  EXPECT_EQ(o.segments[1].strategy, "wide, 1 of 2 pipelines");
  EXPECT_EQ(o.segments[1].gpus, 2);
  EXPECT_EQ(o.voided, 0);
}

TEST(ElasticRun, StartsAgainWithEqualPipelines) {
  const Trace trace = trace_of(trace_text(
      kCheckpoint, R"({"at_s": 97, "kind": "lost", "devices": "5"})", 0, 400));
  const Outcome o = outcome_of(trace, Policy::restart, kTen);
  ASSERT_EQ(o.segments.size(), 2U);
  EXPECT_GE(o.segments[0].gpus, 12);
  EXPECT_EQ(o.wall[Account::restarting], trace.options.restart);
  // Everything is read again although replicas are left.
  EXPECT_EQ(o.changes.at(0).voided, 2);
  EXPECT_EQ(o.wall[Account::loading], seconds(5));
  EXPECT_EQ(o.wall.total(), seconds(400));
}

// Rates so low that a load would outlast time itself: it never ends.
TEST(ElasticRun, EndsWhenSomethingTakesForever) {
  const Trace trace = trace_of(trace_text(
      R"("peers": 1, "checkpoint": {"every_steps": 3, "latency_s": 86400,
                                    "write_gbytes_per_s": 1e-6})",
      R"({"at_s": 97, "kind": "lost", "devices": "0-5"})", 1, 2e6,
      R"(, {"name": "third", "strategy": {"zero": 1, "pipelines": [
             {"stages": [{"devices": "8", "layers": 4}]}]}})"));
  const Outcome o = outcome_of(trace, Policy::elastic, kTen);
  EXPECT_EQ(o.wall.total(), seconds(2e6));
  const Outcome slow = outcome_of(trace, Policy::elastic, fake({}, 9e6));
  EXPECT_EQ(slow.wall.total(), seconds(2e6));
  EXPECT_EQ(slow.steps, 0);
}

TEST(ElasticRun, RefusesEndlessSaving) {
  const Trace trace = trace_of(trace_text(
      R"("checkpoint": {"every_steps": 1, "write_gbytes_per_s": 1e9})", "", 1,
      2e6));
  const auto out = run_trace(trace, Policy::stop, fake({{"wide", 1e-3}}));
  ASSERT_FALSE(out);
  EXPECT_THAT(out.error().message, HasSubstr("every_steps"));
}

TEST(ElasticRun, IgnoresTheLossOfAnIdleDevice) {
  const Trace trace = trace_of(trace_text(
      "", R"({"at_s": 95, "kind": "lost", "devices": "12-15"})", 1, 100));
  const Outcome o = outcome_of(trace, Policy::elastic, kTen);
  EXPECT_TRUE(o.changes.empty());
  EXPECT_EQ(o.steps, 10);
}

// A node's cards gone, the node is out of reach, and so is what it holds.
TEST(ElasticRun, CountsACutOffNodeAsLost) {
  const Trace trace = trace_of(trace_text("", R"({"at_s": 95, "kind": "lost",
              "links": ["node1/nic0", "node1/nic1", "node1/nic2",
                        "node1/nic3"]})",
                                          0, 200));
  const Outcome o = outcome_of(trace, Policy::elastic, kTen);
  ASSERT_EQ(o.changes.size(), 1U);
  EXPECT_EQ(o.changes[0].to, "narrow");
  const Trace one = trace_of(trace_text(
      "", R"({"at_s": 95, "kind": "lost", "links": "node1/nic0"})", 0, 200));
  const Outcome lent = outcome_of(one, Policy::elastic, kTen);
  ASSERT_EQ(lent.changes.size(), 1U);
  // The neighbour's card serves; nothing moves, groups are made anew.
  EXPECT_EQ(lent.changes[0].to, "wide");
  EXPECT_EQ(lent.changes[0].moved, Bytes{});
  EXPECT_EQ(lent.wall[Account::restarting], seconds(20));
}

RC_GTEST_PROP(ElasticRun, AccountsForEveryPicosecond, ()) {
  Dice dice(*rc::gen::arbitrary<std::uint64_t>());
  const auto trace = load_trace_text(random_trace(dice, 6), "t.json");
  RC_ASSERT(trace.has_value());
  const Machinery machine = random_machine(dice);
  for (const Policy policy :
       {Policy::elastic, Policy::restart, Policy::stop, Policy::drop}) {
    const auto o = run_trace(*trace, policy, machine);
    RC_ASSERT(o.has_value());
    RC_ASSERT(o->wall.total() == trace->until);
    for (const Time t : o->wall.at) RC_ASSERT(t >= Time{});
    // Steps of the segments are those of the run, and their time is its own.
    std::int64_t steps = 0, voided = 0;
    Time useful, undone;
    for (const Segment& s : o->segments) {
      RC_ASSERT(s.voided <= s.steps);
      steps += s.steps - s.voided;
      voided += s.voided;
    }
    RC_ASSERT(steps == o->steps);
    RC_ASSERT(voided == o->voided);
    RC_ASSERT(o->tokens == 1000 * o->steps);
    WallTime changes;
    for (const Change& c : o->changes) changes += c.wall;
    for (const Account a : {Account::detecting, Account::restarting,
                            Account::loading, Account::moving}) {
      RC_ASSERT(changes[a] == o->wall[a]);
    }
    for (const Change& c : o->changes) {
      if (c.to.empty()) continue;
      RC_ASSERT(c.verified > 0);
      RC_ASSERT(c.from_checkpoint || c.survival.complete());
    }
  }
}

// With all else equal, one more loss at the end of a trace of losses never
// helps: before it both runs are the same, after it fewer strategies fit, and
// the run has taken the fastest that did. (A loss in the middle may help: what
// comes after it may be kept better. So may one after devices came back: it
// spares a change to a faster strategy that no longer pays before the end.)
RC_GTEST_PROP(ElasticRun, OneMoreLossNeverHelps, ()) {
  Dice dice(*rc::gen::arbitrary<std::uint64_t>());
  const auto trace =
      load_trace_text(random_trace(dice, 4, Events::only_losses), "t.json");
  RC_ASSERT(trace.has_value());
  Trace more = *trace;
  Condition condition = Condition::of(more.cluster, {});
  for (const Event& e : more.events) {
    RC_ASSERT(apply(e, more.cluster, condition).has_value());
  }
  const auto left = usable(more.cluster, condition);
  RC_PRE(!left.empty());
  Event loss;
  const Time last = more.events.empty() ? Time{} : more.events.back().at;
  loss.at = last + (more.until - last) * 0.5;
  loss.devices = {left[static_cast<std::size_t>(
      dice.below(static_cast<int>(left.size())))]};
  loss.what = "one more device";
  more.events.push_back(loss);
  const Machinery machine = random_machine(dice);
  const auto before = run_trace(*trace, Policy::elastic, machine);
  const auto after = run_trace(more, Policy::elastic, machine);
  RC_ASSERT(before.has_value() && after.has_value());
  RC_ASSERT(after->tokens <= before->tokens);
}

RC_GTEST_PROP(ElasticRun, IsTheSameEveryTime, ()) {
  Dice dice(*rc::gen::arbitrary<std::uint64_t>());
  const auto trace = load_trace_text(random_trace(dice, 4), "t.json");
  RC_ASSERT(trace.has_value());
  const Machinery machine = random_machine(dice);
  const auto a = run_trace(*trace, Policy::elastic, machine);
  const auto b = run_trace(*trace, Policy::elastic, machine);
  RC_ASSERT(a.has_value() && b.has_value());
  RC_ASSERT(a->wall == b->wall);
  RC_ASSERT(a->tokens == b->tokens);
}

}  // namespace
}  // namespace troupe::runs
