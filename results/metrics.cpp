#include "results/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/text.h"
#include "schedule/memory.h"

namespace troupe::results {

using schedule::Schedule;
using schedule::Stage;

namespace {

Breakdown breakdown_of(const sim::StageTimes& t) {
  Breakdown b;
  b.compute = t.compute;
  b.tp = t.tensor;
  b.cp = t.context;
  b.dp = t.data + t.sync;
  b.pp = t.hand_over;
  b.bubble = t.bubble;
  b.optimizer = t.optimizer;
  return b;
}

std::string layer_ranges(const Stage& stage, int& count) {
  std::vector<std::string> ranges;
  for (const auto& c : stage.chunks) {
    if (c.first >= c.last) continue;
    count += c.last - c.first;
    ranges.push_back(c.last - c.first == 1
                         ? fmt::format("{}", c.first)
                         : fmt::format("{}-{}", c.first, c.last - 1));
  }
  return join(ranges, ",");
}

StageSummary summary_of(const Performed& p, const Stage& stage,
                        const sim::StageTimes& times) {
  StageSummary out;
  out.pipeline = stage.pipeline;
  out.stage = stage.index;
  out.tp = stage.tp();
  out.cp = static_cast<int>(stage.members.size());
  out.layers = layer_ranges(stage, out.layer_count);
  out.micro_batches = stage.micro_batches;
  out.breakdown = breakdown_of(times);
  std::vector<std::string> kinds;
  Bytes limit{std::numeric_limits<std::int64_t>::max()};
  for (const auto& member : stage.members) {
    for (const auto rank : member) {
      const auto device = p.schedule.rank(rank).device;
      out.devices.push_back(device.v);
      const auto& kind = p.cluster.kind_of(device);
      limit = std::min(limit, kind.memory);
      if (std::find(kinds.begin(), kinds.end(), kind.name) == kinds.end()) {
        kinds.push_back(kind.name);
      }
    }
  }
  out.kind = join(kinds, "+");
  const schedule::MemoryUse use = schedule::memory_of(p.schedule, stage);
  out.memory = {use.parameters,          use.gradients, use.optimizer,
                use.activations,         use.workspace, p.reserve,
                use.total() + p.reserve, limit};
  out.out_of_memory = out.memory.peak > limit;
  return out;
}

/// Peak, price and names of the devices in use.
void add_devices(const Performed& p, RunResult& out) {
  double used_peak = 0;
  double price = 0;
  bool priced = true;
  std::set<clusters::DeviceId> used;
  for (const auto& rank : p.schedule.ranks) {
    used.insert(rank.device);
    const auto& kind = p.cluster.kind_of(rank.device);
    const auto peak = kind.peak.find(p.schedule.dtype);
    if (peak != kind.peak.end()) used_peak += peak->second.v;
    const auto& node =
        p.cluster.nodes[p.cluster.devices[rank.device.at()].node.at()];
    const double share =
        node.price_per_hour > 0
            ? node.price_per_hour / static_cast<double>(node.devices.size())
            : kind.price_per_hour;
    priced = priced && share > 0;
    price += share;
  }
  const double step = to_seconds(p.run.step);
  const double whole = clusters::peak_of(p.cluster, p.schedule.dtype).v;
  const auto share = [&](double flops, double peak) {
    return step > 0 && peak > 0 ? flops / (step * peak) : 0.0;
  };
  out.gpus = static_cast<int>(used.size());
  out.cluster_gpus = static_cast<int>(p.cluster.devices.size());
  out.mfu = share(p.schedule.model_flops.v, used_peak);
  out.mfu_full_attention = share(p.schedule.model_flops_full.v, used_peak);
  out.mfu_whole_cluster = share(p.schedule.model_flops.v, whole);
  out.hfu = share(p.prices.hardware_flops().v, used_peak);
  out.usd_per_step = priced ? price * step / 3600 : 0;
}

void add_nodes(const Performed& p, RunResult& out) {
  std::vector<int> pipeline_of(p.cluster.devices.size(), -1);
  for (const auto& rank : p.schedule.ranks) {
    pipeline_of[rank.device.at()] = p.schedule.stage(rank.stage).pipeline;
  }
  for (const auto& node : p.cluster.nodes) {
    NodeSummary summary;
    summary.name = node.name;
    summary.address = node.address;
    summary.devices = static_cast<int>(node.devices.size());
    if (!node.devices.empty()) {
      summary.kind = p.cluster.kind_of(node.devices.front()).name;
    }
    for (const auto d : node.devices) {
      summary.pipelines.push_back(pipeline_of[d.at()]);
      if (pipeline_of[d.at()] >= 0) ++summary.used;
    }
    out.nodes.push_back(std::move(summary));
  }
}

void add_provenance(const Performed& p, RunResult& out) {
  const auto times =
      sim::critical_path_provenance(p.schedule, p.prices, p.activities, p.run);
  Time sum;
  for (const Time t : times) sum += t;
  for (std::size_t i = 0; i < times.size(); ++i) {
    out.provenance[i] = sum.v > 0 ? times[i] / sum : 0.0;
  }
}

/// The word of the picture for a task.
std::string bar_kind(schedule::TaskKind kind) {
  switch (kind) {
    case schedule::TaskKind::parameter_gather:
      return "gather";
    case schedule::TaskKind::layout_switch:
      return "switch";
    case schedule::TaskKind::backward_input:
      return "backward";
    case schedule::TaskKind::forward:
    case schedule::TaskKind::backward:
    case schedule::TaskKind::backward_weight:
    case schedule::TaskKind::transfer:
    case schedule::TaskKind::gradient_sync:
    case schedule::TaskKind::optimizer:
      return std::string(name_of(kind));
  }
  return "";
}

}  // namespace

std::vector<Bar> bars_of(const Schedule& s, const sim::Run& run, int pipelines,
                         std::size_t most) {
  std::vector<Bar> bars;
  for (std::size_t t = 0; t < s.tasks.size(); ++t) {
    const auto& task = s.tasks[t];
    const auto add = [&](schedule::StageId id) {
      const Stage& stage = s.stage(id);
      if (stage.pipeline >= pipelines || bars.size() >= most) return;
      bars.push_back({stage.pipeline, stage.index, bar_kind(task.kind),
                      task.micro_batch, run.start[t], run.end[t]});
    };
    if (task.stage) {
      add(task.stage);
    } else {
      for (const auto id :
           s.syncs[static_cast<std::size_t>(task.what)].stages) {
        add(id);
      }
    }
  }
  return bars;
}

RunResult summarise(const Performed& p) {
  RunResult out;
  out.model = p.schedule.model;
  out.cluster = p.schedule.cluster;
  out.phase = p.schedule.phase;
  out.step_time = p.run.step;
  out.tokens = p.schedule.tokens;
  const double step = to_seconds(p.run.step);
  out.tokens_per_s =
      step > 0 ? static_cast<double>(p.schedule.tokens) / step : 0;
  out.model_flops = p.schedule.model_flops.v;
  out.events = p.run.events;
  add_devices(p, out);
  const auto times = sim::stage_times(p.schedule, p.prices, p.run);
  for (std::size_t s = 0; s < times.size(); ++s) {
    out.stages.push_back(summary_of(p, p.schedule.stages[s], times[s]));
    out.out_of_memory = out.out_of_memory || out.stages.back().out_of_memory;
  }
  if (!times.empty()) {
    const auto critical = sim::critical_stage(times);
    out.breakdown = breakdown_of(times[critical.at()]);
    out.critical_pipeline = p.schedule.stage(critical).pipeline;
    out.critical_stage = p.schedule.stage(critical).index;
  }
  add_provenance(p, out);
  add_nodes(p, out);
  return out;
}

}  // namespace troupe::results
