#include "runs/step.h"

#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include "base/progress.h"
#include "schedule/memory.h"
#include "sim/price.h"

namespace troupe::runs {
namespace {

using schedule::TaskId;

/// What the parts of a step are priced with.
struct Pricing {
  const clusters::Cluster& cluster;
  const sim::Network& network;
  const profiles::CostModel& costs;
  const StepOptions& options;
};

StepPart part_of(const schedule::Schedule& schedule, std::size_t phase,
                 Doing doing, const Pricing& by) {
  sim::PriceList prices(schedule, by.cluster, by.network, by.costs,
                        by.options.host_per_operator);
  StepPart part{&schedule, phase, std::vector<Time>(schedule.tasks.size()),
                sim::activities_of(schedule, by.network), doing};
  const schedule::Disturbance* const disturbance = by.options.disturbance;
  const auto number = static_cast<std::int32_t>(phase);
  sim::OperatorDetail detail(schedule, prices, {}, 0, {disturbance, number});
  if (disturbance) sim::disturb(part.activities, *disturbance, number);
  for (std::size_t t = 0; t < schedule.tasks.size(); ++t) {
    if (!schedule::computes(schedule.tasks[t].kind)) continue;
    const auto id = make_id<TaskId>(t);
    part.durations[t] =
        disturbance ? detail.perform(id, {}) : prices.of(id).time;
  }
  return part;
}

Window window_of(const sim::Run& run, const std::vector<TaskId>& tasks) {
  Window out{kForever, {}};
  for (const TaskId t : tasks) {
    out.start = std::min(out.start, run.start[t.at()]);
    out.end = std::max(out.end, run.end[t.at()]);
  }
  if (tasks.empty()) out.start = {};
  return out;
}

/// Performs the step in each way of waiting.
struct Performed {
  StepTimeline timeline;
  sim::Run run;
};

class Stepper {
 public:
  Stepper(const StepGraph& graph, const clusters::Cluster& cluster,
          const sim::Network& network, const schedule::Disturbance* disturbance)
      : graph_(graph),
        cluster_(cluster),
        network_(network),
        disturbance_(disturbance) {}

  Result<Performed> perform(Waiting waiting) const {
    if (interrupted()) return fail(Fault::interrupted, "interrupted");
    Performed out{step_timeline(graph_.parts, graph_.switches, cluster_,
                                network_, {waiting, disturbance_}),
                  {}};
    TRY(out.run,
        sim::perform_timed(out.timeline.schedule, out.timeline.durations,
                           out.timeline.activities, network_.links()));
    return out;
  }

  /// The step's length, with every communication alone on its links.
  Result<Time> uncontended(const Performed& done) const {
    TRY(const sim::Run run,
        sim::perform_timed(done.timeline.schedule, done.timeline.durations,
                           sim::uncontended(done.timeline.activities),
                           network_.links()));
    return run.step;
  }

 private:
  const StepGraph& graph_;
  const clusters::Cluster& cluster_;
  const sim::Network& network_;
  const schedule::Disturbance* disturbance_;
};

/// Apart, everything has the clock to itself: what ends last before it is
/// where it begins.
void add_alone(const Performed& apart, StepTimes& out) {
  Time now;
  for (std::size_t k = 0; k < out.phases.size(); ++k) {
    if (k < out.switches.size()) {
      const auto& tasks = apart.timeline.switches[k];
      const Time end = tasks.empty() ? now : window_of(apart.run, tasks).end;
      out.switches[k].by_itself = end - now;
      now = end;
    }
    const Time end = window_of(apart.run, apart.timeline.parts[k]).end;
    out.phases[k].by_itself = end - now;
    now = end;
  }
}

void count_work(const strategy::Plan& plan, std::span<const StepPart> parts,
                StepTimes& out) {
  std::set<clusters::DeviceId> used;
  for (const StepPart& part : parts) {
    const schedule::Schedule& s = *part.schedule;
    for (const schedule::Rank& rank : s.ranks) used.insert(rank.device);
    if (part.doing == Doing::update) continue;
    out.tokens += s.tokens;
    out.model_flops += s.model_flops;
  }
  double peak = 0;
  for (const clusters::DeviceId d : used) {
    const auto& rates = plan.cluster.kind_of(d).peak;
    const auto found = rates.find(plan.strategy.dtype);
    if (found != rates.end()) peak += found->second.v;
  }
  const double most = to_seconds(out.step) * peak;
  out.mfu = most > 0 ? out.model_flops.v / most : 0;
}

/// Memory of every part beside the states that devices keep for the last.
void count_memory(const strategy::Plan& plan, std::span<const StepPart> parts,
                  bool whole_masters, StepTimes& out) {
  std::map<clusters::DeviceId, Bytes> states;
  const auto each = [](const schedule::Schedule& s, auto visit) {
    for (const schedule::Stage& stage : s.stages) {
      const schedule::MemoryUse use = schedule::memory_of(s, stage);
      for (const auto& member : stage.members) {
        for (const auto rank : member) visit(s.rank(rank).device, use);
      }
    }
  };
  each(*parts.back().schedule,
       [&](clusters::DeviceId d, const schedule::MemoryUse& use) {
         states[d] = use.optimizer;
         // Twice the bytes of the bf16 copies, instead of a third of the
         // states' share.
         if (whole_masters) {
           states[d] += use.parameters * 2 - use.optimizer * (1.0 / 3);
         }
       });
  out.over_memory = {std::numeric_limits<std::int64_t>::min()};
  for (std::size_t k = 0; k < parts.size(); ++k) {
    if (parts[k].doing == Doing::update) continue;
    each(*parts[k].schedule,
         [&](clusters::DeviceId d, const schedule::MemoryUse& use) {
           const Bytes need = use.total() - use.optimizer + states[d];
           out.phases[k].memory = std::max(out.phases[k].memory, need);
           out.over_memory =
               std::max(out.over_memory, need - plan.cluster.kind_of(d).memory);
         });
  }
}

/// What devices do, device by device. Batches of one bucket run together on
/// a device: they are one slice.
std::vector<StepSlice> slices_of(const Performed& done) {
  std::map<clusters::DeviceId, std::vector<StepSlice>> of;
  const StepTimeline& t = done.timeline;
  for (std::size_t k = 0; k < t.parts.size(); ++k) {
    for (const TaskId id : t.parts[k]) {
      const schedule::Task& task = t.schedule.tasks[id.at()];
      if (!schedule::computes(task.kind)) continue;
      const Window window{done.run.start[id.at()], done.run.end[id.at()]};
      for (const auto d : t.stages[task.stage.at()]) {
        of[d].push_back({d, false, k, task.kind, task.micro_batch, window});
      }
    }
  }
  for (std::size_t k = 0; k < t.switches.size(); ++k) {
    std::map<std::pair<clusters::DeviceId, std::size_t>, Window> buckets;
    for (std::size_t i = 0; i < t.switches[k].size(); ++i) {
      const TaskId id = t.switches[k][i];
      for (const auto d : t.batches[k][i].devices) {
        auto& window = buckets
                           .try_emplace(std::pair(d, t.batches[k][i].bucket),
                                        Window{kForever, {}})
                           .first->second;
        window.start = std::min(window.start, done.run.start[id.at()]);
        window.end = std::max(window.end, done.run.end[id.at()]);
      }
    }
    for (const auto& [at, window] : buckets) {
      of[at.first].push_back(
          {at.first, true, k, schedule::TaskKind::layout_switch, -1, window});
    }
  }
  std::vector<StepSlice> out;
  for (auto& [device, list] : of) {
    std::ranges::stable_sort(list, {}, [](const StepSlice& s) {
      return std::pair(s.window.start, s.window.end);
    });
    out.insert(out.end(), list.begin(), list.end());
  }
  return out;
}

/// Performs parts with switches before them.
Result<StepTimes> perform_graph(const strategy::Plan& plan, StepGraph graph,
                                const sim::Network& network,
                                const StepOptions& options) {
  const Stepper stepper(graph, plan.cluster, network, options.disturbance);
  const std::vector<StepPart>& parts = graph.parts;
  std::vector<reshard::PhaseSwitch>& switches = graph.switches;
  TRY(const Performed apart, stepper.perform(Waiting::apart));
  // Without switches there is nothing to wait for in another way.
  const bool alone = switches.empty();
  TRY(const Performed overlapped,
      alone ? apart : stepper.perform(Waiting::overlapped));
  TRY(const Performed without,
      alone ? apart : stepper.perform(Waiting::without));
  StepTimes out;
  out.apart = apart.run.step;
  out.without = without.run.step;
  TRY(out.uncontended, stepper.uncontended(overlapped));
  out.overlapped = overlapped.run.step <= apart.run.step;
  const Performed& chosen = out.overlapped ? overlapped : apart;
  out.step = chosen.run.step;
  for (std::size_t k = 0; k < parts.size(); ++k) {
    out.phases.push_back({parts[k].phase,
                          plan.strategy.phases[parts[k].phase].name,
                          parts[k].doing,
                          parts[k].schedule->tokens,
                          window_of(chosen.run, chosen.timeline.parts[k]),
                          {},
                          {}});
    if (parts[k].doing == Doing::update) out.phases.back().tokens = 0;
  }
  for (std::size_t k = 0; k < switches.size(); ++k) {
    out.buffers = std::max(out.buffers, switches[k].peak());
    out.switches.push_back({std::move(switches[k]),
                            window_of(chosen.run, chosen.timeline.switches[k]),
                            {}});
  }
  add_alone(apart, out);
  count_work(plan, parts, out);
  count_memory(plan, parts, options.whole_masters, out);
  if (options.slices) out.slices = slices_of(chosen);
  return out;
}

}  // namespace

Result<StepGraph> step_graph(const strategy::Plan& plan,
                             std::span<const std::size_t> order,
                             std::span<const schedule::Schedule> schedules,
                             const sim::Network& network,
                             const profiles::CostModel& costs,
                             const StepOptions& options) {
  check(!order.empty() && order.size() == schedules.size(),
        "a schedule for each phase");
  std::vector<std::size_t> listed{order.back()};
  listed.insert(listed.end(), order.begin(), order.end() - 1);
  StepGraph out;
  TRY(out.switches, reshard::phase_switches(plan, listed, options.switching));
  const Pricing by{plan.cluster, network, costs, options};
  for (std::size_t k = 0; k < order.size(); ++k) {
    const Doing doing = k + 1 == order.size() ? Doing::all : Doing::gradients;
    out.parts.push_back(part_of(schedules[k], order[k], doing, by));
  }
  return out;
}

Result<StepGraph> bridged_graph(const strategy::Plan& plan, std::size_t states,
                                std::size_t phase,
                                const schedule::Schedule& states_schedule,
                                const schedule::Schedule& schedule,
                                const sim::Network& network,
                                const profiles::CostModel& costs,
                                const StepOptions& options) {
  StepGraph out;
  TRY(out.switches, reshard::bridges(plan, states, phase, options.switching));
  const Pricing by{plan.cluster, network, costs, options};
  out.parts.push_back(part_of(schedule, phase, Doing::gradients, by));
  out.parts.push_back(part_of(states_schedule, states, Doing::update, by));
  return out;
}

Result<StepTimes> perform_step(const strategy::Plan& plan,
                               std::span<const std::size_t> order,
                               std::span<const schedule::Schedule> schedules,
                               const profiles::CostModel& costs,
                               const StepOptions& options) {
  const sim::Network network(plan.cluster, costs);
  TRY(StepGraph graph,
      step_graph(plan, order, schedules, network, costs, options));
  return perform_graph(plan, std::move(graph), network, options);
}

Result<StepTimes> perform_bridged_step(
    const strategy::Plan& plan, std::size_t states, std::size_t phase,
    const schedule::Schedule& states_schedule,
    const schedule::Schedule& schedule, const profiles::CostModel& costs,
    const StepOptions& options) {
  const sim::Network network(plan.cluster, costs);
  TRY(StepGraph graph, bridged_graph(plan, states, phase, states_schedule,
                                     schedule, network, costs, options));
  return perform_graph(plan, std::move(graph), network, options);
}

}  // namespace troupe::runs
