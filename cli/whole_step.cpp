#include "cli/whole_step.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>

#include "base/file.h"
#include "cli/simulation.h"
#include "cli/write_trace.h"
#include "results/trace.h"
#include "schedule/file.h"

namespace troupe::cli {
namespace {

using clusters::DeviceId;
using results::Event;
using results::EventKey;
using schedule::TaskId;

/// The times of a part's tasks in its phase's own numbers.
sim::Run own_run(const SimulatedStep& step, std::size_t part,
                 const sim::Run& run) {
  const auto& tasks = step.timeline.tasks_of[part];
  sim::Run out;
  out.start.resize(tasks.size());
  out.end.resize(tasks.size());
  for (std::size_t t = 0; t < tasks.size(); ++t) {
    if (!tasks[t]) continue;
    out.start[t] = run.start[tasks[t].at()];
    out.end[t] = run.end[tasks[t].at()];
  }
  out.step = run.step;
  out.events = static_cast<std::int64_t>(tasks.size());
  out.contended = run.contended;
  return out;
}

const sim::PriceList& prices_of(const VirtualJob& job,
                                const runs::StepPart& part) {
  const auto it = std::ranges::find(job.phases, part.phase);
  return *job.prices[static_cast<std::size_t>(it - job.phases.begin())];
}

/// Where the step of each device goes.
std::map<DeviceId, results::Breakdown> breakdowns(const VirtualJob& job,
                                                  const SimulatedStep& step,
                                                  const sim::Run& run) {
  std::map<DeviceId, results::Breakdown> out;
  for (const runs::StepPart& part : step.graph.parts) {
    const auto k = static_cast<std::size_t>(&part - step.graph.parts.data());
    const schedule::Schedule& s = *part.schedule;
    const sim::PriceList& prices = prices_of(job, part);
    for (std::size_t t = 0; t < s.tasks.size(); ++t) {
      const TaskId id = step.timeline.tasks_of[k][t];
      if (!id || !schedule::computes(s.tasks[t].kind)) continue;
      const Time took = run.end[id.at()] - run.start[id.at()];
      const sim::Parts parts =
          sim::parts_of(prices.of(make_id<TaskId>(t)), took);
      for (const auto& member : s.stage(s.tasks[t].stage).members) {
        for (const auto rank : member) {
          results::Breakdown& b = out[s.rank(rank).device];
          if (s.tasks[t].kind == schedule::TaskKind::optimizer) {
            b.optimizer += took;
            continue;
          }
          b.compute += parts.compute;
          b.tp += parts.tensor;
          b.cp += parts.context;
          b.dp += parts.data;
        }
      }
    }
  }
  for (auto& [device, b] : out) b.bubble = run.step - b.total();
  return out;
}

/// Bars of all parts, their pipelines one below the other.
std::vector<results::Bar> bars_of_parts(const SimulatedStep& step,
                                        const sim::Run& run) {
  constexpr std::size_t kMostBars = 20000;
  std::vector<results::Bar> out;
  int pipelines = 0;
  for (std::size_t k = 0; k < step.graph.parts.size(); ++k) {
    const schedule::Schedule& s = *step.graph.parts[k].schedule;
    for (results::Bar bar :
         results::bars_of(s, own_run(step, k, run), 2, kMostBars)) {
      if (bar.end == Time{} || out.size() >= kMostBars) continue;
      bar.pipeline += pipelines;
      out.push_back(std::move(bar));
    }
    pipelines += std::min(s.pipelines, 2);
  }
  return out;
}

std::string name_of_key(const EventKey& key, const SimulatedStep& step) {
  if (key.device == EventKey::kSwitch) return "layout_switch";
  const auto part = static_cast<std::size_t>(key.part);
  const schedule::Schedule& s = *step.graph.parts[part].schedule;
  return std::string(
      schedule::name_of(s.tasks[static_cast<std::size_t>(key.task)].kind));
}

void add_tasks(const SimulatedStep& step, const sim::Run& run,
               results::Timeline& out) {
  const auto add = [&](EventKey key, int micro_batch, TaskId id) {
    out.events.push_back({key, micro_batch, name_of_key(key, step),
                          run.start[id.at()], run.end[id.at()]});
  };
  for (std::size_t k = 0; k < step.timeline.tasks_of.size(); ++k) {
    const auto part = static_cast<std::int32_t>(k);
    const auto& tasks = step.timeline.tasks_of[k];
    for (std::size_t t = 0; t < tasks.size(); ++t) {
      if (!tasks[t]) continue;
      add({part, EventKey::kTask, static_cast<std::int32_t>(t), 0, 0},
          step.graph.parts[k].schedule->tasks[t].micro_batch, tasks[t]);
    }
  }
  for (std::size_t k = 0; k < step.timeline.switches.size(); ++k) {
    const auto part = static_cast<std::int32_t>(k);
    const auto& tasks = step.timeline.switches[k];
    for (std::size_t t = 0; t < tasks.size(); ++t) {
      add({part, EventKey::kSwitch, static_cast<std::int32_t>(t), 0, 0}, -1,
          tasks[t]);
    }
  }
}

/// An operator of a part; `block` is the priced one.
void add_operator(const schedule::Schedule& s, std::size_t part,
                  DeviceId device, const sim::OperatorRecord& r,
                  results::Timeline& out) {
  if (out.events.size() >= kMostTracedOperators) {
    out.cut = true;
    return;
  }
  out.events.push_back(
      {{static_cast<std::int32_t>(part), device.v, r.task.v, r.layer,
        static_cast<std::int32_t>(r.index)},
       s.tasks[r.task.at()].micro_batch,
       r.block->operators[r.index].name,
       r.start,
       r.end,
       static_cast<std::int32_t>(r.block->operators[r.index].stream)});
}

}  // namespace

std::vector<DeviceId> stage_heads(const schedule::Schedule& schedule) {
  std::vector<DeviceId> out;
  for (const schedule::Stage& stage : schedule.stages) {
    out.push_back(schedule.rank(stage.members[0][0]).device);
  }
  return out;
}

sim::Run run_of(const schedule::Schedule& graph,
                const std::map<TaskId, exec::Span>& tasks) {
  sim::Run run;
  run.start.resize(graph.tasks.size());
  run.end.resize(graph.tasks.size());
  for (const auto& [task, span] : tasks) {
    run.start[task.at()] = span.first;
    run.end[task.at()] = span.second;
    run.step = std::max(run.step, span.second);
  }
  run.events = static_cast<std::int64_t>(graph.tasks.size());
  return run;
}

results::RunResult whole_run(const VirtualJob& job, const SimulatedStep& step,
                             const sim::Run& run) {
  const runs::StepPart& last = step.graph.parts.back();
  const sim::Run own = own_run(step, step.graph.parts.size() - 1, run);
  results::RunResult out =
      answer_of({*last.schedule, job.plan->cluster, prices_of(job, last),
                 last.activities, own, kReserve},
                *job.costs, SimulationOptions{}.bar_pipelines);
  name_plan(*job.plan, out);
  if (step.graph.parts.size() == 1) return out;
  // Of several parts the last one's stages say nothing of the others.
  out.stages.clear();
  out.critical_pipeline = out.critical_stage = 0;
  out.phase = "whole step";
  out.provenance = {};
  out.usd_per_step = 0;
  out.bars = bars_of_parts(step, run);
  out.tokens = 0;
  out.model_flops = 0;
  std::string hashes;
  std::set<DeviceId> used;
  double peak = 0;
  for (const runs::StepPart& part : step.graph.parts) {
    hashes += schedule::content_hash(*part.schedule);
    for (const auto& rank : part.schedule->ranks) {
      if (!used.insert(rank.device).second) continue;
      const auto& rates = job.plan->cluster.kind_of(rank.device).peak;
      const auto it = rates.find(part.schedule->dtype);
      if (it != rates.end()) peak += it->second.v;
    }
    if (part.doing == runs::Doing::update) continue;
    out.tokens += part.schedule->tokens;
    out.model_flops += part.schedule->model_flops.v;
  }
  out.schedule = content_hash(hashes);
  out.gpus = static_cast<int>(used.size());
  const double time = to_seconds(run.step);
  out.tokens_per_s = time > 0 ? static_cast<double>(out.tokens) / time : 0;
  out.mfu = time * peak > 0 ? out.model_flops / (time * peak) : 0;
  out.mfu_full_attention = out.mfu_whole_cluster = out.hfu = 0;
  const auto all = breakdowns(job, step, run);
  const auto busiest = std::ranges::min_element(
      all, {}, [](const auto& entry) { return entry.second.bubble; });
  if (busiest != all.end()) out.breakdown = busiest->second;
  return out;
}

results::Timeline timeline_of(const SimulatedStep& step, const sim::Run& run,
                              const std::vector<emu::DeviceTimes>& recorded) {
  results::Timeline out;
  add_tasks(step, run, out);
  for (const emu::DeviceTimes& times : recorded) {
    for (const exec::Performed& p : times.operators) {
      add_operator(*step.graph.parts[p.part].schedule, p.part, times.device,
                   {{}, p.task, p.layer, p.index, p.block, p.start, p.end},
                   out);
    }
  }
  return out;
}

std::vector<sim::OperatorRecord> records_of(
    const schedule::Schedule& schedule,
    const std::vector<emu::DeviceTimes>& recorded) {
  std::map<DeviceId, schedule::RankId> ranks;
  for (std::size_t r = 0; r < schedule.ranks.size(); ++r) {
    ranks[schedule.ranks[r].device] = make_id<schedule::RankId>(r);
  }
  std::vector<sim::OperatorRecord> out;
  for (const emu::DeviceTimes& times : recorded) {
    for (const exec::Performed& p : times.operators) {
      out.push_back({ranks.at(times.device), p.task, p.layer, p.index, p.block,
                     p.start, p.end});
    }
  }
  return out;
}

results::Timeline simulated_timeline(const VirtualJob& job,
                                     const SimulatedStep& step,
                                     const sim::Run& run) {
  results::Timeline out;
  add_tasks(step, run, out);
  for (std::size_t k = 0; k < step.graph.parts.size(); ++k) {
    const runs::StepPart& part = step.graph.parts[k];
    const schedule::Schedule& s = *part.schedule;
    std::vector<schedule::RankId> heads;
    for (const auto& stage : s.stages) heads.push_back(stage.members[0][0]);
    std::ranges::sort(heads);
    sim::PriceList prices(s, job.plan->cluster, *job.network, *job.costs,
                          job.host_per_operator);
    sim::OperatorDetail detail(s, prices, heads, kMostTracedOperators,
                               {job.disturbance ? &*job.disturbance : nullptr,
                                static_cast<std::int32_t>(part.phase)});
    for (std::size_t t = 0; t < s.tasks.size(); ++t) {
      const TaskId id = step.timeline.tasks_of[k][t];
      if (!id || !schedule::computes(s.tasks[t].kind)) continue;
      detail.perform(make_id<TaskId>(t), run.start[id.at()]);
    }
    for (const sim::OperatorRecord& r : detail.records()) {
      add_operator(s, k, s.rank(r.rank).device, r, out);
    }
    out.cut = out.cut || detail.cut();
  }
  return out;
}

namespace {

constexpr int kTaskTrack = schedule::kStreams;
constexpr int kSwitchTrack = kTaskTrack + 1;

void name_device(results::TraceWriter& trace, int device) {
  trace.name_process(device, fmt::format("device {}", device));
  for (int i = 0; i < schedule::kStreams; ++i) {
    trace.name_track(device, i, name_of(static_cast<schedule::Stream>(i)));
  }
  trace.name_track(device, kTaskTrack, "tasks");
  trace.name_track(device, kSwitchTrack, "switches");
}

/// Compute tasks, on every device of their stage that is traced.
void trace_tasks(results::TraceWriter& trace, const VirtualJob& job,
                 const SimulatedStep& step, const sim::Run& run,
                 const std::set<int>& devices) {
  for (std::size_t k = 0; k < step.graph.parts.size(); ++k) {
    const schedule::Schedule& s = *step.graph.parts[k].schedule;
    const std::string& phase =
        job.plan->strategy.phases[step.graph.parts[k].phase].name;
    for (std::size_t t = 0; t < s.tasks.size(); ++t) {
      const TaskId id = step.timeline.tasks_of[k][t];
      if (!id || !schedule::computes(s.tasks[t].kind)) continue;
      const std::string name =
          fmt::format("{} {}", name_of(s.tasks[t].kind), phase);
      const std::array<results::TraceArg, 2> args{
          results::TraceArg{"part", static_cast<std::int64_t>(k)},
          results::TraceArg{"micro_batch",
                            std::int64_t{s.tasks[t].micro_batch}}};
      for (const auto& member : s.stage(s.tasks[t].stage).members) {
        for (const auto rank : member) {
          const int device = s.rank(rank).device.v;
          if (!devices.contains(device)) continue;
          trace.add({device, kTaskTrack, name, name_of(s.tasks[t].kind),
                     run.start[id.at()], run.end[id.at()], args});
        }
      }
    }
  }
}

void trace_switches(results::TraceWriter& trace, const SimulatedStep& step,
                    const sim::Run& run, const std::set<int>& devices) {
  for (std::size_t k = 0; k < step.timeline.switches.size(); ++k) {
    // Batches of one bucket run together on a device: one slice.
    std::map<std::pair<int, std::size_t>, exec::Span> slices;
    for (std::size_t i = 0; i < step.timeline.switches[k].size(); ++i) {
      const TaskId id = step.timeline.switches[k][i];
      const auto& batch = step.timeline.batches[k][i];
      const exec::Span span{run.start[id.at()], run.end[id.at()]};
      for (const DeviceId d : batch.devices) {
        if (!devices.contains(d.v)) continue;
        auto& slice =
            slices.try_emplace({d.v, batch.bucket}, span).first->second;
        slice.first = std::min(slice.first, span.first);
        slice.second = std::max(slice.second, span.second);
      }
    }
    const std::string name = fmt::format("switch before part {}", k);
    for (const auto& [at, span] : slices) {
      trace.add({at.first,
                 kSwitchTrack,
                 name,
                 "layout_switch",
                 span.first,
                 span.second,
                 {}});
    }
  }
}

}  // namespace

Result<void> write_emulated(const std::filesystem::path& path,
                            const VirtualJob& job, const SimulatedStep& step,
                            const sim::Run& run,
                            const std::vector<emu::DeviceTimes>& recorded) {
  if (step.graph.parts.size() == 1) {
    const schedule::Schedule& s = *step.graph.parts[0].schedule;
    return write_trace(path, s, own_run(step, 0, run), records_of(s, recorded));
  }
  const results::Timeline timeline = timeline_of(step, run, recorded);
  TRY(results::TraceWriter trace, results::TraceWriter::open(path));
  std::set<int> devices;
  for (const Event& e : timeline.events) {
    if (e.key.device >= 0) devices.insert(e.key.device);
  }
  for (const int device : devices) name_device(trace, device);
  trace_tasks(trace, job, step, run, devices);
  trace_switches(trace, step, run, devices);
  for (const Event& e : timeline.events) {
    if (e.key.device < 0) continue;
    const std::array<results::TraceArg, 3> args{
        results::TraceArg{"task", std::int64_t{e.key.task}},
        results::TraceArg{"layer", std::int64_t{e.key.layer}},
        results::TraceArg{"part", std::int64_t{e.key.part}}};
    trace.add(
        {e.key.device, e.stream, e.name, "operator", e.start, e.end, args});
  }
  return trace.finish();
}

}  // namespace troupe::cli
