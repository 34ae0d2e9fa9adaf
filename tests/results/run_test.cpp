#include "results/run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <limits>

#include "results/parts.h"
#include "tests/results/sample.h"

namespace troupe::results {
namespace {

using ::testing::HasSubstr;

/// Any time a step can have: up to 106 days, in picoseconds.
rc::Gen<Time> any_time() {
  return rc::gen::map(
      rc::gen::oneOf(rc::gen::inRange<std::int64_t>(0, 2'000'000),
                     rc::gen::inRange<std::int64_t>(0, kForever.v)),
      [](std::int64_t v) { return Time{v}; });
}

double any_real() {
  return *rc::gen::map(rc::gen::arbitrary<double>(), [](double v) {
    return std::isfinite(v) && std::abs(v) < 1e300 ? v : 0.5;
  });
}

std::string any_text() {
  return *rc::gen::container<std::string>(rc::gen::map(
      rc::gen::inRange(1, 127), [](int c) { return static_cast<char>(c); }));
}

Breakdown any_breakdown() {
  Breakdown out;
  for (const TimePart& part : kTimeParts) out.*part.member = *any_time();
  return out;
}

StageSummary any_stage() {
  const auto small = [] { return *rc::gen::inRange(0, 1 << 30); };
  StageSummary out{.pipeline = small(),
                   .stage = small(),
                   .kind = any_text(),
                   .devices = *rc::gen::container<std::vector<int>>(
                       rc::gen::inRange(0, 1 << 30)),
                   .tp = small(),
                   .cp = small(),
                   .layers = any_text(),
                   .layer_count = small(),
                   .micro_batches = small(),
                   .breakdown = any_breakdown(),
                   .memory = {},
                   .out_of_memory = *rc::gen::arbitrary<bool>()};
  const auto bytes = [] {
    return Bytes{*rc::gen::inRange<std::int64_t>(0, kForever.v)};
  };
  for (const MemoryPart& part : kMemoryParts) {
    out.memory.*part.member = bytes();
  }
  out.memory.peak = bytes();
  out.memory.limit = bytes();
  return out;
}

RunResult any_run() {
  RunResult run = sample_run({.pipelines = 1, .stages = 1, .micro_batches = 1});
  for (std::string* text :
       {&run.id, &run.created, &run.performance, &run.name, &run.model,
        &run.cluster, &run.phase, &run.schedule}) {
    *text = any_text();
  }
  run.inputs = {{any_text(), any_text()}, {any_text(), any_text()}};
  run.command = {any_text(), any_text()};
  run.warnings = {any_text()};
  run.gpus = *rc::gen::inRange(0, 1 << 30);
  run.step_time =
      *rc::gen::suchThat(any_time(), [](Time step) { return step > Time{}; });
  run.tokens = *rc::gen::inRange<std::int64_t>(0, kForever.v);
  run.events = *rc::gen::inRange<std::int64_t>(0, kForever.v);
  for (double* real : {&run.tokens_per_s, &run.mfu, &run.mfu_full_attention,
                       &run.mfu_whole_cluster, &run.hfu, &run.model_flops,
                       &run.usd_per_step, &run.wall_time_s}) {
    *real = any_real();
  }
  for (double& share : run.provenance) share = any_real();
  run.breakdown = any_breakdown();
  run.out_of_memory = *rc::gen::arbitrary<bool>();
  for (int i = *rc::gen::inRange(0, 3); i > 0; --i) {
    run.stages.push_back(any_stage());
    run.bars.push_back({i, -1, any_text(), i, *any_time(), *any_time()});
    run.nodes.push_back({any_text(), any_text(), i, 0, {-1, i}, any_text()});
  }
  return run;
}

RC_GTEST_PROP(RunJson, ComesBackEqualInEveryField, ()) {
  const RunResult run = any_run();
  const auto back = run_from_json(to_json(run), "memory");
  RC_ASSERT(back.has_value());
  RC_ASSERT(*back == run);
}

RC_GTEST_PROP(RunJson, ComesBackEqualThroughText, ()) {
  const RunResult run = any_run();
  const auto json = parse_json(to_json_text(run), "text");
  RC_ASSERT(json.has_value());
  const auto back = run_from_json(*json, "text");
  if (!back) RC_FAIL(back.error().message);
  RC_ASSERT(*back == run);
}

// Up to 1e3 s a double of seconds holds picoseconds, so nothing but the
// seconds is written.
RC_GTEST_PROP(RunJson, NeedsNoExactTimesBelowAThousandSeconds, ()) {
  RunResult run;
  run.step_time = {*rc::gen::inRange<std::int64_t>(0, 1'000'000'000'000'000)};
  RC_ASSERT(!to_json(run).contains("exact_ps"));
}

TEST(RunJson, HoldsTheKeysThatOtherToolsRelyOn) {
  const Json json = to_json(sample_run());
  for (const char* key :
       {"schedule", "gpus", "step_time_s", "tokens_per_s", "mfu", "breakdown_s",
        "peak_memory_bytes", "limit_bytes", "out_of_memory", "provenance",
        "events", "wall_time_s"}) {
    EXPECT_TRUE(json.contains(key)) << key;
  }
  for (const char* key :
       {"pipeline", "stage", "kind", "bytes", "limit_bytes", "parameters",
        "gradients", "optimizer", "activations", "workspace", "reserve"}) {
    EXPECT_TRUE(json["peak_memory_bytes"][0].contains(key)) << key;
  }
  EXPECT_EQ(json["peak_memory_bytes"].size(), 128u);
}

// The sample's step is the 1F1B closed form (64 + 8 - 1) * 30 ms plus 120 ms
// of gradient sync and optimizer.
TEST(RunJson, BreakdownSumsToTheStep) {
  const RunResult run = sample_run();
  const Json json = to_json(run);
  EXPECT_DOUBLE_EQ(json["step_time_s"].get<double>(), 71 * 0.030 + 0.12);
  double sum = 0;
  for (const auto& [key, value] : json["breakdown_s"].items()) {
    sum += value.get<double>();
  }
  EXPECT_DOUBLE_EQ(sum, json["step_time_s"].get<double>());
  EXPECT_EQ(json["breakdown_s"].size(), 9u);
}

TEST(RunJson, TopLevelLimitBelongsToTheFullestStage) {
  RunResult run;
  run.stages.resize(2);
  run.stages[0].memory.peak = {60};
  run.stages[0].memory.limit = {80};
  run.stages[1].memory.peak = {39};
  run.stages[1].memory.limit = {40};
  EXPECT_EQ(to_json(run)["limit_bytes"], 40);
}

TEST(RunJson, NeverHoldsNaN) {
  RunResult run;
  run.step_time = {1};
  run.mfu = std::nan("");
  run.tokens_per_s = std::numeric_limits<double>::infinity();
  const Json json = to_json(run);
  EXPECT_EQ(json["mfu"], 0.0);
  EXPECT_EQ(json["tokens_per_s"], 0.0);
  EXPECT_EQ(json["warnings"].size(), 2u);
  EXPECT_TRUE(run_from_json(json, "memory").has_value());
}

TEST(RunJson, InvalidUtf8IsReplacedSoThatAnyToolCanPrintIt) {
  RunResult run;
  run.model = "a\xFF\xC0z";
  const Json json = to_json(run);
  EXPECT_NO_THROW(json.dump());
  EXPECT_EQ(json["model"], "a\xEF\xBF\xBD\xEF\xBF\xBDz");
}

TEST(RunJson, ProblemsNameTheirPlace) {
  const Json good = to_json(sample_run({.pipelines = 1}));
  const auto message = [&](const char* pointer, Json value) {
    Json bad = good;
    bad[Json::json_pointer(pointer)] = std::move(value);
    const auto read = run_from_json(bad, "run.json");
    return read ? std::string("accepted") : read.error().message;
  };
  EXPECT_THAT(message("/step_time_s", "soon"),
              HasSubstr("run.json: /step_time_s: expected"));
  for (const double step : {-1.0, 0.0, 1e-13, 1e300}) {
    EXPECT_THAT(message("/step_time_s", step),
                HasSubstr("run.json: /step_time_s: expected"));
  }
  EXPECT_THAT(message("/breakdown_s/tp", 1e300),
              HasSubstr("run.json: /breakdown_s/tp"));
  EXPECT_THAT(message("/bars/rows/0", Json::array({1, 2})),
              HasSubstr("/bars/rows/0: expected a row"));
  EXPECT_THAT(message("/bars/rows/0/4", 1e300), HasSubstr("/bars/rows/0"));
  EXPECT_THAT(message("/stages/1/tp", -1), HasSubstr("/stages/1/tp"));
  EXPECT_THAT(message("/peak_memory_bytes", Json::array()),
              HasSubstr("0 entries for 8 stages"));
  EXPECT_THAT(message("/peak_memory_bytes/0/stage", 5),
              HasSubstr("keep both in the same order"));
  EXPECT_THAT(message("/speling", 1), HasSubstr("unknown key"));
  EXPECT_THAT(message("/version", 2), HasSubstr("version 2 of the run format"));
  EXPECT_THAT(message("/format", "x"), HasSubstr("is not a run"));
  EXPECT_THAT(message("/exact_ps", Json::array({1})),
              HasSubstr("does not agree"));
  EXPECT_THAT(message("/inputs/model", 3), HasSubstr("expected only texts"));
  EXPECT_THAT(message("/command/0", 3), HasSubstr("expected only texts"));
}

TEST(RunJson, AnyOtherJsonIsRefused) {
  for (const char* text : {"null", "[]", "1", "\"run\"", "{}", "[[]]",
                           "{\"format\": 3}", "{\"format\":\"troupe-run\"}"}) {
    const auto read = run_from_json(*parse_json(text, "x"), "x.json");
    ASSERT_FALSE(read.has_value()) << text;
    EXPECT_THAT(read.error().message, HasSubstr("x.json")) << text;
  }
}

// Every value of a real run replaced by each of several wrong ones: an error
// or a run, never a crash.
TEST(RunJson, SurvivesEveryMemberBeingReplaced) {
  const Json flat =
      to_json(sample_run({.pipelines = 1, .stages = 2, .micro_batches = 1}))
          .flatten();
  for (const auto& [pointer, value] : flat.items()) {
    for (const Json& wrong :
         {Json(), Json(-1), Json(1e308), Json("x"), Json::object(),
          Json(std::numeric_limits<std::uint64_t>::max())}) {
      Json bad = flat.unflatten();
      bad[Json::json_pointer(pointer)] = wrong;
      const auto read = run_from_json(bad, "x.json");
      if (!read) {
        EXPECT_FALSE(read.error().message.empty());
      }
    }
  }
}

}  // namespace
}  // namespace troupe::results
