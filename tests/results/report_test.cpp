#include "results/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <regex>

#include "base/file.h"
#include "results/charts.h"
#include "tests/results/sample.h"

namespace troupe::results {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::size_t count(const std::string& text, const std::string& what) {
  std::size_t n = 0;
  for (auto at = text.find(what); at != text.npos;
       at = text.find(what, at + 1)) {
    ++n;
  }
  return n;
}

/// Every tag that is opened is closed, in order; void ones aside.
void expect_balanced(const std::string& page) {
  static const std::regex tag("<(/?)([a-zA-Z0-9]+)([^<>]*)>");
  std::vector<std::string> open;
  for (std::sregex_iterator it(page.begin(), page.end(), tag), end; it != end;
       ++it) {
    const std::string name = (*it)[2];
    if (name == "meta" || (*it)[3].str().ends_with("/")) continue;
    if ((*it)[1] == "") {
      open.push_back(name);
    } else {
      ASSERT_FALSE(open.empty()) << name;
      ASSERT_EQ(open.back(), name);
      open.pop_back();
    }
  }
  EXPECT_TRUE(open.empty());
}

TEST(Report, NeedsNothingElse) {
  const std::string page = html_report(sample_run());
  // The only addresses are the names of namespaces, which nobody fetches.
  EXPECT_EQ(count(page, "://"),
            count(page, "xmlns=\"http://www.w3.org/2000/svg\""));
  EXPECT_THAT(page, Not(HasSubstr("<script")));
  EXPECT_THAT(page, Not(HasSubstr("url(")));
  EXPECT_THAT(page, Not(HasSubstr("@import")));
  EXPECT_THAT(page, Not(HasSubstr(" src=")));
  EXPECT_THAT(page, HasSubstr("default-src 'none'"));
}

TEST(Report, IsWellFormed) {
  expect_balanced(html_report(
      sample_run({.pipelines = 2, .stages = 3, .micro_batches = 5})));
  expect_balanced(html_report(RunResult{}));
}

TEST(Report, HostileNamesStayText) {
  const std::string evil = "</title><script>alert('1')</script>\"><img x";
  RunResult run = sample_run({.pipelines = 2, .stages = 2, .micro_batches = 3});
  run.id = run.created = run.performance = run.name = run.model = evil;
  run.cluster = run.phase = run.schedule = evil;
  run.inputs = {{evil, evil}};
  run.command = {evil};
  run.warnings = {evil};
  for (StageSummary& stage : run.stages) stage.kind = stage.layers = evil;
  for (Bar& bar : run.bars) bar.kind = evil;
  for (NodeSummary& node : run.nodes) node.name = node.kind = evil;
  const std::string page = html_report(run);
  EXPECT_THAT(page, Not(HasSubstr("<script")));
  EXPECT_THAT(page, Not(HasSubstr("<img")));
  expect_balanced(page);
}

TEST(Report, ShowsTheNumbersAndTheAlarm) {
  RunResult run = sample_run({.pipelines = 2, .stages = 2});
  run.stages[2].out_of_memory = run.out_of_memory = true;
  const std::string page = html_report(run);
  EXPECT_THAT(page, HasSubstr("43.8 %"));
  EXPECT_THAT(page, HasSubstr("Out of memory</b>"));
  EXPECT_THAT(page, HasSubstr("1 of 4 stages"));
  EXPECT_THAT(page, HasSubstr(run.inputs["strategy"]));
  EXPECT_THAT(page, HasSubstr("no measured all-reduce"));
  EXPECT_THAT(html_report(sample_run()), Not(HasSubstr("Out of memory")));
}

// 64 micro-batches x 8 stages x 3 pipelines: 2 x 1536 computations,
// 2 x 1344 hand-overs (7 of 8 stages), 48 syncs and optimizer steps.
TEST(Timeline, DrawsEveryBarOfAUsualRun) {
  const RunResult run = sample_run();
  ASSERT_EQ(run.bars.size(), 2u * 1536 + 2 * 1344 + 48);
  EXPECT_EQ(count(timeline_chart(run), "</title></rect>"), run.bars.size());
  EXPECT_LT(html_report(run).size(), 2'000'000u);
}

TEST(Timeline, MergesWhatCannotBeSeen) {
  const RunResult run = sample_run({.pipelines = 8,
                                    .stages = 8,
                                    .micro_batches = 512,
                                    .drawn_pipelines = 8});
  const std::string chart = timeline_chart(run);
  EXPECT_LT(chart.size(), 2'000'000u);
  EXPECT_THAT(chart, HasSubstr("16 more stages are not drawn"));
  EXPECT_THAT(chart, HasSubstr("drawn as one"));
}

TEST(Timeline, ExtremeBarsStayInside) {
  RunResult run;
  run.bars = {{0, 0, "forward", 0, {-5}, {kForever.v}},
              {-1, -1, "", -1, {7}, {3}},
              {1 << 30, 1 << 30, "x", 1 << 30, kForever, kForever}};
  const std::string chart = timeline_chart(run);
  EXPECT_THAT(chart, Not(HasSubstr("nan")));
  EXPECT_THAT(chart, Not(HasSubstr("inf")));
  EXPECT_THAT(chart, Not(HasSubstr("width=\"-")));
}

TEST(ClusterMap, DrawsEachDeviceOfAThousand) {
  // 128 nodes x 8 devices.
  EXPECT_EQ(count(cluster_chart(sample_run()), "<rect class=\"d\""), 1024u);
}

TEST(ClusterMap, ManyNodesBecomeSquares) {
  RunResult run = sample_run({.pipelines = 1, .stages = 1});
  const NodeSummary node = run.nodes.front();
  run.nodes.assign(2048, node);
  EXPECT_EQ(count(cluster_chart(run), "<rect class=\"d\""), 2048u);
  run.nodes.assign(100'000, node);
  const std::string chart = cluster_chart(run);
  EXPECT_EQ(count(chart, "<rect class=\"d\""), 8192u);
  EXPECT_THAT(chart, HasSubstr("91808 more nodes"));
  EXPECT_LT(chart.size(), 3'000'000u);
}

TEST(ClusterMap, ANodeOfManyDevicesIsCut) {
  RunResult run;
  run.nodes = {{"big", "kind", 1 << 30, 0, std::vector<int>(10'000, -1)}};
  EXPECT_EQ(count(cluster_chart(run), "<rect class=\"d\""), 32u);
}

TEST(Report, StaysSmallForManyDifferentStages) {
  const RunResult run =
      sample_run({.pipelines = 1, .stages = 2000, .micro_batches = 4, .tp = 1});
  EXPECT_LT(html_report(run).size(), 5'000'000u);
}

TEST(Report, IsWrittenWholeOrNotAtAll) {
  const TemporaryFolder folder;
  const RunResult run = sample_run({.pipelines = 1, .stages = 1});
  ASSERT_TRUE(write_report(folder.file("r.html"), run).has_value());
  EXPECT_EQ(read_file(folder.file("r.html")).value(), html_report(run));
  const auto written = write_report(folder.file("no/r.html"), run);
  ASSERT_FALSE(written.has_value());
  EXPECT_EQ(written.error().fault, Fault::io);
}

}  // namespace
}  // namespace troupe::results
