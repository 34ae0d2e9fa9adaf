#include "cli/emulation.h"

#include <fmt/format.h>

#include <chrono>
#include <optional>
#include <utility>

#include "cli/emulated_run.h"
#include "cli/emulated_segments.h"
#include "cli/simulation.h"
#include "cli/write_trace.h"
#include "emu/truth.h"
#include "emu/virtual_prices.h"
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

/// The simulated step that the virtual clock is to agree with.
struct Simulated {
  schedule::Schedule schedule;
  std::unique_ptr<profiles::CostModel> costs;
  std::unique_ptr<sim::Network> network;
  std::unique_ptr<sim::PriceList> prices;
  sim::Activities activities;
  sim::Run run;
  sim::Run alone;  ///< every communication as if it had the links to itself
};

Result<std::unique_ptr<Simulated>> simulated(const strategy::Plan& plan,
                                             std::size_t phase,
                                             const std::string& profiles) {
  auto s = std::make_unique<Simulated>();
  TRY(s->schedule, lower_phase(plan, phase));
  TRY(s->costs, load_costs(profiles, plan.cluster));
  s->network = std::make_unique<sim::Network>(plan.cluster, *s->costs);
  s->prices = std::make_unique<sim::PriceList>(s->schedule, plan.cluster,
                                               *s->network, *s->costs);
  s->activities = sim::activities_of(s->schedule, *s->network);
  TRY(s->run, sim::perform(s->schedule, *s->prices, s->activities,
                           s->network->links()));
  sim::Activities alone = s->activities;
  for (auto* const list : {&alone.transfers, &alone.syncs}) {
    for (sim::Activity& a : *list) a.shares.clear();
  }
  TRY(s->alone,
      sim::perform(s->schedule, *s->prices, alone, s->network->links()));
  return s;
}

Result<data::Corpus> corpus_of(const EmulationRequest& request) {
  if (request.data.empty()) return data::sample_corpus();
  return data::read_corpus(request.data);
}

/// Where the run begins: a checkpoint, or the seed.
Result<void> load_start(const EmulationRequest& request,
                        const Rehearsal& rehearsal, emu::Checkpoint& loaded,
                        emu::EmulationOptions& options) {
  if (request.load.empty()) return {};
  TRY(loaded, emu::read_checkpoint(request.load));
  const std::string problem =
      emu::misfit(loaded, rehearsal.jobs[0]->phases[0].weights);
  if (!problem.empty()) {
    return fail(Fault::input,
                fmt::format("{}: {}", request.load.string(), problem));
  }
  options.start = emu::values_of(loaded);
  options.seed = loaded.seed;
  options.first_step = loaded.steps;
  return {};
}

/// The virtual clock's prices; they read from `simulated`.
Result<exec::Prices> clock_prices(const Course& course,
                                  const schedule::Schedule& performed,
                                  const std::string& profiles,
                                  std::unique_ptr<Simulated>& priced) {
  const PlannedSteps& first = course.strategies[0];
  if (course.acts.size() > 1 || first.phases.size() > 1) {
    return fail(Fault::input,
                "the virtual clock runs for one phase; choose it with --phase");
  }
  TRY(priced, simulated(*first.plan, first.phases[0], profiles));
  const std::string difference =
      emu::structure_difference(priced->schedule, performed);
  if (!difference.empty()) return fail(Fault::input, difference);
  return emu::virtual_prices(priced->schedule, *priced->prices,
                             priced->activities);
}

/// The emulated step as a run, with its trace where one is wanted.
Result<results::RunResult> emulated_run(const strategy::Plan& plan,
                                        const Simulated& priced,
                                        const emu::Emulation& emulation,
                                        const std::filesystem::path& trace) {
  const sim::Run run = run_of(priced.schedule, emulation.recorded);
  results::RunResult out =
      answer_of({priced.schedule, plan.cluster, *priced.prices,
                 priced.activities, run, kReserve},
                *priced.costs, SimulationOptions{}.bar_pipelines);
  out.performance = "emulated";
  name_plan(plan, out);
  if (!trace.empty()) {
    TRY_DO(write_trace(trace, priced.schedule, run,
                       records_of(emulation.recorded)));
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
  std::unique_ptr<Simulated> priced;  ///< with the virtual clock
  exec::Prices prices;
  EmulationAnswer answer;

  Result<void> read(const EmulationRequest& request);
  Result<void> price(const EmulationRequest& request);
};

/// Options and data.
Result<void> EmulationJob::State::read(const EmulationRequest& request) {
  const std::size_t ranks = emu::ranks_of(rehearsal.segments).size();
  if (options.mpi != nullptr) {
    TRY_DO(check_processes(course.source, ranks, *options.mpi));
  }
  TRY(const data::Corpus corpus, corpus_of(request));
  options.seed = request.seed;
  options.training.rate = request.rate;
  options.hub = {request.threads};
  TRY_DO(load_start(request, rehearsal, loaded, options));
  if (!save.empty()) options.saved = &saved;
  batches = emu::batches_of(rehearsal.segments, corpus, options.seed,
                            options.first_step);
  if (request.fault.empty()) return {};
  TRY(options.fault, emu::parse_fault(request.fault, static_cast<int>(ranks),
                                      static_cast<int>(batches.size())));
  return {};
}

Result<void> EmulationJob::State::price(const EmulationRequest& request) {
  TRY(prices, clock_prices(course, rehearsal.jobs[0]->phases[0].schedule,
                           request.profiles, priced));
  options.recorded = stage_heads(priced->schedule);
  options.records_operators = !request.trace.empty();
  answer.virtual_clock = true;
  answer.simulated_step = priced->run.step;
  answer.uncontended_step = priced->alone.step;
  answer.contended = priced->run.contended;
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
  answer.bound = request.precision == kernels::DType::fp64 ? 1e-10 : 1e-5;
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
                                  s.truth ? &*s.truth : nullptr,
                                  s.priced ? &s.prices : nullptr));
  const bool first = s.options.mpi == nullptr || s.options.mpi->rank() == 0;
  if (!s.save.empty() && first) {
    s.saved.model = out.model;
    s.saved.seed = s.options.seed;
    s.saved.steps = s.options.first_step + 1 +
                    emu::steps_before(s.rehearsal.segments).back();
    TRY_DO(emu::write_checkpoint(s.save, s.saved));
  }
  if (s.priced && first) {
    TRY(out.run, emulated_run(*s.course.strategies[0].plan, *s.priced,
                              out.emulation, s.trace));
  }
  out.wall_time_s =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - s.start)
          .count();
  if (out.run) out.run->wall_time_s = out.wall_time_s;
  return out;
}

}  // namespace troupe::cli
