// A trace by steps: who runs when, and where state comes from.
#include "runs/elastic_script.h"

#include <gmock/gmock.h>
#include <rapidcheck/gtest.h>

#include "elastic_helpers.h"

namespace troupe::runs {
namespace {

using Moves = std::vector<std::tuple<std::string, std::string, bool>>;

struct Told {
  Script script;
  History history;
  /// From, to, and whether the checkpoint is read.
  Moves moves;
};

Result<Told> told(const Trace& trace, const Machinery& machinery,
                  std::int64_t steps) {
  Told out;
  TRY(out.script, script_of(trace, machinery));
  const auto parameters = models::parameter_list(trace.model);
  std::vector<std::unique_ptr<Keeping>> keepings;
  for (const Candidate& c : out.script.strategies) {
    keepings.push_back(std::make_unique<Keeping>(
        c, parameters, trace.model, trace.cluster, trace.options.peers));
  }
  TRY(out.history,
      history_of(out.script.acts, keepings, parameters, trace.options, steps));
  const auto name = [&](int runs) {
    return out.script.strategies[static_cast<std::size_t>(runs)].name;
  };
  for (std::size_t i = 1; i < out.history.stretches.size(); ++i) {
    const Stretch& s = out.history.stretches[i];
    if (!s.moves) continue;
    out.moves.emplace_back(name(out.history.stretches[i - 1].runs),
                           name(s.runs), s.reading != Reading::nothing);
  }
  return out;
}

// With so much time between events that every change ends before the next.
RC_GTEST_PROP(ElasticScript, ComesToWhatTheClockComesTo, ()) {
  Dice dice(*rc::gen::arbitrary<std::uint64_t>());
  auto trace = load_trace_text(random_trace(dice, 6), "t.json");
  RC_ASSERT(trace.has_value());
  double at = 0;
  for (Event& event : trace->events) event.at = seconds(at += 1e5);
  trace->until = seconds(at + 1e5);
  const Machinery machine = random_machine(dice);
  const auto clock = run_trace(*trace, Policy::elastic, machine);
  const auto steps = told(*trace, machine, 1 + dice.below(5));
  RC_ASSERT(clock.has_value());
  RC_ASSERT(steps.has_value());
  Moves moves;
  for (const Change& c : clock->changes) {
    if (c.finished) moves.emplace_back(c.from, c.to, c.from_checkpoint);
  }
  RC_ASSERT(moves == steps->moves);
  RC_ASSERT(clock->stopped == steps->history.stopped);
  for (const Stretch& s : steps->history.stretches) {
    if (s.moves) RC_ASSERT(s.recovery.verified > 0);
  }
}

// Checkpoints after steps 3 and 6, stretches of 4 steps. Device 5 owns its
// share alone: from 8 back to 6. What narrow keeps is complete on device 0.
TEST(ElasticScript, CountsStepsFromTheLastCheckpoint) {
  const auto trace = load_trace_text(
      fmt::format(
          R"({{"format": "troupe.trace/1", "model": {}, "cluster": "{}",
               "until_s": 100, "start": "wide",
               "options": {{"checkpoint": {{"every_steps": 3,
                                            "write_gbytes_per_s": 1}}}},
               "strategies": [
                 {{"name": "wide", "strategy": {{"zero": 1, "pipelines": [
                   {{"stages": [{{"devices": "0-1", "layers": {}}}]}},
                   {{"stages": [{{"devices": "4-5", "layers": {}}}]}}]}}}},
                 {{"name": "narrow", "strategy": {{"zero": 1, "pipelines": [
                   {{"stages": [{{"devices": "0", "layers": {}}}]}}]}}}}],
               "events": [
                 {{"at_s": 1, "kind": "slowed", "devices": "0", "factor": 2,
                   "strategy": "wide"}},
                 {{"at_s": 2, "kind": "lost", "devices": "5"}},
                 {{"at_s": 3, "kind": "back", "devices": "5",
                   "strategy": "wide"}}]}})",
          model_text(false), kCluster, kLayers, kLayers, kLayers),
      "t.json");
  ASSERT_TRUE(trace) << trace.error().message;
  const auto out = told(*trace, fake({}), 4);
  ASSERT_TRUE(out) << out.error().message;
  const auto& all = out->history.stretches;
  ASSERT_EQ(all.size(), 4U);
  EXPECT_EQ(all[0].begins, 0);
  EXPECT_EQ(all[1].begins, 4);
  EXPECT_FALSE(all[1].moves);
  // 8 steps are done, 6 are saved.
  EXPECT_EQ(all[2].begins, 6);
  EXPECT_EQ(all[2].voided, 2);
  EXPECT_EQ(all[2].reading, Reading::everything);
  EXPECT_EQ(all[2].lost, std::vector<DeviceId>{DeviceId{5}});
  EXPECT_EQ(all[3].begins, 10);
  EXPECT_EQ(all[3].reading, Reading::nothing);
  EXPECT_TRUE(all[3].lost.empty());
  EXPECT_TRUE(out->history.stopped.empty());
}

}  // namespace
}  // namespace troupe::runs
