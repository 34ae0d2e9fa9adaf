#include "results/sweep.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <regex>

#include "base/file.h"
#include "tests/results/sample.h"

namespace troupe::results {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

/// A point of `gpus` devices that trains `tokens` in `step_s`.
SweepPoint point(int gpus, std::int64_t tokens, double step_s) {
  SweepPoint out{.value = std::to_string(gpus)};
  out.run.model = "llama-7b";
  out.run.gpus = gpus;
  out.run.tokens = tokens;
  out.run.step_time = seconds(step_s);
  out.run.tokens_per_s = static_cast<double>(tokens) / step_s;
  out.run.mfu = 0.4;
  return out;
}

/// Fields of one CSV text, by RFC 4180.
std::vector<std::vector<std::string>> parse_csv(const std::string& text) {
  std::vector<std::vector<std::string>> out(1, {""});
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    std::string& field = out.back().back();
    if (quoted && c == '"' && text[i + 1] == '"') {
      field += text[++i];
    } else if (c == '"') {
      quoted = !quoted;
    } else if (!quoted && c == ',') {
      out.back().emplace_back();
    } else if (!quoted && c == '\r' && text[i + 1] == '\n') {
      out.push_back({""});
      ++i;
    } else {
      field += c;
    }
  }
  out.pop_back();
  return out;
}

// The same 800 tokens in 10 s on 8 and in 6.25 s on 16 GPUs: t1 g1 / (t2 g2)
// = 10 * 8 / (6.25 * 16) = 0.8.
TEST(Sweep, StrongScaling) {
  const Sweep sweep{"gpus", {point(8, 800, 10), point(16, 800, 6.25)}};
  EXPECT_EQ(scaling_of(sweep), Scaling::strong);
  const auto rows = scaling_rows(sweep);
  EXPECT_DOUBLE_EQ(rows[0].efficiency, 1.0);
  EXPECT_DOUBLE_EQ(rows[1].speedup, 1.6);
  EXPECT_DOUBLE_EQ(rows[1].ideal, 2.0);
  EXPECT_DOUBLE_EQ(rows[1].efficiency, 0.8);
}

// 100 tokens per GPU in 10 s and in 12.5 s: t1 / t2 = 0.8.
TEST(Sweep, WeakScaling) {
  const Sweep sweep{"gpus", {point(8, 800, 10), point(16, 1600, 12.5)}};
  EXPECT_EQ(scaling_of(sweep), Scaling::weak);
  EXPECT_DOUBLE_EQ(scaling_rows(sweep)[1].efficiency, 0.8);
}

TEST(Sweep, OtherScalings) {
  EXPECT_EQ(scaling_of({"tp", {point(8, 8, 1), point(8, 16, 2)}}),
            Scaling::none);
  EXPECT_EQ(scaling_of({"gpus", {point(8, 8, 1), point(16, 64, 2)}}),
            Scaling::mixed);
  EXPECT_EQ(scaling_of({"gpus", {}}), Scaling::none);
}

TEST(Sweep, IdealStartsAtTheFirstPointThatSucceeded) {
  Sweep sweep{"gpus", {point(4, 0, 1), point(8, 800, 10), point(16, 800, 5)}};
  sweep.points[0].error = "does not fit";
  const auto rows = scaling_rows(sweep);
  EXPECT_EQ(rows[0].efficiency, 0);
  EXPECT_DOUBLE_EQ(rows[2].speedup, 2.0);
  EXPECT_THAT(sweep_table(sweep), HasSubstr("does not fit"));
}

TEST(Sweep, CsvIsQuotedAndRectangular) {
  Sweep sweep{"a \"name\", with\nall", {point(8, 800, 10), point(16, 800, 5)}};
  sweep.points[1].value = "x,y";
  sweep.points[1].error = "line 1\r\nline \"2\"";
  const auto rows = parse_csv(sweep_csv(sweep));
  ASSERT_EQ(rows.size(), 3u);
  for (const auto& row : rows) EXPECT_EQ(row.size(), rows[0].size());
  EXPECT_EQ(rows[0][0], "parameter");
  EXPECT_EQ(rows[1][0], "a \"name\", with\nall");
  EXPECT_EQ(rows[1][2], "8");
  EXPECT_EQ(rows[1][3], "10");
  EXPECT_EQ(rows[2][1], "x,y");
  EXPECT_EQ(rows[2].back(), "line 1\r\nline \"2\"");
}

TEST(Sweep, HostileWordsStayText) {
  Sweep sweep{"<script>", {point(8, 800, 10), point(16, 800, 5)}};
  sweep.points[0].value = "\"><script>";
  sweep.points[0].run.model = "<script>";
  sweep.points[1].error = "<script>";
  EXPECT_THAT(sweep_html(sweep), Not(HasSubstr("<script")));
  EXPECT_THAT(sweep_svg(sweep), Not(HasSubstr("<script")));
}

TEST(Sweep, DegenerateSweepsDrawWithoutNaN) {
  Sweep zero{"gpus", {point(0, 0, 1)}};
  zero.points[0].run.mfu = NAN;
  zero.points[0].value = "0";
  Sweep failed{"gpus", {point(1, 1, 1)}};
  failed.points[0].error = "no";
  for (const Sweep& sweep : {Sweep{"x", {}}, zero, failed,
                             Sweep{"x", {point(8, 8, 1), point(8, 8, 1)}}}) {
    for (const std::string& text :
         {sweep_svg(sweep), sweep_html(sweep), sweep_csv(sweep),
          sweep_table(sweep), sweep_json(sweep).dump()}) {
      // As a word: "provenance" holds the letters too.
      EXPECT_FALSE(std::regex_search(text, std::regex("\\b(nan|inf)\\b")));
    }
  }
}

// 64 to 1024 is a factor of 16, 4 doublings: on the logarithmic axis 128 is a
// quarter of the way. The axis runs from 62 to 62 + 304.
TEST(Sweep, GpusAreOnALogarithmicAxis) {
  const Sweep sweep{"gpus",
                    {point(64, 1, 1), point(128, 2, 1), point(1024, 16, 1)}};
  const std::string svg = sweep_svg(sweep);
  EXPECT_THAT(svg, HasSubstr("gpus (log scale)"));
  EXPECT_THAT(svg, HasSubstr("cx=\"138\""));
}

TEST(Sweep, IsWrittenByTheNamesEnd) {
  const TemporaryFolder folder;
  const Sweep sweep{"gpus", {point(8, 800, 10)}};
  for (const std::string name : {"s.csv", "s.json", "s.svg", "s.html"}) {
    EXPECT_TRUE(write_sweep(folder.file(name), sweep).has_value());
    EXPECT_FALSE(read_file(folder.file(name))->empty());
  }
  const auto other = write_sweep(folder.file("s.png"), sweep);
  ASSERT_FALSE(other.has_value());
  EXPECT_THAT(other.error().message, HasSubstr(".csv, .json, .svg or .html"));
}

}  // namespace
}  // namespace troupe::results
