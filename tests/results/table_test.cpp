#include "results/table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <sstream>

#include "base/file.h"
#include "results/compare.h"
#include "results/groups.h"
#include "tests/results/sample.h"

namespace troupe::results {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

/// Compares with tests/golden/results/NAME; TROUPE_UPDATE_GOLDEN=1 rewrites
/// it, to be read before it is committed.
void expect_golden(const std::string& text, const std::string& name) {
  const std::string path =
      std::string(TROUPE_SOURCE_DIR) + "/tests/golden/results/" + name;
  if (std::getenv("TROUPE_UPDATE_GOLDEN")) {
    ASSERT_TRUE(write_file(path, text).has_value());
  }
  const auto golden = read_file(path);
  ASSERT_TRUE(golden.has_value()) << golden.error().message;
  EXPECT_EQ(text, *golden) << "if this is right, run once with "
                              "TROUPE_UPDATE_GOLDEN=1";
}

std::ptrdiff_t lines(const std::string& text) {
  return std::count(text.begin(), text.end(), '\n');
}

TEST(RunTable, Of1024GpusFitsAScreen) {
  const std::string table = to_table(sample_run());
  expect_golden(table, "simulate_1024.txt");
  EXPECT_LE(lines(table), 35);
}

TEST(RunTable, OfUnequalPipelinesThatDoNotFit) {
  RunResult run = sample_run(
      {.pipelines = 4, .stages = 2, .micro_batches = 8, .mixed = true});
  run.stages[1].out_of_memory = run.out_of_memory = true;
  run.stages[1].memory.peak = {std::int64_t{96} << 30};
  run.cluster_gpus = 96;
  const std::string table = to_table(run);
  expect_golden(table, "simulate_out_of_memory.txt");
  EXPECT_THAT(table, HasSubstr("OUT OF MEMORY in 1 of 8 stages"));
}

TEST(RunTable, HasNoTrailingSpaces) {
  std::istringstream all(to_table(sample_run()) +
                         compare_table(sample_run(), sample_run()));
  for (std::string line; std::getline(all, line);) {
    EXPECT_FALSE(line.ends_with(' ')) << "'" << line << "'";
  }
}

TEST(RunTable, AnEmptyRunIsStillReadable) {
  const std::string table = to_table(RunResult{});
  EXPECT_THAT(table, HasSubstr("simulated step on 0 of 0 GPUs"));
  EXPECT_THAT(table, Not(HasSubstr("nan")));
  EXPECT_THAT(table, Not(HasSubstr("inf")));
}

TEST(RunTable, HostileTextCannotSteerTheTerminal) {
  RunResult run = sample_run({.pipelines = 1, .stages = 1});
  run.model = "\x1B[2J\nfake line";
  run.warnings = {std::string(100'000, 'w') + "\x1B]0;title\x07"};
  const std::string table = to_table(run);
  EXPECT_EQ(table.find('\x1B'), std::string::npos);
  EXPECT_LT(table.size(), 10'000u);
}

TEST(RunTable, ExtremeNumbersDoNotOverflow) {
  RunResult run = sample_run({.pipelines = 1, .stages = 1});
  const Time longest = kForever;
  run.breakdown.compute = run.breakdown.tp = run.step_time = longest;
  run.stages[0].breakdown = run.breakdown;
  run.stages[0].memory.limit = {0};
  run.stages[0].memory.peak = {std::numeric_limits<std::int64_t>::max()};
  run.mfu = NAN;
  run.usd_per_step = INFINITY;
  EXPECT_THAT(to_table(run), Not(HasSubstr("nan")));
  EXPECT_FALSE(compare_table(run, run).empty());
}

TEST(RunTable, ManyDifferentStagesAreCutAndCounted) {
  RunResult run = sample_run({.pipelines = 1, .stages = 100});
  run.stages[99].out_of_memory = run.out_of_memory = true;
  const std::string table = to_table(run);
  EXPECT_LT(lines(table), 80);
  EXPECT_THAT(table, HasSubstr("52 more rows"));
  EXPECT_THAT(table, HasSubstr("of them OUT OF MEMORY"));
}

TEST(StageGroups, PutEqualPipelinesTogether) {
  const RunResult run =
      sample_run({.pipelines = 4, .stages = 2, .mixed = true});
  const auto groups = group_stages(run);
  ASSERT_EQ(groups.size(), 4u);
  EXPECT_THAT(groups[0].pipelines, ElementsAre(0, 2));
  EXPECT_THAT(groups[2].pipelines, ElementsAre(1, 3));
  EXPECT_EQ(groups[3].slowest->stage, 1);
}

// A pipeline with another memory peak is not equal, even in one stage.
TEST(StageGroups, OneDifferenceSeparatesTheWholePipeline) {
  RunResult run = sample_run({.pipelines = 2, .stages = 2});
  run.stages[3].memory.peak.v += 1;
  EXPECT_EQ(group_stages(run).size(), 4u);
}

TEST(StageGroups, RangesAreShort) {
  EXPECT_EQ(ranges_text({0, 1, 2, 5, 7, 8}), "0-2,5,7-8");
  EXPECT_EQ(ranges_text({0, 2, 4, 6}, 2), "0,2,...");
  EXPECT_EQ(ranges_text({}), "");
  EXPECT_EQ(pipelines_text({3}), "pipeline 3");
}

TEST(Compare, HasBothSidesAndTheirRatio) {
  const RunResult a = sample_run();
  RunResult b = a;
  b.step_time = {a.step_time.v * 2};
  b.breakdown.compute = {a.breakdown.compute.v / 2};
  b.inputs["model"] = "another";
  const Json json = compare(a, b);
  EXPECT_EQ(json["step_time_s"]["ratio"], 2.0);
  EXPECT_EQ(json["breakdown_s"]["compute"]["ratio"], 0.5);
  EXPECT_EQ(json["breakdown_s"]["compute"]["difference"], -0.84);
  EXPECT_TRUE(json["breakdown_s"]["cp"]["ratio"].is_null());
  EXPECT_EQ(json["inputs"]["model"]["same"], false);
  EXPECT_EQ(json["inputs"]["strategy"]["same"], true);
  EXPECT_EQ(json["inputs"]["schedule"]["same"], true);
  EXPECT_EQ(json["stages"].size(), 128u);
  expect_golden(compare_table(a, b), "compare.txt");
}

TEST(Compare, SaysWhyStagesHaveNoRows) {
  const RunResult a = sample_run({.pipelines = 2, .stages = 2});
  const RunResult b = sample_run({.pipelines = 1, .stages = 4});
  EXPECT_TRUE(compare(a, b)["stages"].is_null());
  EXPECT_EQ(compare(a, b)["stages_differ"],
            "the pipelines have different numbers of stages");
  EXPECT_THAT(compare_table(a, RunResult{}),
              HasSubstr("a has 4 stages, b has 0"));
}

TEST(RunList, IsALineEach) {
  StoredRun row;
  row.id = "r1";
  row.model = "evil\nmodel";
  EXPECT_EQ(lines(to_table({row, row})), 3);
  EXPECT_EQ(to_table(std::vector<StoredRun>{}), "no runs\n");
}

}  // namespace
}  // namespace troupe::results
