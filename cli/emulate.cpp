// troupe emulate: trains with real numbers on CPU ranks or GPUs.
#include <fmt/format.h>

#include <memory>
#include <optional>

#include "base/file.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/disturbance.h"
#include "cli/emulated_trace.h"
#include "cli/emulation.h"
#include "cli/options.h"
#include "cli/say.h"
#include "emu/share.h"
#include "results/store.h"
#include "strategy/device_set.h"

namespace troupe::cli {
namespace {

struct EmulateOptions {
  StrategyOptions source;
  EmulationRequest request;
  std::vector<std::string> then, lose;
  std::string phase, precision, device = "cpu", clock;
  std::string results;
  bool json = false, no_store = false, mpi = false;
  emu::MpiOptions mpi_options;
  DisturbanceOptions disturbance;
};

void add_mpi_options(CLI::App& command, EmulateOptions& o) {
  auto* const mpi = command.add_flag(
      "--mpi", o.mpi, "This process is one rank of a job that mpirun started");
  command
      .add_option("--patience", o.mpi_options.patience_s,
                  "Seconds that a rank waits for another (default 60)")
      ->check(CLI::Range(1.0, 1e6))
      ->needs(mpi);
  command.add_option("--fault", o.request.fault,
                     "RANK:STEP:KIND, put into the run to see it end; KIND is "
                     "die, hang, size or hash");
}

void add_data_options(CLI::App& command, EmulateOptions& o) {
  command.add_option("--data", o.request.data.file,
                     "Text file, documents between empty lines");
  auto* const tokenizer = command.add_option(
      "--tokenizer", o.request.data.tokenizer,
      "SentencePiece .model or tokenizer.json (default: bytes)");
  command
      .add_option("--end-token", o.request.data.end_token,
                  "Token that ends documents (default: what the tokenizer "
                  "says)")
      ->needs(tokenizer);
}

void add_options(CLI::App& command, EmulateOptions& o) {
  add_strategy_options(command, o.source);
  command.add_option("--phase", o.phase,
                     "Only this phase; else every step runs all of them");
  command.add_option("--then", o.then,
                     "Strategies (of the same model and cluster) that follow, "
                     "--steps steps each");
  command.add_option("--lose", o.lose,
                     "Devices that are lost before each --then: 31, 24-30");
  command.add_flag("--shrink", o.request.shrink,
                   "A small model of the same structure");
  command
      .add_option("--steps", o.request.steps,
                  "Training steps of each strategy, or between events")
      ->check(CLI::Range(1, 10000));
  command.add_option("--seed", o.request.seed,
                     "Of initial parameters and data");
  command
      .add_option("--precision", o.precision,
                  "Arithmetic: fp64, fp32 or bf16 with fp32 sums (default "
                  "fp64, on GPUs fp32)")
      ->check(CLI::IsMember({"fp64", "fp32", "bf16"}));
  command.add_option("--device", o.device,
                     "cpu, or GPUs to which ranks are dealt in turn: cuda:0 "
                     "or cuda:0,cuda:1 (default cpu)");
  command.add_flag("--verify", o.request.verify,
                   "Compare every number with one device");
  command.add_option("--clock", o.clock, "virtual: time by the price list")
      ->check(CLI::IsMember({"virtual"}));
  command.add_option("--rate", o.request.rate, "Learning rate")
      ->check(CLI::PositiveNumber);
  command.add_option("--threads", o.request.threads, "Threads for the ranks")
      ->check(CLI::Range(1, 1024));
  command.add_option("--profiles", o.request.profiles,
                     "Profile database for the virtual clock");
  command.add_option("--save", o.request.save,
                     "Write a checkpoint (safetensors) after the last step");
  command.add_option("--load", o.request.load,
                     "Go on from a checkpoint, under any strategy");
  command.add_option("--trace", o.request.trace,
                     "Write a Chrome trace of the virtual clock");
  command.add_option("--results", o.results,
                     "Run store for the virtual clock's step");
  command.add_flag("--no-store", o.no_store, "Do not keep the run");
  command
      .add_option("--sleep", o.request.sleep,
                  "Ranks really wait for this share of the virtual time: 0.01")
      ->check(CLI::Range(1e-9, 1e6));
  add_data_options(command, o);
  add_disturbance_options(command, o.disturbance);
  add_mpi_options(command, o);
  command.add_flag("--json", o.json, "The answer as JSON");
}

Json verify_json(const emu::Deviation& d, double bound) {
  Json groups = Json::object();
  for (const auto& [group, value] : d.by_group) groups[group] = value;
  return {{"ok", d.largest() <= bound},
          {"bound", bound},
          {"max_relative_error",
           {{"gradients", d.gradients},
            {"parameters", d.parameters},
            {"loss", d.loss}}},
          {"by_group", groups},
          {"undetermined", d.undetermined}};
}

/// Every task of the last step, and every change of strategy.
bool agrees(const EmulationAnswer& a) {
  bool out = a.difference.empty() &&
             a.uncontended_step == a.emulation.virtual_steps.back();
  for (const SimulatedTransition& t : a.transitions) {
    out = out && t.alone == t.emulated;
  }
  return out;
}

/// What a step that sleeps should take.
double expected_s(const EmulationAnswer& a) {
  return a.sleep * to_seconds(a.emulation.virtual_steps.back());
}

Json seconds_json(const std::vector<Time>& times) {
  Json out = Json::array();
  for (const Time t : times) out.push_back(to_seconds(t));
  return out;
}

Json transitions_json(const EmulationAnswer& a) {
  Json out = Json::array();
  for (const SimulatedTransition& t : a.transitions) {
    out.push_back({{"virtual_s", to_seconds(t.emulated)},
                   {"uncontended_s", to_seconds(t.alone)},
                   {"simulated_s", to_seconds(t.shared)},
                   {"bytes", t.moved.v}});
  }
  return out;
}

void print_clock(const EmulationAnswer& a) {
  say("virtual step {:.12g} s, simulated without contention {:.12g} s{}\n",
      to_seconds(a.emulation.virtual_steps.back()),
      to_seconds(a.uncontended_step),
      agrees(a) ? ": every task equal" : ": NOT equal");
  if (!a.difference.empty()) {
    say("first difference (simulated, emulated): {}\n", a.difference);
  }
  say("simulated {:.12g} s{}\n", to_seconds(a.simulated_step),
      a.contended > 0
          ? fmt::format(" ({} flows shared a full link)", a.contended)
          : "");
  if (a.emulation.slept_s > 0) {
    say("slept: the last step took {:.6g} s, its virtual time x {:g} is {:.6g} "
        "s\n",
        a.emulation.slept_s, a.sleep, expected_s(a));
  }
  for (std::size_t i = 0; i < a.transitions.size(); ++i) {
    const SimulatedTransition& t = a.transitions[i];
    say("change of strategy {}: {} of states in {:.12g} s, simulated without "
        "contention {:.12g} s, with {:.12g} s\n",
        i + 1, human(t.moved), to_seconds(t.emulated), to_seconds(t.alone),
        to_seconds(t.shared));
  }
}

Json to_json(const EmulationAnswer& a) {
  Json out{{"strategy", a.strategy},
           {"model", a.model},
           {"ranks", a.emulation.ranks},
           {"precision", a.precision},
           {"steps", a.step_numbers},
           {"loss", a.emulation.loss},
           {"gradient_norm", a.emulation.gradient_norm},
           {"data", to_json(a.data)},
           {"warnings", a.data.warnings},
           {"memory_bytes", a.emulation.most_memory.v},
           {"memory_between_steps_bytes", a.emulation.between_steps.v},
           {"wall_time_s", a.wall_time_s},
           {"wall_steps_s", a.emulation.wall_steps_s},
           {"tokens_per_step", a.tokens},
           {"model_flops_per_step", a.model_flops.v}};
  if (a.emulation.deviation) {
    out["verify"] = verify_json(*a.emulation.deviation, a.bound);
  }
  if (a.virtual_clock) {
    out["virtual_step_time_s"] = to_seconds(a.emulation.virtual_steps.back());
    out["simulated_step_time_s"] = to_seconds(a.simulated_step);
    out["uncontended_step_time_s"] = to_seconds(a.uncontended_step);
    out["clock_agrees"] = agrees(a);
    if (!a.difference.empty()) out["clock_difference"] = a.difference;
    out["virtual_steps_s"] = seconds_json(a.emulation.virtual_steps);
    if (!a.transitions.empty()) out["transitions"] = transitions_json(a);
    if (a.emulation.slept_s > 0) {
      out["slept_s"] = a.emulation.slept_s;
      out["slept_expected_s"] = expected_s(a);
    }
    out["contended_flows"] = a.contended;
    if (a.run) out["run"] = a.run->id;
  }
  return out;
}

void print(const EmulationAnswer& a) {
  say("{} on {}: {} ranks, {}\n", a.model, a.strategy, a.emulation.ranks,
      a.precision);
  say("{}\n", to_line(a.data));
  for (std::size_t i = 0; i < a.emulation.loss.size(); ++i) {
    say("step {:<4} loss {:.9f}  gradient norm {:.6g}\n", a.step_numbers[i],
        a.emulation.loss[i], a.emulation.gradient_norm[i]);
  }
  if (a.emulation.deviation) {
    const emu::Deviation& d = *a.emulation.deviation;
    say("\nlargest relative deviation from one device (bound {:g})\n", a.bound);
    say("  gradients  {:.3g}\n  parameters {:.3g}\n  loss       {:.3g}\n",
        d.gradients, d.parameters, d.loss);
    for (const auto& [group, value] : d.by_group) {
      say("    {:<26} {:.3g}{}\n", group, value,
          d.undetermined.contains(group) ? "  (its gradient is rounding)" : "");
    }
    say("{}\n", d.largest() <= a.bound ? "equal" : "NOT equal");
  }
  if (a.virtual_clock) {
    print_clock(a);
  }
  say("wall time {:.2f} s, at most {:.1f} MiB in a rank, {:.1f} between "
      "steps\n",
      a.wall_time_s, static_cast<double>(a.emulation.most_memory.v) / (1 << 20),
      static_cast<double>(a.emulation.between_steps.v) / (1 << 20));
}

/// States can only move between strategies of one model on one cluster.
Result<void> check_same_job(const strategy::Plan& plan,
                            const strategy::Plan& other,
                            const std::string& name) {
  if (other.model == plan.model && other.cluster.name == plan.cluster.name) {
    return {};
  }
  return fail(Fault::input,
              fmt::format("--then {}: model {} on cluster {}; expected {} on "
                          "{} as in the first strategy",
                          name, other.model.name, other.cluster.name,
                          plan.model.name, plan.cluster.name));
}

/// The devices of "24-30"; the strategy that follows must do without them.
Result<std::vector<clusters::DeviceId>> lost_devices(
    const std::string& text, const strategy::Plan& next) {
  Findings findings;
  const strategy::DeviceSet set =
      strategy::parse_devices(text, "--lose", findings);
  if (!findings.ok()) return fail(findings.to_error());
  for (const clusters::DeviceId lost : set.devices) {
    if (lost.at() < next.cluster.devices.size()) continue;
    return fail(
        Fault::input,
        fmt::format("--lose {}: cluster {} has devices 0 to {}", text,
                    next.cluster.name, next.cluster.devices.size() - 1));
  }
  for (const strategy::Phase& phase : next.strategy.phases) {
    for (const clusters::DeviceId used : strategy::used_devices(phase)) {
      if (std::ranges::find(set.devices, used) == set.devices.end()) continue;
      return fail(Fault::input, fmt::format("--lose {}: {} uses device {}",
                                            text, next.strategy.name, used.v));
    }
  }
  return set.devices;
}

/// Keeps the step beside simulated ones, for `troupe compare`.
Result<void> keep(const EmulateOptions& o, EmulationAnswer& answer) {
  results::RunResult& run = *answer.run;
  run.command = {"emulate", o.source.strategy};
  append(o.disturbance, run.command);
  TRY(results::Store store,
      results::Store::open(o.results.empty()
                               ? home_root() / "results.db"
                               : std::filesystem::path(o.results)));
  TRY_DO(store.add(run, answer.timeline));
  return {};
}

/// A job with the plans that it reads.
struct Prepared {
  TraceCourse course;
  std::optional<EmulationJob> job;
};

constexpr std::string_view kLoadAdvice =
    "begin the strategy that follows from a checkpoint (--save, --load)";

/// Strategies one after the other, and what is lost between them.
Result<TraceCourse> course_of(const EmulateOptions& o) {
  TRY(strategy::Plan plan, load(o.source));
  TraceCourse out;
  Course& course = out.course;
  out.plans.push_back(std::make_unique<strategy::Plan>(std::move(plan)));
  const strategy::Plan& first = *out.plans[0];
  TRY(auto phases, choose_phases(first.strategy, o.phase));
  const auto add = [&](std::vector<std::size_t> chosen) -> runs::Act& {
    course.strategies.push_back({out.plans.back().get(), std::move(chosen)});
    runs::Act& act = course.acts.emplace_back();
    act.runs = static_cast<int>(course.acts.size()) - 1;
    act.title = first.strategy.name;
    act.cluster = first.cluster;
    act.rates = reshard::rates_of(first.cluster);
    return act;
  };
  add(std::move(phases));
  course.advice = kLoadAdvice;
  if (o.lose.size() > o.then.size()) {
    return fail(Fault::input, "--lose: give a --then for each");
  }
  for (std::size_t i = 0; i < o.then.size(); ++i) {
    const std::string& name = o.then[i];
    StrategyOptions next = o.source;
    next.strategy = name;
    TRY(strategy::Plan other, load(next));
    TRY_DO(check_same_job(first, other, name));
    out.plans.push_back(std::make_unique<strategy::Plan>(std::move(other)));
    TRY(auto all, choose_phases(out.plans.back()->strategy, ""));
    runs::Act& act = add(std::move(all));
    if (i >= o.lose.size()) continue;
    TRY(act.missing, lost_devices(o.lose[i], *out.plans.back()));
  }
  return out;
}

/// Options that say something of strategies, of which a trace has its own.
Result<void> check_trace_options(const EmulateOptions& o) {
  const std::pair<bool, const char*> given[] = {
      {!o.then.empty(), "--then"},
      {!o.lose.empty(), "--lose"},
      {!o.phase.empty(), "--phase"},
      {!o.clock.empty(), "--clock"},
      {!o.source.from.empty(), "--from"},
      {!o.source.model.empty(), "--model"},
      {!o.source.cluster.empty(), "--cluster"},
      {!o.source.hostfile.empty(), "--hostfile"}};
  for (const auto& [is, name] : given) {
    if (is) {
      return fail(Fault::input,
                  fmt::format("{} is for a strategy; {} is a trace, which says "
                              "itself what runs when",
                              name, o.source.strategy));
    }
  }
  return {};
}

/// Device and precision, which must suit each other.
Result<void> choose_device(EmulateOptions& o) {
  if (o.device != "cpu") {
    TRY(o.request.gpus, gpus_of(o.device));
  }
  const bool gpu = !o.request.gpus.empty();
  if (o.precision.empty()) o.precision = gpu ? "fp32" : "fp64";
  o.request.precision = *kernels::parse_dtype(o.precision);
  if (gpu && o.request.precision == kernels::DType::fp64) {
    return fail(Fault::input,
                "--precision fp64: GPUs have no bodies in fp64; use fp32 or "
                "bf16, or --device cpu");
  }
  if (gpu && o.mpi) {
    return fail(Fault::input,
                "--mpi: ranks of several processes run on the CPU; leave out "
                "--device");
  }
  return {};
}

Result<Prepared> prepare(EmulateOptions& o, emu::MpiSession* mpi) {
  Prepared out;
  if (runs::is_trace(o.source.strategy)) {
    TRY_DO(check_trace_options(o));
    TRY(out.course, load_course(o.source, o.request.profiles));
  } else {
    TRY(out.course, course_of(o));
  }
  if (mpi == nullptr || mpi->rank() == 0) print_warnings(*out.course.plans[0]);
  TRY_DO(choose_device(o));
  o.request.virtual_clock = !o.clock.empty();
  TRY(o.request.disturbance,
      disturbance_of(o.disturbance, out.course.plans[0]->cluster));
  if ((o.request.disturbance || o.request.sleep > 0) &&
      !o.request.virtual_clock) {
    return fail(Fault::input,
                "--noise, --slow and --sleep are of the virtual clock; add "
                "--clock virtual");
  }
  if (!o.request.trace.empty() && !o.request.virtual_clock) {
    return fail(Fault::input,
                "--trace shows the virtual clock; add --clock "
                "virtual");
  }
  TRY_DO(check_output(o.request.trace.string()));
  TRY_DO(check_output(o.request.save.string()));
  out.course.course.source = o.source.strategy;
  TRY(out.job, EmulationJob::make(out.course.course, o.request, mpi));
  return out;
}

Result<int> answer(Prepared& prepared, const EmulateOptions& o, bool prints) {
  TRY(EmulationAnswer answer, prepared.job->perform());
  if (answer.run && !o.no_store) TRY_DO(keep(o, answer));
  const Course& course = prepared.course.course;
  const std::string& stopped = answer.history.stopped;
  for (const std::string& warning : answer.data.warnings) {
    if (prints) fmt::print(stderr, "warning: {}\n", warning);
  }
  if (prints && o.json) {
    Json json = to_json(answer);
    if (course.is_trace) add_history(course, answer.history, json);
    say("{}\n", to_text(json));
  }
  if (prints && !o.json) {
    if (course.is_trace) say("{}", history_text(course, answer.history));
    print(answer);
  }
  if (prints && !stopped.empty()) {
    fmt::print(stderr, "troupe: the run stopped at {}: {}\n",
               course.acts[answer.history.stopped_by].title, stopped);
  }
  const auto& deviation = answer.emulation.deviation;
  const bool differs = deviation && !(deviation->largest() <= answer.bound);
  return differs || !stopped.empty() ? 2 : 0;
}

/// One process of several: rank 0 speaks for all, also by its exit code. The
/// launcher ends a job in which a process fails, perhaps before rank 0 spoke.
Result<int> run_mpi(EmulateOptions& o) {
  TRY(const auto mpi, emu::MpiSession::start(o.mpi_options));
  Result<Prepared> prepared = prepare(o, mpi.get());
  const bool first = mpi->rank() == 0;
  TRY(const auto problem,
      emu::first_error(
          mpi->communicator(), mpi->ranks(),
          prepared ? std::nullopt : std::optional(prepared.error())));
  if (problem && first) return fail(*problem);
  if (problem) return 0;
  TRY(const int code, answer(*prepared, o, first));
  return first ? code : 0;
}

Result<int> run(EmulateOptions& o) {
  if (o.mpi) return run_mpi(o);
  TRY(Prepared prepared, prepare(o, nullptr));
  return answer(prepared, o, true);
}

}  // namespace

void add_emulate(Commands& commands) {
  CLI::App* const command = commands.add(
      "emulate",
      "Train with real numbers on CPU ranks or GPUs, and prove them");
  const auto options = std::make_shared<EmulateOptions>();
  add_options(*command, *options);
  commands.run(command, [options] { return run(*options); });
}

}  // namespace troupe::cli
