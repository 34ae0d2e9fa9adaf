#include "cli/write_trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "results/trace.h"

namespace troupe::cli {

using results::Slice;
using results::TraceArg;
using results::TraceWriter;
using schedule::Schedule;

namespace {

/// Tracks of a stage: its streams, then one per kind of communication that
/// may overlap with itself.
constexpr int kTracks = 12;
constexpr int kForwardTransfers = 6, kBackwardTransfers = 7, kSyncs = 8;
constexpr int kSyncTracks = 4;  // syncs of a stage may run at once

int track_of(const schedule::Stage& stage, int which) {
  return stage.index * kTracks + which;
}

void name_tracks(TraceWriter& trace, const Schedule& s) {
  for (int p = 0; p < s.pipelines; ++p) {
    trace.name_process(p, fmt::format("pipeline {}", p));
  }
  for (const schedule::Stage& stage : s.stages) {
    const auto name = [&](int which, std::string_view what) {
      trace.name_track(stage.pipeline, track_of(stage, which),
                       fmt::format("stage {} {}", stage.index, what));
    };
    for (int i = 0; i < schedule::kStreams; ++i) {
      name(i, name_of(static_cast<schedule::Stream>(i)));
    }
    name(kForwardTransfers, "sends forward");
    name(kBackwardTransfers, "sends backward");
    for (int i = 0; i < kSyncTracks; ++i) name(kSyncs + i, "sync");
  }
}

void add_tasks(TraceWriter& trace, const Schedule& s, const sim::Run& run) {
  for (std::size_t t = 0; t < s.tasks.size(); ++t) {
    const schedule::Task& task = s.tasks[t];
    Slice slice;
    slice.start = run.start[t];
    slice.end = run.end[t];
    slice.category = name_of(task.kind);
    const std::array<TraceArg, 2> args{
        TraceArg{"task", static_cast<std::int64_t>(t)},
        TraceArg{"micro_batch", std::int64_t{task.micro_batch}}};
    slice.args = args;
    if (task.stage) {
      const schedule::Stage& stage = s.stage(task.stage);
      const std::string name =
          task.micro_batch >= 0
              ? fmt::format("{} {}", name_of(task.kind), task.micro_batch)
              : std::string(name_of(task.kind));
      slice.name = name;
      slice.process = stage.pipeline;
      slice.track = track_of(stage, schedule::computes(task.kind) ? 0
                                    : task.backward ? kBackwardTransfers
                                                    : kForwardTransfers);
      trace.add(slice);
      continue;
    }
    const auto& sync = s.syncs[static_cast<std::size_t>(task.what)];
    const std::string name =
        fmt::format("{} {}", name_of(task.kind), sync.name);
    slice.name = name;
    for (std::size_t i = 0; i < sync.stages.size(); ++i) {
      const schedule::Stage& stage = s.stage(sync.stages[i]);
      slice.process = stage.pipeline;
      slice.track = track_of(stage, kSyncs + task.what % kSyncTracks);
      trace.add(slice);
    }
  }
}

void add_operators(TraceWriter& trace, const Schedule& s,
                   std::span<const sim::OperatorRecord> operators, bool cut) {
  for (const sim::OperatorRecord& r : operators) {
    const schedule::Operator& op = r.block->operators[r.index];
    const schedule::Stage& stage = s.stage(s.rank(r.rank).stage);
    Slice slice;
    slice.name = op.name;
    slice.category = "operator";
    slice.process = stage.pipeline;
    slice.track = track_of(stage, static_cast<int>(op.stream));
    slice.start = r.start;
    slice.end = r.end;
    const std::array<TraceArg, 3> args{
        TraceArg{"task", std::int64_t{r.task.v}},
        TraceArg{"layer", std::int64_t{r.layer}},
        TraceArg{"rank", std::int64_t{r.rank.v}}};
    slice.args = args;
    trace.add(slice);
  }
  if (cut) {
    trace.note("operators",
               "cut after the first " + std::to_string(kMostTracedOperators));
  }
}

}  // namespace

std::vector<schedule::RankId> traced_ranks(const Schedule& schedule) {
  std::vector<schedule::RankId> out;
  for (const schedule::Stage& stage : schedule.stages) {
    if (stage.pipeline < 2) out.push_back(stage.members[0][0]);
  }
  std::sort(out.begin(), out.end());
  return out;
}

Result<void> write_trace(const std::filesystem::path& path,
                         const Schedule& schedule, const sim::Run& run,
                         std::span<const sim::OperatorRecord> operators,
                         bool cut) {
  TRY(TraceWriter trace, TraceWriter::open(path));
  name_tracks(trace, schedule);
  trace.note("model", schedule.model);
  trace.note("cluster", schedule.cluster);
  add_tasks(trace, schedule, run);
  add_operators(trace, schedule, operators, cut);
  return trace.finish();
}

}  // namespace troupe::cli
