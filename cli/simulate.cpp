// troupe simulate: the main job. Reads a strategy, simulates its phases,
// prints the answer, keeps it in the store.
#include "cli/simulate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <memory>

#include "base/file.h"
#include "base/progress.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/disturbance.h"
#include "cli/options.h"
#include "cli/phase_switches.h"
#include "cli/say.h"
#include "cli/simulation.h"
#include "cli/sweep.h"
#include "cli/virtual_clock.h"
#include "cli/whole_step.h"
#include "results/report.h"
#include "results/store.h"
#include "results/table.h"

namespace troupe::cli {
namespace {

constexpr double kReserveGib = 1.0;

struct SimulateOptions {
  StrategyOptions source;
  std::string profiles, results, report, trace, phase, detail = "tasks";
  std::string sweep, sweep_out, keep;
  double reserve_gib = kReserveGib, host_us = 0.0;
  bool json = false, no_fold = false, no_store = false, progress = false;
  std::uint64_t switch_memory = 0;
  bool no_plan_cache = false, uncontended = false;
  DisturbanceOptions disturbance;
};

/// Refuses "nan", which every comparison of a range lets pass.
std::string finite_number(const std::string& text) {
  return std::isfinite(std::strtod(text.c_str(), nullptr))
             ? std::string()
             : text + " is not a finite number";
}

SimulationOptions simulation_options(
    const SimulateOptions& o,
    const std::optional<schedule::Disturbance>& disturbance = {}) {
  SimulationOptions out;
  out.operators = o.detail == "operators";
  out.fold = !o.no_fold;
  out.uncontended = o.uncontended;
  out.disturbance = disturbance ? &*disturbance : nullptr;
  out.host_per_operator = seconds(o.host_us * 1e-6);
  out.reserve = {static_cast<std::int64_t>(o.reserve_gib *
                                           static_cast<double>(kReserve.v))};
  return out;
}

/// The command as it can be given again.
std::vector<std::string> command_of(const SimulateOptions& o) {
  std::vector<std::string> out{"troupe", "simulate", o.source.strategy};
  const auto add = [&](const char* flag, const std::string& value) {
    if (!value.empty()) out.insert(out.end(), {flag, value});
  };
  add("--from", o.source.from);
  if (o.source.case_index >= 0) {
    add("--case", std::to_string(o.source.case_index));
  }
  add("--model", o.source.model);
  add("--cluster", o.source.cluster);
  add("--hostfile", o.source.hostfile);
  add("--kind", o.source.kind);
  add("--network", o.source.network);
  for (const std::string& s : o.source.set) add("--set", s);
  add("--profiles", o.profiles);
  add("--phase", o.phase);
  if (o.detail != "tasks") add("--detail", o.detail);
  if (o.no_fold) out.emplace_back("--no-fold");
  if (o.uncontended) out.emplace_back("--uncontended");
  append(o.disturbance, out);
  if (o.reserve_gib != kReserveGib) {
    add("--reserve-gib", fmt::format("{}", o.reserve_gib));
  }
  if (o.switch_memory != 0) {
    add("--switch-memory", std::to_string(o.switch_memory));
  }
  if (o.host_us != 0) {
    add("--host-us-per-operator", fmt::format("{}", o.host_us));
  }
  return out;
}

/// "report.html" for one phase, "report.PHASE.html" for several.
std::string file_for(const std::string& path, const std::string& phase,
                     bool several) {
  if (!several || path.empty()) return path;
  const auto slash = path.rfind('/');
  const auto dot = path.find('.', slash == std::string::npos ? 0 : slash + 1);
  const std::string stem = path.substr(0, dot);
  std::string word = phase;
  std::replace(word.begin(), word.end(), '/', '-');
  return stem + "." + word + (dot == std::string::npos ? "" : path.substr(dot));
}

/// One file cannot hold both; a device takes anything.
Result<void> check_different(const char* a, const std::string& path,
                             const char* b, const std::string& other) {
  if (path.empty() || path != other || path.starts_with("/dev/")) return {};
  return fail(Fault::input,
              fmt::format("{} and {} name the same file {}", a, b, path));
}

/// Before the work: that its files can be written.
Result<void> check_outputs(const SimulateOptions& o, const strategy::Plan& plan,
                           const std::vector<std::size_t>& phases) {
  TRY_DO(check_different("--report", o.report, "--trace", o.trace));
  for (const std::string& path : {o.report, o.trace}) {
    std::error_code ignored;
    if (phases.size() > 1 && (path.starts_with("/dev/") ||
                              std::filesystem::is_other(path, ignored))) {
      return fail(Fault::input,
                  fmt::format("{}: a pipe or device takes one phase, the "
                              "strategy has {}; choose one with --phase",
                              path, phases.size()));
    }
    for (const std::size_t p : phases) {
      TRY_DO(check_output(
          file_for(path, plan.strategy.phases[p].name, phases.size() > 1)));
    }
  }
  return {};
}

/// Of the command, else of the strategy.
Bytes switch_memory(const SimulateOptions& o, const strategy::Strategy& s) {
  return o.switch_memory > 0 ? Bytes{static_cast<std::int64_t>(o.switch_memory)}
                             : s.switch_memory;
}

std::filesystem::path store_path(const SimulateOptions& o) {
  return o.results.empty() ? home_root() / "results.db"
                           : std::filesystem::path(o.results);
}

/// Before the work: that a run can be kept. Makes nothing.
Result<void> check_store(const SimulateOptions& o) {
  if (o.no_store) return {};
  const std::filesystem::path path = store_path(o);
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return {};
  if (!std::filesystem::is_regular_file(path, ignored)) {
    return fail(Fault::io,
                fmt::format("run store {} is no regular file; use another path",
                            path.string()));
  }
  TRY(const auto store, results::Store::open(path));
  return {};
}

/// A step of all phases, with its tasks and operators.
struct WholeStep {
  results::RunResult run;
  results::Timeline timeline;
};

/// With --detail operators: what `compare` looks at event by event.
Result<std::vector<WholeStep>> whole_steps(
    const SimulateOptions& o, const strategy::Plan& plan,
    const std::vector<std::size_t>& phases,
    const std::optional<schedule::Disturbance>& disturbance) {
  std::vector<WholeStep> out;
  if (o.no_store || o.detail != "operators") return out;
  const SimulationOptions options = simulation_options(o);
  TRY(const auto job,
      virtual_job(plan, phases,
                  {o.profiles, disturbance, options.host_per_operator,
                   switch_memory(o, plan.strategy)}));
  for (const SimulatedStep& step : job->steps) {
    const sim::Run& run = o.uncontended ? step.alone : step.run;
    out.push_back(
        {whole_run(*job, step, run), simulated_timeline(*job, step, run)});
    out.back().run.command = command_of(o);
  }
  return out;
}

Result<void> keep(const SimulateOptions& o,
                  std::vector<results::RunResult>& runs,
                  std::span<WholeStep> steps) {
  if (o.no_store) return {};
  TRY(results::Store store, results::Store::open(store_path(o)));
  for (results::RunResult& run : runs) {
    const bool only = runs.size() == 1 && !steps.empty();
    TRY_DO(store.add(run, only ? steps[0].timeline : results::Timeline{}));
  }
  for (WholeStep& step : steps) {
    if (runs.size() > 1) TRY_DO(store.add(step.run, step.timeline));
  }
  return {};
}

void print(const SimulateOptions& o,
           const std::vector<results::RunResult>& runs, const Json& switches) {
  if (!o.json) {
    for (const auto& run : runs) {
      say("{}\n", results::to_table(run));
    }
    print_switches(switches);
    return;
  }
  Json out = results::to_json(runs.front());
  if (runs.size() > 1) {
    Json phases = Json::array();
    for (const auto& run : runs) phases.push_back(results::to_json(run));
    out["phases"] = std::move(phases);
    out.update(switches);
  }
  say("{}\n", to_text(out));
}

Result<int> simulate_once(const SimulateOptions& o) {
  TRY(const strategy::Plan plan, load(o.source));
  TRY(const auto phases, choose_phases(plan.strategy, o.phase));
  TRY_DO(check_outputs(o, plan, phases));
  TRY_DO(check_store(o));
  TRY(const auto costs, load_costs(o.profiles, plan.cluster));
  TRY(const auto disturbance, disturbance_of(o.disturbance, plan.cluster));
  std::vector<results::RunResult> runs;
  Progress progress("phases simulated",
                    static_cast<std::int64_t>(phases.size()), o.progress);
  for (const std::size_t p : phases) {
    if (interrupted()) return fail(Fault::interrupted, "interrupted");
    const std::string& name = plan.strategy.phases[p].name;
    const bool several = phases.size() > 1;
    SimulationOptions options = simulation_options(o, disturbance);
    options.trace = file_for(o.trace, name, several);
    TRY(results::RunResult run, simulate_phase(plan, p, *costs, options));
    run.command = command_of(o);
    runs.push_back(std::move(run));
    progress.update(static_cast<std::int64_t>(runs.size()), name);
  }
  TRY(std::vector<WholeStep> steps, whole_steps(o, plan, phases, disturbance));
  TRY_DO(keep(o, runs, steps));
  for (const auto& run : runs) {
    if (o.report.empty()) break;
    TRY_DO(results::write_report(file_for(o.report, run.phase, runs.size() > 1),
                                 run));
  }
  const reshard::PlanCache cache(home_root() / "plans");
  TRY(const Json switches,
      switches_json(plan, phases,
                    {*costs, switch_memory(o, plan.strategy),
                     simulation_options(o).host_per_operator,
                     o.no_plan_cache ? nullptr : &cache,
                     file_for(o.trace, "whole-step", true),
                     disturbance ? &*disturbance : nullptr}));
  print(o, runs, switches);
  return 0;
}

/// What a sweep cannot do is refused, not passed over.
Result<void> check_sweep_options(const SimulateOptions& o) {
  if (!o.sweep.empty() && o.disturbance.any()) {
    return fail(Fault::input,
                "--noise and --slow are of one step, not of a sweep");
  }
  if (o.sweep.empty()) {
    if (o.sweep_out.empty() && o.keep.empty()) return {};
    return fail(Fault::input,
                fmt::format("{} is of a sweep; give --sweep field=value,...",
                            o.keep.empty() ? "--sweep-out" : "--keep"));
  }
  if (!o.trace.empty()) {
    return fail(Fault::input,
                "--trace: a sweep has no trace; trace one of its points with "
                "--set field=value");
  }
  if (!o.results.empty()) {
    return fail(Fault::input,
                "--results: a sweep keeps no runs; write it with --sweep-out");
  }
  if (!o.sweep_out.empty()) TRY_DO(results::check_sweep_name(o.sweep_out));
  TRY_DO(check_output(o.sweep_out));
  TRY_DO(check_different("--report", o.report, "--sweep-out", o.sweep_out));
  return check_output(o.report);
}

Result<int> simulate_sweep(const SimulateOptions& o) {
  TRY(const auto field_values, parse_sweep(o.sweep));
  const auto& [field, values] = field_values;
  TRY(const results::Sweep done,
      sweep(o.source, field, values,
            o.keep == "step" ? KeepWork::per_step : KeepWork::per_pipeline,
            o.profiles, simulation_options(o), o.phase));
  if (!o.sweep_out.empty()) {
    TRY_DO(results::write_sweep(o.sweep_out, done));
  }
  if (!o.report.empty()) {
    TRY_DO(write_file(o.report, results::sweep_html(done)));
  }
  if (o.json) {
    say("{}\n", to_text(results::sweep_json(done)));
  } else {
    say("{}\n", results::sweep_table(done));
  }
  for (const auto& point : done.points) {
    if (point.error.empty()) return 0;
  }
  return fail(Fault::input, fmt::format("no point of the sweep could be "
                                        "simulated; first: {}",
                                        done.points.front().error));
}

void add_options(CLI::App& command, SimulateOptions& o) {
  add_strategy_options(command, o.source);
  command.add_option("--profiles", o.profiles, "profile database");
  command.add_option("--results", o.results, "run store");
  command.add_flag("--no-store", o.no_store, "do not keep the run");
  command.add_flag("--json", o.json, "print one JSON object");
  command.add_option("--report", o.report,
                     "write an HTML report (of a sweep: its charts)");
  command.add_option("--trace", o.trace,
                     "write a Chrome trace for Perfetto (.json or .json.gz)");
  command.add_option("--phase", o.phase, "simulate only this phase");
  command
      .add_option("--detail", o.detail,
                  "tasks, or operators: every operator on every rank")
      ->check(CLI::IsMember({"tasks", "operators"}));
  command.add_flag("--no-fold", o.no_fold,
                   "simulate equal pipelines one by one");
  command
      .add_option("--reserve-gib", o.reserve_gib,
                  "memory of a device that no task may use, GiB")
      ->check(CLI::Range(0.0, 1000.0) & CLI::Validator(finite_number, "", ""));
  command
      .add_option("--host-us-per-operator", o.host_us,
                  "time the host needs to launch an operator, microseconds")
      ->check(CLI::Range(0.0, 1e6) & CLI::Validator(finite_number, "", ""));
  command
      .add_option("--switch-memory", o.switch_memory,
                  "most that a switch packs and receives on a device, such "
                  "as 256MiB (the strategy's switch_memory; 0: any)")
      ->transform(CLI::AsSizeValue(true))
      ->check(CLI::Range(std::uint64_t{0}, std::uint64_t{1} << 50));
  command.add_flag("--no-plan-cache", o.no_plan_cache,
                   "plan switches anew, keep no plans");
  command.add_flag("--uncontended", o.uncontended,
                   "every communication as if it had its links to itself, as "
                   "the virtual clock of emulate");
  add_disturbance_options(command, o.disturbance);
  command.add_flag("--progress", o.progress,
                   "print progress also without a terminal");
  command.add_option("--sweep", o.sweep,
                     "simulate several values of a field: "
                     "gpus=64,128,...,1024");
  command.add_option("--sweep-out", o.sweep_out,
                     "write the sweep (.csv, .json, .svg or .html)");
  command
      .add_option("--keep", o.keep,
                  "what a gpus sweep keeps: the work of a pipeline (weak "
                  "scaling) or of the step (strong scaling)")
      ->check(CLI::IsMember({"pipeline", "step"}));
}

/// A file of the folder in which the command was given, else the text itself:
/// a shipped name, a short form.
void begin_in(const std::string& folder, std::string& text) {
  std::error_code ignored;
  const std::filesystem::path path = std::filesystem::path(folder) / text;
  if (folder.empty() || text.empty()) return;
  if (std::filesystem::is_regular_file(path, ignored)) text = path.string();
}

}  // namespace

Result<results::RunResult> simulate_again(
    const std::vector<std::string>& command, const std::string& phase,
    const std::string& folder) {
  if (command.size() < 3 || command[0] != "troupe" ||
      command[1] != "simulate") {
    return fail(Fault::input, "only runs of troupe simulate are repeated");
  }
  CLI::App app;
  SimulateOptions o;
  add_options(app, o);
  try {
    // The parser takes the words from the back.
    app.parse(std::vector<std::string>(command.rbegin(), command.rend() - 2));
  } catch (const CLI::ParseError& e) {
    return fail(Fault::input,
                fmt::format("the kept command cannot be repeated: {}",
                            excerpt(e.what(), 300)));
  }
  for (std::string* path :
       {&o.source.strategy, &o.source.model, &o.source.cluster,
        &o.source.hostfile, &o.profiles}) {
    begin_in(folder, *path);
  }
  TRY(const strategy::Plan plan, load(o.source));
  const std::string wanted =
      plan.strategy.phases.size() > 1 && o.phase.empty() ? phase : o.phase;
  TRY(const auto phases, choose_phases(plan.strategy, wanted));
  TRY(const auto costs, load_costs(o.profiles, plan.cluster));
  TRY(const auto disturbance, disturbance_of(o.disturbance, plan.cluster));
  return simulate_phase(plan, phases.front(), *costs,
                        simulation_options(o, disturbance));
}

void add_simulate(Commands& commands) {
  auto options = std::make_shared<SimulateOptions>();
  CLI::App* command =
      commands.add("simulate", "simulate one training step of a strategy");
  add_options(*command, *options);
  commands.run(command, [options]() -> Result<int> {
    TRY_DO(check_sweep_options(*options));
    return options->sweep.empty() ? simulate_once(*options)
                                  : simulate_sweep(*options);
  });
}

}  // namespace troupe::cli
