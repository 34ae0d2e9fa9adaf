#include "cli/virtual_clock.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/file.h"
#include "base/text.h"
#include "cli/phase_switches.h"
#include "cli/simulation.h"
#include "emu/virtual_prices.h"

namespace troupe::cli {
namespace {

/// As simulate plans switches.
struct Settings {
  reshard::Rates rates;
  reshard::PlanCache cache{home_root() / "plans"};

  explicit Settings(const VirtualJob& job)
      : rates(reshard::rates_of(job.plan->cluster, *job.costs)) {}
  runs::StepOptions options(const VirtualJob& job) const {
    runs::StepOptions out;
    out.switching.options.bucket = job.switch_memory;
    out.host_per_operator = job.host_per_operator;
    out.switching.cache = &cache;
    out.switching.rates = &rates;
    out.disturbance = job.disturbance ? &*job.disturbance : nullptr;
    return out;
  }
};

Result<sim::Run> performed(const VirtualJob& job,
                           const runs::StepTimeline& timeline,
                           const sim::Activities& activities) {
  return sim::perform_timed(timeline.schedule, timeline.durations, activities,
                            job.network->links());
}

Result<SimulatedStep> simulated(const VirtualJob& job, runs::StepGraph graph) {
  const auto* const disturbance = job.disturbance ? &*job.disturbance : nullptr;
  const auto timeline = [&](runs::Waiting waiting) {
    return runs::step_timeline(graph.parts, graph.switches, job.plan->cluster,
                               *job.network, {waiting, disturbance});
  };
  SimulatedStep out;
  out.timeline = timeline(runs::Waiting::overlapped);
  TRY(out.run, performed(job, out.timeline, out.timeline.activities));
  TRY(out.alone,
      performed(job, out.timeline, sim::uncontended(out.timeline.activities)));
  out.step = out.run.step;
  if (!graph.switches.empty()) {
    const auto apart = timeline(runs::Waiting::apart);
    TRY(const sim::Run run, performed(job, apart, apart.activities));
    out.step = std::min(out.step, run.step);
  }
  out.graph = std::move(graph);
  return out;
}

Result<void> simulate_steps(VirtualJob& job) {
  const Settings settings(job);
  const runs::StepOptions options = settings.options(job);
  const strategy::Plan& plan = *job.plan;
  for (std::size_t k = 0; k < job.phases.size() && job.bridged; ++k) {
    TRY(runs::StepGraph graph,
        runs::bridged_graph(plan, job.phases[0], job.phases[k],
                            job.schedules[0], job.schedules[k], *job.network,
                            *job.costs, options));
    TRY(SimulatedStep step, simulated(job, std::move(graph)));
    job.steps.push_back(std::move(step));
  }
  if (job.bridged) return {};
  // The first phase runs last; its schedule is known by place.
  std::vector<std::size_t> order(job.phases.size());
  for (std::size_t k = 0; k < order.size(); ++k) order[k] = k;
  order = reshard::execution_order(order);
  std::vector<std::size_t> phases;
  std::vector<schedule::Schedule> schedules;
  for (const std::size_t k : order) {
    phases.push_back(job.phases[k]);
    schedules.push_back(job.schedules[k]);
  }
  TRY(runs::StepGraph graph,
      runs::step_graph(plan, phases, schedules, *job.network, *job.costs,
                       options));
  for (std::size_t k = 0; k < order.size(); ++k) {
    graph.parts[k].schedule = &job.schedules[order[k]];
  }
  TRY(SimulatedStep step, simulated(job, std::move(graph)));
  job.steps.push_back(std::move(step));
  return {};
}

/// Prices of one phase, with its deviations.
exec::Prices prices_of(VirtualJob& job, std::size_t place) {
  const schedule::Schedule& s = job.schedules[place];
  const auto phase = static_cast<std::int32_t>(job.phases[place]);
  sim::Activities activities = sim::activities_of(s, *job.network);
  const auto* const by = job.disturbance ? &*job.disturbance : nullptr;
  if (by != nullptr) sim::disturb(activities, *by, phase);
  return emu::virtual_prices(s, *job.prices[place], activities, {by, phase});
}

/// What a task of the step is, in words.
std::string name_of_task(const VirtualJob& job, const SimulatedStep& step,
                         schedule::TaskId id) {
  const schedule::Task& task = step.timeline.schedule.tasks[id.at()];
  std::string out(schedule::name_of(task.kind));
  if (task.micro_batch >= 0) {
    out += fmt::format(" of micro-batch {}", task.micro_batch);
  }
  for (std::size_t k = 0; k < step.timeline.tasks_of.size(); ++k) {
    const auto& tasks = step.timeline.tasks_of[k];
    const auto it = std::ranges::find(tasks, id);
    if (it == tasks.end()) continue;
    const runs::StepPart& part = step.graph.parts[k];
    const auto& name = job.plan->strategy.phases[part.phase].name;
    if (!name.empty()) out += fmt::format(", phase {}", excerpt(name));
    const schedule::Task& own =
        part.schedule->tasks[static_cast<std::size_t>(it - tasks.begin())];
    if (!own.stage) return out;
    const schedule::Stage& stage = part.schedule->stage(own.stage);
    return out +
           fmt::format(", pipeline {} stage {}", stage.pipeline, stage.index);
  }
  return out;
}

}  // namespace

bool bridged(const strategy::Plan& plan,
             const std::vector<std::size_t>& phases) {
  return phases.size() > 1 &&
         together(plan.strategy, phases) == Together::alternatives;
}

Result<std::unique_ptr<VirtualJob>> virtual_job(
    const strategy::Plan& plan, const std::vector<std::size_t>& phases,
    const VirtualOptions& options) {
  auto job = std::make_unique<VirtualJob>();
  job->plan = &plan;
  job->phases = phases;
  job->disturbance = options.disturbance;
  job->host_per_operator = options.host_per_operator;
  job->switch_memory = options.switch_memory.v > 0
                           ? options.switch_memory
                           : plan.strategy.switch_memory;
  job->bridged = bridged(plan, phases);
  TRY(job->costs, load_costs(options.profiles, plan.cluster));
  job->network = std::make_unique<sim::Network>(plan.cluster, *job->costs);
  for (const std::size_t phase : phases) {
    TRY(schedule::Schedule lowered, lower_phase(plan, phase));
    job->schedules.push_back(std::move(lowered));
  }
  for (std::size_t k = 0; k < phases.size(); ++k) {
    job->prices.push_back(std::make_unique<sim::PriceList>(
        job->schedules[k], plan.cluster, *job->network, *job->costs,
        job->host_per_operator));
    job->clock.phases.push_back(prices_of(*job, k));
  }
  TRY_DO(simulate_steps(*job));
  for (const SimulatedStep& step : job->steps) {
    job->clock.steps.push_back(emu::virtual_step(step.timeline));
  }
  return job;
}

Result<VirtualTransition> virtual_transition(
    const VirtualJob& from, const VirtualJob& to,
    std::span<const clusters::DeviceId> lost) {
  const strategy::Plan& a = *from.plan;
  const strategy::Plan& b = *to.plan;
  const strategy::Layouts before(a.strategy, a.strategy.phases[from.phases[0]],
                                 a.model);
  const strategy::Layouts after(b.strategy, b.strategy.phases[to.phases[0]],
                                b.model);
  auto changes = reshard::state_changes(before, after, b.model);
  for (reshard::TensorChange& change : changes) {
    if (lost.empty()) break;
    auto held =
        reshard::layout_of(change.source, change.shape, reshard::kSource);
    std::erase_if(held, [&](const reshard::Held& h) {
      return std::ranges::find(lost, h.device) != lost.end();
    });
    change.held = std::make_shared<const reshard::Layout>(std::move(held));
  }
  const Settings settings(to);
  const runs::StepOptions options = settings.options(to);
  const reshard::Routes routes(b.cluster, settings.rates);
  TRY(reshard::SwitchPlan plan,
      reshard::plan_switch(changes, routes, options.switching.options));
  VirtualTransition out;
  out.moved = plan.moved;
  reshard::PhaseSwitch change;
  change.states = {std::move(plan), {}, {}};
  const runs::StepTimeline timeline =
      runs::switch_timeline(change, to.schedules[0], b.cluster, *to.network,
                            {runs::Waiting::overlapped, options.disturbance});
  out.clock = emu::virtual_step(timeline);
  TRY(const sim::Run shared, performed(to, timeline, timeline.activities));
  TRY(const sim::Run alone,
      performed(to, timeline, sim::uncontended(timeline.activities)));
  out.simulated = shared.step;
  out.alone = alone.step;
  return out;
}

std::string first_difference(const VirtualJob& job, const SimulatedStep& step,
                             const sim::Run& a, const sim::Run& b) {
  std::size_t first = a.start.size();
  for (std::size_t t = 0; t < a.start.size(); ++t) {
    if (a.start[t] == b.start[t] && a.end[t] == b.end[t]) continue;
    if (first == a.start.size() ||
        std::pair(a.start[t], a.end[t]) <
            std::pair(a.start[first], a.end[first])) {
      first = t;
    }
  }
  if (first == a.start.size()) return {};
  const auto span = [&](const sim::Run& run) {
    return fmt::format("from {} to {} ps", run.start[first].v,
                       run.end[first].v);
  };
  return fmt::format("{}: {} and {}",
                     name_of_task(job, step, make_id<schedule::TaskId>(first)),
                     span(a), span(b));
}

}  // namespace troupe::cli
