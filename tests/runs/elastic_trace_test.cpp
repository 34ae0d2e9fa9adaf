// The trace file: what it may say, and what is refused with which words.
#include "runs/elastic_trace.h"

#include <gmock/gmock.h>

#include "elastic_helpers.h"

namespace troupe::runs {
namespace {

using testing::HasSubstr;

/// A trace of two strategies with `extra` members and these events.
std::string text_of(const std::string& events, const std::string& extra = "") {
  return fmt::format(
      R"({{"format": "troupe.trace/1", "model": {}, "cluster": "{}",
           "until_s": 100, "strategies": [
             {{"name": "a", "strategy": {{"dp": 2, "tp": 2, "pp": 2}}}},
             {{"name": "b", "strategy": {{"pipelines": [
               {{"stages": [{{"devices": "12-13", "layers": 4}}]}}]}}}}],
           "events": [{}]{}}})",
      model_text(false), kCluster, events, extra);
}

std::string error_of(const std::string& text) {
  const auto trace = load_trace_text(text, "t.json");
  EXPECT_FALSE(trace) << text;
  return trace ? "" : trace.error().message;
}

TEST(Trace, ReadsEventsOfEveryKind) {
  const auto trace = load_trace_text(
      text_of(R"({"at_s": 1, "kind": "lost", "nodes": ["node2", 3]},
                 {"at_s": 2, "kind": "slowed", "devices": [1, 0],
                  "links": "node0/nic1", "factor": 2.5, "strategy": "a"},
                 {"at_s": 3.5, "kind": "back", "devices": "8-15",
                  "name": "repair"})"),
      "t.json");
  ASSERT_TRUE(trace) << trace.error().message;
  ASSERT_EQ(trace->events.size(), 3U);
  EXPECT_EQ(trace->events[0].devices.size(), 8U);
  EXPECT_EQ(trace->events[0].devices.front(), DeviceId{8});
  EXPECT_EQ(trace->events[1].devices,
            (std::vector<DeviceId>{DeviceId{0}, DeviceId{1}}));
  EXPECT_EQ(trace->events[1].links.size(), 2U);  // out and in
  EXPECT_EQ(trace->events[1].factor, 2.5);
  EXPECT_EQ(trace->events[1].strategy, 0);
  EXPECT_EQ(trace->events[2].at, seconds(3.5));
  EXPECT_EQ(trace->events[2].strategy, -1);
  EXPECT_EQ(trace->strategies[1].devices.front(), DeviceId{12});
}

TEST(Trace, TakesPhasesByTheirEvents) {
  const std::string phases = R"(, {"name": "p", "strategy": {"phases": [
      {"name": "whole", "dp": 2, "tp": 2, "pp": 2},
      {"name": "after", "rule": {"event": "fire"}, "dp": 1, "tp": 2}]}}])";
  std::string text =
      text_of(R"({"at_s": 1, "kind": "lost", "devices": "3", "name": "fire"})");
  text.replace(text.find("]}}]"), 4, "]}}" + phases);
  const auto trace = load_trace_text(text, "t.json");
  ASSERT_TRUE(trace) << trace.error().message << text;
  ASSERT_EQ(trace->strategies.size(), 4U);
  EXPECT_EQ(trace->strategies[3].name, "p/after");
  EXPECT_EQ(trace->events[0].strategy, 3);
}

// The strategy counts its own eight devices; the trace says which they are.
TEST(Trace, RenumbersDevices) {
  std::string text = text_of("");
  const std::string entry = R"({"name": "own", "devices": "8-15",
      "strategy": {"cluster": "4 x h100-sxm per node, 400 Gbit/s per GPU, 2 nodes",
                   "dp": 1, "tp": 4, "pp": 2}}, )";
  text.insert(text.find(R"({"name": "a")"), entry);
  const auto trace = load_trace_text(text, "t.json");
  ASSERT_TRUE(trace) << trace.error().message;
  EXPECT_EQ(trace->strategies[0].devices.front(), DeviceId{8});
  EXPECT_EQ(trace->strategies[0].devices.back(), DeviceId{15});
  std::string few = text;
  few.replace(few.find("8-15"), 4, "8-13");
  EXPECT_THAT(error_of(few), HasSubstr("names 6 devices"));
  std::string beyond = text;
  beyond.replace(beyond.find("8-15"), 4, "9-16");
  EXPECT_THAT(error_of(beyond), HasSubstr("device 16 is not one of the 16"));
  std::string other = text;
  other.replace(other.find("4 x h100-sxm per node, 400 Gbit/s per GPU, 2"), 44,
                "4 x a100-sxm-80 per node, 400 Gbit/s per GPU, 2");
  EXPECT_THAT(error_of(other), HasSubstr("is a a100-sxm-80 in the strategy's"));
}

struct Bad {
  const char* events;
  const char* message;
};

class BadEvents : public testing::TestWithParam<Bad> {};

TEST_P(BadEvents, AreRefused) {
  EXPECT_THAT(error_of(text_of(GetParam().events)),
              HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadEvents,
    testing::Values(
        Bad{R"({"at_s": 1, "kind": "lost", "devices": "16"})",
            "/events/0/devices: device 16 is not one of the 16"},
        Bad{R"({"at_s": 1, "kind": "lost", "devices": "3,3"})",
            "names a device twice"},
        Bad{R"({"at_s": 1, "kind": "lost", "nodes": "node4"})",
            "no node 'node4' (did you mean"},
        Bad{R"({"at_s": 1, "kind": "lost", "links": "node0/nic9"})",
            "no link 'node0/nic9'"},
        Bad{R"({"at_s": 1, "kind": "lost", "links": "node0/gpu1/pcie"})",
            "no other way around"},
        Bad{R"({"at_s": 1, "kind": "lost"})", "names nothing"},
        Bad{R"({"at_s": 1, "kind": "eaten", "devices": "1"})", "kind"},
        Bad{R"({"at_s": -1, "kind": "lost", "devices": "1"})", "at_s"},
        Bad{R"({"at_s": 100, "kind": "lost", "devices": "1"})",
            "is not before until_s"},
        Bad{R"({"at_s": 5, "kind": "lost", "devices": "1"},
               {"at_s": 5, "kind": "lost", "devices": "2"})",
            "/events/1/at_s: events must come in order"},
        Bad{R"({"at_s": 5, "kind": "lost", "devices": "1"},
               {"at_s": 6, "kind": "lost", "devices": "0-1"})",
            "/events/1: device 1 is not there any more"},
        Bad{R"({"at_s": 5, "kind": "back", "devices": "1"})",
            "device 1 is there already"},
        Bad{R"({"at_s": 5, "kind": "back", "links": "node0/nic0"})",
            "node0/nic0/out is not lost"},
        Bad{R"({"at_s": 5, "kind": "lost", "devices": "1"},
               {"at_s": 6, "kind": "slowed", "devices": "1", "factor": 2})",
            "device 1 is not there; it cannot slow"},
        Bad{R"({"at_s": 5, "kind": "slowed", "devices": "1"})", "factor"},
        Bad{R"({"at_s": 5, "kind": "slowed", "devices": "1", "factor": 0.5})",
            "factor"},
        Bad{R"({"at_s": 5, "kind": "lost", "devices": "1", "factor": 2})",
            "factor"},
        Bad{R"({"at_s": 5, "kind": "lost", "devices": "1", "strategy": "a"})",
            "strategy 'a' uses device 1, which is not there"},
        Bad{R"({"at_s": 5, "kind": "lost", "devices": "1", "strategy": "aa"})",
            "no strategy 'aa' (did you mean 'a'?)"},
        Bad{R"({"at_s": 5, "kind": "lost", "devices": "1",
                "strategy": "b", "links": ["node3/nic0", "node3/nic1",
                "node3/nic2", "node3/nic3"]})",
            "strategy 'b' uses device 12, which is not there"}));

struct BadFile {
  const char* find;
  const char* replace;
  const char* message;
};

class BadFiles : public testing::TestWithParam<BadFile> {};

TEST_P(BadFiles, AreRefused) {
  std::string text =
      text_of(R"({"at_s": 5, "kind": "lost", "devices": "9"})",
              R"(, "absent": "8", "start": "a", "options": {"peers": 1})");
  const auto good = text.find(R"("absent": "8")");
  const auto at = text.find(GetParam().find);
  ASSERT_NE(at, std::string::npos);
  ASSERT_NE(good, std::string::npos);
  text.replace(at, std::string(GetParam().find).size(), GetParam().replace);
  EXPECT_THAT(error_of(text), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadFiles,
    testing::Values(
        BadFile{"troupe.trace/1", "troupe.trace/2",
                "/format: expected \"troupe.trace/1\""},
        BadFile{R"("absent": "8")", R"("absent": "2")",
                "start: strategy 'a' uses device 2"},
        BadFile{R"("absent": "8")", R"("absent": "9")",
                "device 9 is not there any more"},
        BadFile{R"("start": "a")", R"("start": "c")", "no strategy 'c'"},
        BadFile{R"("peers": 1)", R"("peers": 9)", "/options/peers"},
        BadFile{R"("peers": 1)", R"("pears": 1)", "pears"},
        BadFile{R"("peers": 1)", R"("detection_s": -1)", "detection_s"},
        BadFile{R"("peers": 1)", R"("checkpoint": {"every_steps": 0})",
                "/options/checkpoint/every_steps"},
        BadFile{R"("peers": 1)", R"("checkpoint": {"every_steps": 5})",
                "write_gbytes_per_s"},
        BadFile{R"("until_s": 100)", R"("until_s": 1e9)", "/until_s"},
        BadFile{R"("until_s": 100,)", "", "/until_s"},
        BadFile{R"("name": "b")", R"("name": "a")",
                "a second strategy is called 'a'"},
        BadFile{R"("dp": 2)", R"("dp": 2, "dtype": "fp32")",
                "works in bf16, but 'a' in fp32"},
        BadFile{R"("dp": 2)", R"("dp": 2, "model": "gpt2-345m")",
                "the strategy is of model gpt2-345m"},
        BadFile{R"("dp": 2)", R"("dp": 20)", "/strategies/0"},
        BadFile{R"({"dp": 2, "tp": 2, "pp": 2})", "7",
                "/strategies/0/strategy: expected a file"},
        BadFile{R"({"dp": 2, "tp": 2, "pp": 2})", R"("nowhere.json")",
                "nowhere.json"}));

TEST(Trace, NeedsAStrategy) {
  const std::string text = fmt::format(
      R"({{"format": "troupe.trace/1", "model": {}, "cluster": "{}",
           "until_s": 100, "strategies": []}})",
      model_text(false), kCluster);
  EXPECT_THAT(error_of(text), HasSubstr("expected at least one strategy"));
}

TEST(Trace, SurvivesEveryCutOfItsText) {
  const std::string text =
      text_of(R"({"at_s": 5, "kind": "lost", "devices": "9"})",
              R"(, "options": {"checkpoint": {"every_steps": 3,
                                      "write_gbytes_per_s": 1}})");
  ASSERT_TRUE(load_trace_text(text, "t.json"));
  for (std::size_t n = 0; n < text.size(); n += 7) {
    EXPECT_FALSE(load_trace_text(text.substr(0, n), "t.json"));
  }
}

}  // namespace
}  // namespace troupe::runs
