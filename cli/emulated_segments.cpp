#include "cli/emulated_segments.h"

#include <fmt/format.h>

#include <utility>

#include "cli/simulation.h"
#include "cli/virtual_clock.h"
#include "schedule/placement.h"
#include "strategy/device_set.h"
#include "strategy/shrink.h"

namespace troupe::cli {
namespace {

constexpr double kMostBytes = 8e9;

/// Of every replica: parameters twice, and the gradient, its sum, the master
/// copy and both moments in the type of sums.
double bytes_per_parameter(kernels::DType dtype) {
  const Bytes wide = kernels::size_of(kernels::statistics_type(dtype));
  return static_cast<double>((kernels::size_of(dtype) * 2 + wide * 5).v);
}

Result<void> check_size(const strategy::Plan& plan, std::size_t phase) {
  double replicas = 0;
  for (const auto& pipeline : plan.strategy.phases[phase].pipelines) {
    double members = 1;
    for (const auto& stage : pipeline.stages) {
      members = std::max(members, static_cast<double>(stage.members.size()));
    }
    replicas += members;
  }
  const double bytes = bytes_per_parameter(plan.strategy.dtype) * replicas *
                       static_cast<double>(models::parameters(plan.model));
  if (bytes <= kMostBytes) return {};
  return fail(
      Fault::infeasible,
      fmt::format("{} replicas of {} need about {:.0f} GB here, more "
                  "than {:.0f}; emulate a small model of the same "
                  "structure with --shrink",
                  replicas, plan.model.name, bytes / 1e9, kMostBytes / 1e9));
}

}  // namespace

Result<exec::Program> program_of(const strategy::Plan& plan, std::size_t phase,
                                 const schedule::Schedule* like) {
  TRY(schedule::Schedule lowered, lower_phase(plan, phase, like));
  return exec::make_program(
      std::move(lowered),
      schedule::placements(plan.strategy, plan.strategy.phases[phase],
                           plan.model),
      plan.cluster);
}

namespace {

/// The phases of `plan`, which is `asked` for another model or precision.
Result<exec::Job> job_of(const strategy::Plan& plan,
                         const PlannedSteps& asked) {
  std::vector<exec::Program> programs;
  for (const std::size_t phase : asked.phases) {
    TRY(const schedule::Schedule like, lower_phase(*asked.plan, phase));
    TRY(exec::Program program, program_of(plan, phase, &like));
    programs.push_back(std::move(program));
  }
  return exec::make_job(std::move(programs), plan.cluster,
                        bridged(*asked.plan, asked.phases));
}

/// Small enough, in the arithmetic's type.
Result<std::vector<strategy::Plan>> small_plans(
    const std::vector<PlannedSteps>& plans, const EmulationRequest& request) {
  std::vector<strategy::Plan> out;
  if (request.shrink) {
    std::vector<const strategy::Plan*> all;
    for (const PlannedSteps& p : plans) all.push_back(p.plan);
    TRY(out, strategy::shrunk(all));
  } else {
    for (const PlannedSteps& p : plans) out.push_back(*p.plan);
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i].strategy.dtype = request.precision;
    // A GPU says itself when it is full; the proof needs the host's memory.
    if (!request.gpus.empty() && !request.verify) continue;
    for (const std::size_t phase : plans[i].phases) {
      TRY_DO(check_size(out[i], phase));
    }
  }
  return out;
}

/// What a job keeps between steps: its first phase's optimizer states. Master
/// copies are always apart here, so that the type counts as a narrow one.
std::unique_ptr<runs::Keeping> keeping_of(
    const strategy::Plan& plan, std::size_t phase,
    const std::vector<models::Parameter>& parameters, int peers) {
  runs::Candidate candidate;
  candidate.name = plan.strategy.name;
  candidate.strategy = plan.strategy;
  candidate.strategy.phases = {plan.strategy.phases[phase]};
  candidate.strategy.dtype = kernels::DType::fp64;
  candidate.devices = strategy::used_devices(candidate.phase());
  return std::make_unique<runs::Keeping>(candidate, parameters, plan.model,
                                         plan.cluster, peers);
}

exec::PeerCopies copies_of(const runs::Keeping& keeping,
                           const std::vector<models::Parameter>& parameters,
                           kernels::DType dtype) {
  exec::PeerCopies out;
  for (std::size_t p = 0; p < parameters.size(); ++p) {
    const runs::Keeping::Class& one = keeping.of(p);
    out.held.push_back(std::make_shared<const reshard::Layout>(one.copies));
    reshard::Plan& plan = out.update.plans.emplace_back();
    plan.source = plan.destination = one.optimizer;
    plan.shape = one.shape;
    plan.dtype = dtype;
    reshard::Step& step = plan.steps.emplace_back();
    step.operation = reshard::Operation::batched_send_receive;
    for (const auto& copy : runs::Keeping::sends_of(one)) {
      step.messages.push_back({copy.from, copy.to, reshard::kSource,
                               reshard::kDestination, copy.box});
    }
  }
  return out;
}

/// The plans of a recovery, state by state. Compute copies are not moved but
/// made from master copies, as after every step.
Result<void> add_moves(const runs::Recovery& recovery, kernels::DType dtype,
                       emu::Segment& segment) {
  const std::size_t parameters = recovery.changes.size() / runs::kStateKinds;
  segment.move.by_state.resize(exec::kStates.size());
  bool reads = false;
  for (std::size_t p = 0; p < parameters; ++p) {
    for (const exec::State state : exec::kStates) {
      // Compute copies come first of the kinds of a parameter.
      const std::size_t change =
          p * runs::kStateKinds + 1 + static_cast<std::size_t>(state);
      TRY(reshard::Plan plan,
          reshard::plan_of(recovery.plan, recovery.changes,
                           static_cast<std::int32_t>(change)));
      plan.dtype = dtype;
      segment.move.by_state[static_cast<std::size_t>(state)].plans.push_back(
          std::move(plan));
    }
    segment.read.push_back(recovery.readers[p * runs::kStateKinds + 1]);
    reads = reads || segment.read.back() != nullptr;
  }
  if (!reads) segment.read.clear();
  return {};
}

Result<void> add_segments(const Course& course, kernels::DType dtype,
                          Rehearsal& out) {
  for (const runs::Stretch& stretch : out.history.stretches) {
    const auto runs = static_cast<std::size_t>(stretch.runs);
    emu::Segment& segment = out.segments.emplace_back();
    segment.job = out.jobs[runs].get();
    segment.steps = static_cast<int>(stretch.steps);
    segment.lost = stretch.lost;
    segment.begins = stretch.begins;
    segment.stays = !stretch.moves && out.segments.size() > 1;
    if (course.options.peers > 0) segment.copies = out.copies[runs].get();
    if (stretch.moves) TRY_DO(add_moves(stretch.recovery, dtype, segment));
  }
  return {};
}

}  // namespace

Result<Rehearsal> rehearse(const Course& course,
                           const EmulationRequest& request) {
  Rehearsal out;
  TRY(out.plans, small_plans(course.strategies, request));
  const kernels::DType wide = kernels::statistics_type(request.precision);
  const auto parameters = models::parameter_list(out.plans[0].model);
  std::vector<std::unique_ptr<runs::Keeping>> keepings;
  for (std::size_t i = 0; i < out.plans.size(); ++i) {
    const auto& phases = course.strategies[i].phases;
    TRY(exec::Job job, job_of(out.plans[i], course.strategies[i]));
    out.jobs.push_back(std::make_unique<exec::Job>(std::move(job)));
    keepings.push_back(
        keeping_of(out.plans[i], phases[0], parameters, course.options.peers));
    out.copies.push_back(std::make_unique<exec::PeerCopies>(
        copies_of(*keepings.back(), parameters, wide)));
  }
  TRY(out.history,
      runs::history_of(course.acts, keepings, parameters, course.options,
                       request.steps, course.advice));
  if (!out.history.stopped.empty() && !course.is_trace) {
    return fail(Fault::infeasible, out.history.stopped);
  }
  TRY_DO(add_segments(course, wide, out));
  return out;
}

}  // namespace troupe::cli
