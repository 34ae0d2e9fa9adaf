#include "results/trace.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "base/file.h"
#include "base/json.h"
#include "tests/results/sample.h"

namespace troupe::results {
namespace {

using ::testing::HasSubstr;

Json read_trace(const std::string& path) {
  return Json::parse(read_file(path).value());
}

std::string unzip(const std::string& path) {
  std::string out(std::size_t{1} << 24, '\0');
  const gzFile file = ::gzopen(path.c_str(), "rb");
  const int n = ::gzread(file, out.data(), static_cast<unsigned>(out.size()));
  ::gzclose(file);
  out.resize(static_cast<std::size_t>(std::max(n, 0)));
  return out;
}

std::vector<Json> slices(const Json& trace) {
  std::vector<Json> out;
  for (const Json& event : trace["traceEvents"]) {
    if (event["ph"] == "X") out.push_back(event);
  }
  return out;
}

/// Picoseconds of a time in microseconds.
std::int64_t ps(const Json& microseconds) {
  return std::llround(microseconds.get<double>() * 1e6);
}

TEST(Trace, TimesAreMicrosecondsToThePicosecond) {
  const TemporaryFolder folder;
  auto writer = TraceWriter::open(folder.file("t.json"));
  writer->add({.process = 1,
               .track = 2,
               .name = "gemm",
               .category = "compute",
               .start = {1'000'000'000'001},
               .end = {1'000'000'000'043}});
  ASSERT_TRUE(writer->finish().has_value());
  const std::string text = read_file(folder.file("t.json")).value();
  EXPECT_THAT(text, HasSubstr("\"ts\":1000000.000001,\"dur\":0.000042"));
  const Json event = slices(read_trace(folder.file("t.json"))).at(0);
  EXPECT_EQ(event["pid"], 1);
  EXPECT_EQ(event["tid"], 2);
  EXPECT_EQ(event["name"], "gemm");
  EXPECT_EQ(event["cat"], "compute");
}

RC_GTEST_PROP(Trace, AnyTextComesOutAsValidJson,
              (const std::string& name, const std::string& value, double real,
               std::int64_t start, std::int64_t end)) {
  const TemporaryFolder folder;
  auto writer = TraceWriter::open(folder.file("t.json"));
  writer->name_process(0, name);
  writer->name_track(0, 1, value);
  writer->note(name, value);
  const TraceArg args[] = {{"text", std::string_view(value)},
                           {"real", real},
                           {"whole", std::int64_t{start}}};
  writer->add({.name = name,
               .category = value,
               .start = {start},
               .end = {end},
               .args = args});
  RC_ASSERT(writer->finish().has_value());
  const Json trace = read_trace(folder.file("t.json"));
  RC_ASSERT(trace["traceEvents"].size() == 5u);
}

TEST(Trace, IsCompressedWhenItsNameSaysSo) {
  const TemporaryFolder folder;
  const RunResult run = sample_run();
  ASSERT_TRUE(write_run_trace(folder.file("a.json"), run).has_value());
  ASSERT_TRUE(write_run_trace(folder.file("a.json.gz"), run).has_value());
  EXPECT_EQ(unzip(folder.file("a.json.gz")),
            read_file(folder.file("a.json")).value());
  EXPECT_LT(std::filesystem::file_size(folder.file("a.json.gz")) * 5,
            std::filesystem::file_size(folder.file("a.json")));
}

TEST(Trace, SaysWhatWasCut) {
  const TemporaryFolder folder;
  auto writer = TraceWriter::open(folder.file("t.json"), {.most_slices = 2});
  for (int i = 0; i < 5; ++i) writer->add({.name = "x"});
  EXPECT_EQ(writer->left_out(), 3);
  ASSERT_TRUE(writer->finish().has_value());
  const Json trace = read_trace(folder.file("t.json"));
  EXPECT_EQ(slices(trace).size(), 2u);
  EXPECT_EQ(trace["otherData"]["cut"],
            "trace cut: 3 of 5 slices were left out");
  EXPECT_EQ(trace["traceEvents"].back()["ph"], "i");
}

/// On each track slices follow or contain each other.
void expect_nested(const Json& trace) {
  struct Range {
    std::int64_t start, end;
  };
  std::map<std::pair<int, int>, std::vector<Range>> tracks;
  for (const Json& event : slices(trace)) {
    const std::int64_t start = ps(event["ts"]);
    tracks[{event["pid"], event["tid"]}].push_back(
        {start, start + ps(event["dur"])});
  }
  for (auto& [track, ranges] : tracks) {
    std::sort(ranges.begin(), ranges.end(), [](Range a, Range b) {
      return a.start != b.start ? a.start < b.start : a.end > b.end;
    });
    std::vector<Range> open;
    for (const Range range : ranges) {
      while (!open.empty() && open.back().end <= range.start) open.pop_back();
      if (!open.empty()) {
        EXPECT_LE(range.end, open.back().end);
      }
      open.push_back(range);
    }
  }
}

TEST(RunTrace, HoldsEveryBarOnceAndNested) {
  const TemporaryFolder folder;
  RunResult run = sample_run();
  // A gradient sync that overlaps another one, and a transfer beside it.
  run.bars.push_back({0, 0, "gradient_sync", -1, {100}, {300}});
  run.bars.push_back({0, 0, "gradient_sync", -1, {200}, {400}});
  run.bars.push_back({0, 0, "transfer", 1, {150}, {250}});
  ASSERT_TRUE(write_run_trace(folder.file("t.json"), run).has_value());
  const Json trace = read_trace(folder.file("t.json"));
  EXPECT_EQ(slices(trace).size(), run.bars.size());
  expect_nested(trace);
}

RC_GTEST_PROP(RunTrace, NestsWhateverTheBars, ()) {
  RunResult run;
  for (int i = *rc::gen::inRange(0, 24); i > 0; --i) {
    const auto start = *rc::gen::inRange<std::int64_t>(0, 100);
    const auto size = *rc::gen::inRange<std::int64_t>(0, 100);
    run.bars.push_back({*rc::gen::inRange(0, 2),
                        *rc::gen::inRange(0, 2),
                        *rc::gen::element<std::string>("forward", "transfer"),
                        i,
                        {start},
                        {start + size}});
  }
  const TemporaryFolder folder;
  RC_ASSERT(write_run_trace(folder.file("t.json"), run).has_value());
  expect_nested(read_trace(folder.file("t.json")));
}

TEST(Trace, NothingIsLeftWithoutFinish) {
  const TemporaryFolder folder;
  {
    auto writer = TraceWriter::open(folder.file("t.json"));
    writer->add({.name = "x"});
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Trace, AnOldTraceSurvivesAFailure) {
  const TemporaryFolder folder;
  ASSERT_TRUE(write_file(folder.file("t.json"), "old").has_value());
  for (const std::string name : {"t.json", "u.json.gz"}) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::signal(SIGXFSZ, SIG_IGN);
      const rlimit limit{4096, 4096};
      ::setrlimit(RLIMIT_FSIZE, &limit);
      const auto written =
          write_run_trace(folder.file(name), sample_run({.tp = 1}));
      ::_exit(!written && written.error().fault == Fault::io &&
                      written.error().message.find("File too large") !=
                          std::string::npos
                  ? 0
                  : 1);
    }
    int status = -1;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(status, 0) << name;
  }
  EXPECT_EQ(read_file(folder.file("t.json")).value(), "old");
  EXPECT_FALSE(std::filesystem::exists(folder.file("u.json.gz")));
}

TEST(Trace, APipeOrDeviceIsWrittenToAndNeverReplaced) {
  const TemporaryFolder folder;
  const std::string pipe = folder.file("pipe");
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const int reader = ::open(pipe.c_str(), O_RDONLY | O_NONBLOCK);
  ASSERT_GE(reader, 0);
  auto writer = TraceWriter::open(pipe);
  ASSERT_TRUE(writer.has_value()) << writer.error().message;
  writer->add({.name = "slice"});
  ASSERT_TRUE(writer->finish().has_value());
  std::string text(4096, '\0');
  const auto n = ::read(reader, text.data(), text.size());
  ::close(reader);
  ASSERT_GT(n, 0);
  text.resize(static_cast<std::size_t>(n));
  EXPECT_EQ(slices(Json::parse(text)).size(), 1u);
  EXPECT_TRUE(std::filesystem::is_fifo(pipe));
  EXPECT_TRUE(write_run_trace("/dev/null", sample_run({})).has_value());
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/null"));
  EXPECT_FALSE(TraceWriter::open("/dev/fd/999").has_value());
}

TEST(Trace, ALinkIsFollowed) {
  const TemporaryFolder folder;
  ASSERT_TRUE(write_file(folder.file("t.json"), "old").has_value());
  std::filesystem::create_symlink("t.json", folder.file("link"));
  ASSERT_TRUE(write_run_trace(folder.file("link"), sample_run({})).has_value());
  EXPECT_TRUE(std::filesystem::is_symlink(folder.file("link")));
  EXPECT_FALSE(slices(read_trace(folder.file("t.json"))).empty());
}

TEST(Trace, AFileThatCannotBeMadeIsAnError) {
  const auto writer = TraceWriter::open("/dev/null/x.json");
  ASSERT_FALSE(writer.has_value());
  EXPECT_THAT(writer.error().message, HasSubstr("cannot create"));
}

}  // namespace
}  // namespace troupe::results
