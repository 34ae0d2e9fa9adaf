// The bars of a run as a trace.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "results/text.h"
#include "results/trace.h"

namespace troupe::results {
namespace {

/// Tracks of one stage lie within a block of this many numbers.
constexpr int kTracks = 64;

/// Whether a bar runs beside computation, on a stream of its own.
bool is_communication(const std::string& kind) {
  return kind == "transfer" || kind == "gradient_sync" || kind == "gather" ||
         kind == "switch";
}

/// Lanes of one stage: bars of a lane follow each other.
struct Lanes {
  std::vector<Time> ends;

  /// The first lane that is free at `start`; beyond `most` the last one.
  std::size_t take(Time start, Time end, std::size_t most) {
    std::size_t lane = 0;
    while (lane < ends.size() && ends[lane] > start) ++lane;
    lane = std::min(lane, most - 1);
    if (lane == ends.size()) ends.emplace_back();
    ends[lane] = std::max(ends[lane], end);
    return lane;
  }
};

std::vector<const Bar*> by_start(const std::vector<Bar>& bars) {
  std::vector<const Bar*> out;
  for (const Bar& bar : bars) out.push_back(&bar);
  std::stable_sort(out.begin(), out.end(), [](const Bar* a, const Bar* b) {
    return a->start != b->start ? a->start < b->start : a->end > b->end;
  });
  return out;
}

}  // namespace

Result<void> write_run_trace(const std::filesystem::path& path,
                             const RunResult& run,
                             const TraceOptions& options) {
  TRY(TraceWriter writer, TraceWriter::open(path, options));
  writer.note("model", run.model);
  writer.note("cluster", run.cluster);
  writer.note("schedule", run.schedule);
  std::map<std::tuple<int, int, bool>, Lanes> lanes;
  std::map<int, bool> named;
  constexpr std::size_t kMost = kTracks / 2;
  for (const Bar* bar : by_start(run.bars)) {
    const int process = std::max(bar->pipeline, 0);
    if (named.emplace(process, true).second) {
      writer.name_process(process, fmt::format("pipeline {}", process));
    }
    const bool communication = is_communication(bar->kind);
    Lanes& of_stage = lanes[{bar->pipeline, bar->stage, communication}];
    const std::size_t known = of_stage.ends.size();
    const std::size_t lane = of_stage.take(bar->start, bar->end, kMost);
    // Stages are small numbers; a hostile one shares the last block.
    const int stage = std::clamp(bar->stage, 0, 1 << 20);
    const int track = stage * kTracks + (communication ? kTracks / 2 : 0) +
                      static_cast<int>(lane);
    if (lane == known) {
      writer.name_track(
          process, track,
          fmt::format("stage {} {}", bar->stage,
                      communication ? "communication" : "compute"));
    }
    std::string name = cell(bar->kind);
    if (bar->micro_batch >= 0) name += fmt::format(" {}", bar->micro_batch);
    const TraceArg args[] = {{"micro_batch", std::int64_t{bar->micro_batch}}};
    writer.add({.process = process,
                .track = track,
                .name = name,
                .category = bar->kind,
                .start = bar->start,
                .end = bar->end,
                .args = args});
  }
  return writer.finish();
}

}  // namespace troupe::results
