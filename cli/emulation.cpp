#include "cli/emulation.h"

#include <fmt/format.h>

#include <chrono>
#include <optional>
#include <utility>

#include "cli/emulated_segments.h"
#include "cli/virtual_clock.h"
#include "cli/whole_step.h"
#include "emu/truth.h"
#include "emu/virtual_prices.h"
#include "exec/cuda_device.h"
#include "strategy/one_device.h"

namespace troupe::cli {
namespace {

Result<std::vector<emu::Snapshot>> truth_of(
    const Rehearsal& rehearsal, const std::vector<emu::StepBatches>& batches,
    const emu::EmulationOptions& options) {
  const strategy::Plan& plan = rehearsal.plans[0];
  const auto alone = [&](std::span<const std::int32_t> lengths) {
    strategy::Plan one = plan;
    one.strategy =
        strategy::one_device(plan.strategy, plan.model.layers, lengths);
    return program_of(one, 0);
  };
  return emu::truth_of(rehearsal.segments, batches, options, alone);
}

/// Where the run begins: a checkpoint, or the seed.
Result<void> load_start(const EmulationRequest& request,
                        const Rehearsal& rehearsal, emu::Checkpoint& loaded,
                        emu::EmulationOptions& options, DataAnswer& data) {
  if (request.load.empty()) return {};
  TRY(loaded, emu::read_checkpoint(request.load));
  const std::string problem =
      emu::misfit(loaded, rehearsal.jobs[0]->phases[0].weights);
  if (!problem.empty()) {
    return fail(Fault::input,
                fmt::format("{}: {}", request.load.string(), problem));
  }
  TRY_DO(check_text(loaded, request.load.string(), data));
  options.start = emu::values_of(loaded);
  options.seed = loaded.seed;
  options.first_step = loaded.steps;
  return {};
}

/// The virtual clock.
struct Clocks {
  std::vector<std::unique_ptr<VirtualJob>> jobs;  ///< by strategy, or none
  /// Before each segment where something moves.
  std::vector<std::optional<VirtualTransition>> transitions;
};

Result<void> check_structure(const VirtualJob& priced,
                             const exec::Job& performed) {
  for (std::size_t k = 0; k < priced.schedules.size(); ++k) {
    const std::string difference = emu::structure_difference(
        priced.schedules[k], performed.phases[k].schedule);
    if (!difference.empty()) return fail(Fault::input, difference);
  }
  return {};
}

/// Gives every segment its prices.
Result<Clocks> clocks_of(const Course& course, const EmulationRequest& request,
                         Rehearsal& rehearsal) {
  Clocks out;
  out.jobs.resize(course.strategies.size());
  out.transitions.resize(rehearsal.segments.size());
  const VirtualJob* before = nullptr;
  for (std::size_t s = 0; s < rehearsal.segments.size(); ++s) {
    const runs::Stretch& stretch = rehearsal.history.stretches[s];
    const auto which = static_cast<std::size_t>(stretch.runs);
    auto& job = out.jobs[which];
    if (!job) {
      const PlannedSteps& steps = course.strategies[which];
      TRY(job, virtual_job(*steps.plan, steps.phases,
                           {request.profiles, request.disturbance}));
      TRY_DO(check_structure(*job, *rehearsal.jobs[which]));
      job->clock.sleep = request.sleep;
    }
    rehearsal.segments[s].prices = &job->clock;
    if (stretch.moves && before != nullptr) {
      TRY(out.transitions[s], virtual_transition(*before, *job, stretch.lost));
      rehearsal.segments[s].transition = &out.transitions[s]->clock;
    }
    before = job.get();
  }
  return out;
}

/// Every rank is one process.
Result<void> check_processes(const std::string& source, std::size_t ranks,
                             const emu::MpiSession& mpi) {
  if (std::cmp_equal(mpi.ranks(), ranks)) return {};
  return fail(Fault::input,
              fmt::format("{} has {} ranks but MPI has started {} process{}; "
                          "run: mpirun -n {} troupe emulate {} --mpi, with the "
                          "same options",
                          source, ranks, mpi.ranks(),
                          mpi.ranks() == 1 ? "" : "es", ranks, source));
}

/// What runs in the same type may differ by when they sum in another order.
double bound_of(const EmulationRequest& request) {
  switch (request.precision) {
    case kernels::DType::fp64:
      return 1e-10;
    case kernels::DType::bf16:
      return 0x1p-5;  // sixteen roundings
    default:
      // GPUs sum products in fp32, the CPU in fp64.
      return request.gpus.empty() ? 1e-5 : 1e-4;
  }
}

/// Ranks are dealt to the GPUs in turn.
emu::MakeDevice device_of(const EmulationRequest& request) {
  if (request.gpus.empty()) return {};
  return [gpus = request.gpus](exec::RankId rank) {
    return exec::make_cuda_device({.ordinal = gpus[rank.at() % gpus.size()]});
  };
}

}  // namespace

struct EmulationJob::State {
  std::chrono::steady_clock::time_point start =
      std::chrono::steady_clock::now();
  Course course;
  std::filesystem::path save, trace;
  Rehearsal rehearsal;
  emu::Checkpoint loaded, saved;
  emu::EmulationOptions options;
  std::vector<emu::StepBatches> batches;
  std::optional<std::vector<emu::Snapshot>> truth;
  std::optional<Clocks> clocks;
  int last_runs = 0;  ///< the strategy of the last step
  EmulationAnswer answer;

  Result<void> read(const EmulationRequest& request);
  Result<void> price(const EmulationRequest& request);
  Result<void> conclude(EmulationAnswer& out) const;
  const VirtualJob& last_job() const;
  const SimulatedStep& last_step() const;
};

/// Options and data.
Result<void> EmulationJob::State::read(const EmulationRequest& request) {
  const std::size_t ranks = emu::ranks_of(rehearsal.segments).size();
  if (options.mpi != nullptr) {
    TRY_DO(check_processes(course.source, ranks, *options.mpi));
  }
  const models::Model& model = rehearsal.plans[0].model;
  TRY(EmulatedData text,
      read_data(request.data, model.name, model.vocab, request.shrink));
  answer.data = std::move(text.answer);
  options.seed = request.seed;
  options.training.rate = request.rate;
  options.hub = {request.threads};
  options.device = device_of(request);
  TRY_DO(load_start(request, rehearsal, loaded, options, answer.data));
  if (!save.empty()) options.saved = &saved;
  batches = emu::batches_of(rehearsal.segments, text.corpus, options.seed,
                            options.first_step);
  if (request.fault.empty()) return {};
  TRY(options.fault, emu::parse_fault(request.fault, static_cast<int>(ranks),
                                      static_cast<int>(batches.size())));
  return {};
}

const VirtualJob& EmulationJob::State::last_job() const {
  return *clocks->jobs[static_cast<std::size_t>(last_runs)];
}

const SimulatedStep& EmulationJob::State::last_step() const {
  const auto before = emu::steps_before(rehearsal.segments);
  const exec::Job& job = *rehearsal.segments.back().job;
  const auto order = job.order(options.first_step + before.back());
  return last_job().steps[job.bridged ? order[0] : 0];
}

Result<void> EmulationJob::State::price(const EmulationRequest& request) {
  TRY(clocks, clocks_of(course, request, rehearsal));
  last_runs = rehearsal.history.stretches.back().runs;
  const SimulatedStep& step = last_step();
  for (const runs::StepPart& part : step.graph.parts) {
    options.recorded.push_back(stage_heads(*part.schedule));
  }
  answer.virtual_clock = true;
  answer.sleep = request.sleep;
  answer.simulated_step = step.step;
  answer.uncontended_step = step.alone.step;
  answer.contended = step.run.contended;
  return {};
}

/// What the virtual clock came to, beside what was simulated.
Result<void> EmulationJob::State::conclude(EmulationAnswer& out) const {
  const SimulatedStep& step = last_step();
  const VirtualJob& job = last_job();
  const emu::Emulation& e = out.emulation;
  const sim::Run run = run_of(step.timeline.schedule, e.tasks);
  out.difference = first_difference(job, step, step.alone, run);
  if (out.difference.empty() && !e.disputed.empty()) {
    out.difference = "ranks have different times for the same task";
  }
  for (std::size_t i = 0; i < clocks->transitions.size(); ++i) {
    const auto& t = clocks->transitions[i];
    if (!t) continue;
    out.transitions.push_back(
        {e.virtual_transitions[i], t->alone, t->simulated, t->moved});
  }
  const bool first = options.mpi == nullptr || options.mpi->rank() == 0;
  if (!first) return {};
  out.run = whole_run(job, step, run);
  out.run->performance = "emulated";
  out.timeline = timeline_of(step, run, e.recorded);
  if (!trace.empty()) {
    TRY_DO(write_emulated(trace, job, step, run, e.recorded));
  }
  return {};
}

EmulationJob::EmulationJob(std::unique_ptr<State> state)
    : state_(std::move(state)) {}
EmulationJob::EmulationJob(EmulationJob&&) noexcept = default;
EmulationJob& EmulationJob::operator=(EmulationJob&&) noexcept = default;
EmulationJob::~EmulationJob() = default;

Result<EmulationJob> EmulationJob::make(Course course,
                                        const EmulationRequest& request,
                                        emu::MpiSession* mpi) {
  auto s = std::make_unique<State>();
  s->course = std::move(course);
  s->save = request.save;
  s->trace = request.trace;
  s->options.mpi = mpi;
  TRY(s->rehearsal, rehearse(s->course, request));
  EmulationAnswer& answer = s->answer;
  answer.strategy = s->course.strategies[0].plan->strategy.name;
  answer.model = s->rehearsal.plans[0].model.name;
  answer.precision = kernels::name_of(request.precision);
  answer.bound = bound_of(request);
  for (const exec::Program& p : s->rehearsal.segments.back().job->phases) {
    answer.tokens += p.schedule.tokens;
    answer.model_flops += p.schedule.model_flops;
  }
  TRY_DO(s->read(request));
  if (request.verify) {
    TRY(s->truth, truth_of(s->rehearsal, s->batches, s->options));
  }
  if (request.virtual_clock) TRY_DO(s->price(request));
  answer.step_numbers = emu::steps_before(s->rehearsal.segments);
  for (std::int64_t& n : answer.step_numbers) ++n;
  answer.history = std::move(s->rehearsal.history);
  return EmulationJob(std::move(s));
}

Result<EmulationAnswer> EmulationJob::perform() {
  State& s = *state_;
  EmulationAnswer out = std::move(s.answer);
  TRY(out.emulation, emu::emulate(s.rehearsal.segments, s.batches, s.options,
                                  s.truth ? &*s.truth : nullptr));
  const bool first = s.options.mpi == nullptr || s.options.mpi->rank() == 0;
  if (!s.save.empty() && first) {
    s.saved.model = out.model;
    s.saved.seed = s.options.seed;
    s.saved.text = out.data.text;
    s.saved.steps = s.options.first_step + 1 +
                    emu::steps_before(s.rehearsal.segments).back();
    TRY_DO(emu::write_checkpoint(s.save, s.saved));
  }
  if (s.clocks) TRY_DO(s.conclude(out));
  out.wall_time_s =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - s.start)
          .count();
  if (out.run) out.run->wall_time_s = out.wall_time_s;
  return out;
}

}  // namespace troupe::cli
