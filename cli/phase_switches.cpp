#include "cli/phase_switches.h"

#include <algorithm>
#include <array>

#include "base/text.h"
#include "cli/say.h"
#include "cli/simulation.h"
#include "results/trace.h"
#include "runs/step.h"

namespace troupe::cli {
namespace {

using strategy::PhaseRule;

Json part_json(const reshard::CachedPlan& cached) {
  const reshard::SwitchPlan& plan = cached.plan;
  std::int64_t messages = 0;
  for (const reshard::Bucket& bucket : plan.buckets) {
    messages += bucket.messages;
  }
  return {{"bytes", plan.moved.v},
          {"messages", messages},
          {"buckets", plan.buckets.size()},
          {"peak_bytes", plan.peak.v},
          {"predicted_s", to_seconds(plan.predicted)},
          {"hash", cached.key},
          {"plan", name_of(cached.origin)}};
}

Json switch_json(const reshard::PhaseSwitch& one, const strategy::Strategy& s) {
  Json out{{"from", s.phases[one.from].name},
           {"to", s.phases[one.to].name},
           {"after", name_of(one.before)},
           {"predicted_s", to_seconds(one.predicted())}};
  if (one.parameters) out["parameters"] = part_json(*one.parameters);
  if (one.gradients) out["gradients"] = part_json(*one.gradients);
  if (one.states) out["states"] = part_json(*one.states);
  return out;
}

std::string_view name_of(runs::Doing doing) {
  switch (doing) {
    case runs::Doing::gradients:
      return "gradients";
    case runs::Doing::all:
      return "gradients and update";
    case runs::Doing::update:
      return "update";
  }
  return "";
}

Json window_json(const runs::Window& window, Time by_itself) {
  return {{"start_s", to_seconds(window.start)},
          {"end_s", to_seconds(window.end)},
          {"by_itself_s", to_seconds(by_itself)}};
}

Json times_json(const runs::StepTimes& times, const strategy::Strategy& s,
                Bytes memory) {
  Json phases = Json::array();
  for (const runs::PhaseTime& phase : times.phases) {
    Json one = window_json(phase.window, phase.by_itself);
    one["phase"] = phase.name;
    one["does"] = name_of(phase.doing);
    one["tokens"] = phase.tokens;
    phases.push_back(std::move(one));
  }
  Json switches = Json::array();
  for (const runs::SwitchTime& change : times.switches) {
    Json one = window_json(change.window, change.by_itself);
    one.update(switch_json(change.plans, s));
    switches.push_back(std::move(one));
  }
  return {{"step_time_s", to_seconds(times.step)},
          {"overlapped", times.overlapped},
          {"apart_s", to_seconds(times.apart)},
          {"uncontended_s", to_seconds(times.uncontended)},
          {"without_switches_s", to_seconds(times.without)},
          {"in_switches_s", to_seconds(times.in_switches())},
          {"mfu", times.mfu},
          {"tokens", times.tokens},
          {"switch_buffers_bytes", times.buffers.v},
          {"switch_memory_bytes", memory.v},
          {"phases", std::move(phases)},
          {"switches", std::move(switches)}};
}

runs::StepOptions step_options(const SwitchView& view,
                               const reshard::Rates& rates) {
  runs::StepOptions options;
  options.switching.options.bucket = view.memory;
  options.switching.cache = view.cache;
  options.switching.rates = &rates;
  options.host_per_operator = view.host_per_operator;
  options.disturbance = view.disturbance;
  return options;
}

/// A process for each device, with what it computes and what it switches.
Result<void> write_step_trace(const std::filesystem::path& path,
                              const strategy::Strategy& s,
                              const runs::StepTimes& times) {
  TRY(auto trace, results::TraceWriter::open(path));
  clusters::DeviceId last;
  for (const runs::StepSlice& slice : times.slices) {
    if (slice.device != last) {
      last = slice.device;
      trace.name_process(last.v, fmt::format("device {}", last.v));
      trace.name_track(last.v, 0, "compute");
      trace.name_track(last.v, 1, "switch");
    }
    std::string name;
    if (slice.switches) {
      const reshard::PhaseSwitch& plans = times.switches[slice.place].plans;
      name = "switch to " + s.phases[plans.to].name;
    } else {
      name = fmt::format("{} {}", schedule::name_of(slice.kind),
                         times.phases[slice.place].name);
    }
    const std::array<results::TraceArg, 1> args{
        results::TraceArg{"micro_batch", std::int64_t{slice.micro_batch}}};
    trace.add({slice.device.v, slice.switches ? 1 : 0, name,
               schedule::name_of(slice.kind), slice.window.start,
               slice.window.end, args});
  }
  return trace.finish();
}

Result<Json> one_step(const strategy::Plan& plan,
                      std::span<const std::size_t> phases,
                      const SwitchView& view, const reshard::Rates& rates) {
  const auto order = reshard::execution_order(phases);
  std::vector<schedule::Schedule> schedules;
  for (const std::size_t p : order) {
    TRY(auto lowered, lower_phase(plan, p));
    schedules.push_back(std::move(lowered));
  }
  runs::StepOptions options = step_options(view, rates);
  options.slices = !view.trace.empty();
  TRY(const runs::StepTimes times,
      runs::perform_step(plan, order, schedules, view.costs, options));
  if (options.slices) {
    TRY_DO(write_step_trace(view.trace, plan.strategy, times));
  }
  Json step = times_json(times, plan.strategy, view.memory);
  Time sum;
  for (const runs::SwitchTime& one : times.switches) {
    sum += one.plans.predicted();
  }
  Json switches = step["switches"];
  return Json{{"switches", std::move(switches)},
              {"switches_s", to_seconds(sum)},
              {"full_step", std::move(step)}};
}

Result<Json> bridged_steps(const strategy::Plan& plan,
                           std::span<const std::size_t> phases,
                           const SwitchView& view,
                           const reshard::Rates& rates) {
  const std::size_t states = phases.front();
  TRY(const schedule::Schedule home, lower_phase(plan, states));
  Json list = Json::array();
  for (const std::size_t p : phases) {
    TRY(const schedule::Schedule lowered, lower_phase(plan, p));
    TRY(const runs::StepTimes times,
        runs::perform_bridged_step(plan, states, p, home, lowered, view.costs,
                                   step_options(view, rates)));
    Json one = times_json(times, plan.strategy, view.memory);
    one["phase"] = plan.strategy.phases[p].name;
    list.push_back(std::move(one));
  }
  return Json{{"states_in", plan.strategy.phases[states].name},
              {"bridges", std::move(list)}};
}

Result<Json> switched_runs(const strategy::Plan& plan,
                           std::span<const std::size_t> phases,
                           const SwitchView& view,
                           const reshard::Rates& rates) {
  const auto settings = step_options(view, rates).switching;
  const auto level = reshard::RunLevel::update;
  TRY(const auto moves, reshard::moves_between(level, level, false));
  Json list = Json::array();
  Time sum;
  for (std::size_t k = 1; k < phases.size(); ++k) {
    TRY(auto one,
        reshard::phase_switch(plan, phases[k - 1], phases[k], moves, settings));
    one.before = one.after = level;
    sum += one.predicted();
    list.push_back(switch_json(one, plan.strategy));
  }
  return Json{{"switches", std::move(list)}, {"switches_s", to_seconds(sum)}};
}

std::string bytes_of(const Json& one, const char* part) {
  return one.contains(part)
             ? human(Bytes{one[part]["bytes"].get<std::int64_t>()})
             : std::string("-");
}
std::string time_of(const Json& value) {
  return human(seconds(value.get<double>()));
}

void print_switch(const Json& one) {
  say("  {:<40}{:>12}{:>12}{:>12}{:>12}\n",
      one["from"].get<std::string>() + " to " + one["to"].get<std::string>(),
      bytes_of(one, "parameters"), bytes_of(one, "gradients"),
      bytes_of(one, "states"), time_of(one["predicted_s"]));
}

void print_step(const Json& step) {
  say("the whole step on one clock\n{:<42}{:>12}{:>12}{:>12}\n", "", "start",
      "end", "by itself");
  for (std::size_t k = 0; k < step["phases"].size(); ++k) {
    const auto line = [](const std::string& title, const Json& one) {
      say("  {:<40}{:>12}{:>12}{:>12}\n", title, time_of(one["start_s"]),
          time_of(one["end_s"]), time_of(one["by_itself_s"]));
    };
    if (k < step["switches"].size()) {
      const Json& one = step["switches"][k];
      line("switch to " + one["to"].get<std::string>(), one);
    }
    const Json& phase = step["phases"][k];
    line(phase["phase"].get<std::string>() + ", " +
             phase["does"].get<std::string>(),
         phase);
  }
  say("  step {}, MFU {:.1f}%; {} of it in switches; switches apart {}\n",
      time_of(step["step_time_s"]), 100 * step["mfu"].get<double>(),
      time_of(step["in_switches_s"]), time_of(step["apart_s"]));
  say("  switches pack and receive up to {} on a device{}{}\n",
      human(Bytes{step["switch_buffers_bytes"].get<std::int64_t>()}),
      step["switch_memory_bytes"] == 0
          ? ""
          : " of " +
                human(Bytes{step["switch_memory_bytes"].get<std::int64_t>()}),
      step["overlapped"].get<bool>() ? ""
                                     : "; apart is shorter than overlapped");
}

void print_bridges(const Json& all) {
  say("steps with optimizer states in the layout of {}\n{:<34}{:>12}{:>12}"
      "{:>12}{:>12}{:>12}\n",
      all["states_in"].get<std::string>(), "", "parameters", "gradients",
      "bridges", "in step", "step");
  for (const Json& one : all["bridges"]) {
    const Json& to = one["switches"][0];
    const Json& back = one["switches"][1];
    say("  {:<32}{:>12}{:>12}{:>12}{:>12}{:>12}\n",
        one["phase"].get<std::string>(), bytes_of(to, "parameters"),
        bytes_of(back, "gradients"),
        human(seconds(to["by_itself_s"].get<double>() +
                      back["by_itself_s"].get<double>())),
        time_of(one["in_switches_s"]), time_of(one["step_time_s"]));
  }
}

}  // namespace

Together together(const strategy::Strategy& strategy,
                  std::span<const std::size_t> phases) {
  const auto all = [&](PhaseRule::Kind kind) {
    return std::ranges::all_of(phases, [&](std::size_t p) {
      return strategy.phases[p].rule.kind == kind;
    });
  };
  if (all(PhaseRule::Kind::seq_len)) return Together::one_step;
  if (all(PhaseRule::Kind::always)) return Together::alternatives;
  return Together::between_steps;
}

Result<Json> switches_json(const strategy::Plan& plan,
                           std::span<const std::size_t> phases,
                           const SwitchView& view) {
  if (phases.size() < 2) return Json::object();
  const reshard::Rates rates = reshard::rates_of(plan.cluster, view.costs);
  switch (together(plan.strategy, phases)) {
    case Together::one_step:
      return one_step(plan, phases, view, rates);
    case Together::alternatives:
      return bridged_steps(plan, phases, view, rates);
    case Together::between_steps:
      return switched_runs(plan, phases, view, rates);
  }
  return Json::object();
}

void print_switches(const Json& switches) {
  if (switches.contains("switches")) {
    say("switches\n{:<42}{:>12}{:>12}{:>12}{:>12}\n", "", "parameters",
        "gradients", "states", "predicted");
    for (const Json& one : switches["switches"]) print_switch(one);
    say("  {:<40}{:>48}\n", "together", time_of(switches["switches_s"]));
  }
  if (switches.contains("full_step")) print_step(switches["full_step"]);
  if (switches.contains("bridges")) print_bridges(switches);
}

}  // namespace troupe::cli
