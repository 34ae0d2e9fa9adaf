// The virtual clock against the simulator: whole steps of random unequal
// strategies, every task and every operator of every rank, to the picosecond.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <map>
#include <tuple>

#include "emu/virtual_prices.h"
#include "results/timeline.h"
#include "runs/step.h"
#include "tests/emu/small_job.h"

namespace troupe::emu {
namespace {

using clusters::DeviceId;
using schedule::TaskId;
using test::small_model;

/// An operator of a device: part, device, task, layer, place in its block.
using OperatorKey = std::tuple<std::size_t, int, int, int, int>;
using Operators = std::map<OperatorKey, exec::Span>;

/// One step of several phases, priced, simulated and emulated.
struct Step {
  strategy::Plan plan;
  bool bridged = false;
  schedule::Disturbance disturbance;
  troupe::test::FlatCosts costs = {};
  std::vector<schedule::Schedule> schedules = {};  ///< by phase
  std::unique_ptr<sim::Network> network = {};
  std::vector<std::unique_ptr<sim::PriceList>> prices = {};
  runs::StepGraph graph = {};
  runs::StepTimeline timeline = {};
  sim::Run alone = {};  ///< simulated without contention
  std::unique_ptr<exec::Job> job = {};
  exec::JobPrices clock = {};

  /// Prices the step; a bridged one computes under the last phase.
  void prepare() {
    network = std::make_unique<sim::Network>(plan.cluster, costs);
    const reshard::Rates rates = reshard::rates_of(plan.cluster, costs);
    runs::StepOptions options;
    options.switching.rates = &rates;
    options.disturbance = &disturbance;
    const std::size_t phases = plan.strategy.phases.size();
    for (std::size_t k = 0; k < phases; ++k) {
      schedules.push_back(*schedule::lower(
          plan.strategy, plan.strategy.phases[k], plan.model, plan.cluster));
    }
    for (const schedule::Schedule& s : schedules) {
      prices.push_back(
          std::make_unique<sim::PriceList>(s, plan.cluster, *network, costs));
    }
    std::vector<exec::Program> programs;
    for (std::size_t k = 0; k < phases; ++k) {
      programs.push_back(*exec::make_program(
          schedules[k],
          schedule::placements(plan.strategy, plan.strategy.phases[k],
                               plan.model),
          plan.cluster));
    }
    job = std::make_unique<exec::Job>(
        *exec::make_job(std::move(programs), plan.cluster, bridged));
    if (bridged) {
      graph = *runs::bridged_graph(plan, 0, phases - 1, schedules[0],
                                   schedules.back(), *network, costs, options);
    } else {
      std::vector<schedule::Schedule> ordered;
      for (const std::size_t k : job->order()) {
        ordered.push_back(schedules[k]);
      }
      graph = *runs::step_graph(plan, job->order(), ordered, *network, costs,
                                options);
      for (runs::StepPart& part : graph.parts) {
        part.schedule = &schedules[part.phase];
      }
    }
    timeline =
        runs::step_timeline(graph.parts, graph.switches, plan.cluster, *network,
                            {runs::Waiting::overlapped, &disturbance});
    alone = *sim::perform_timed(timeline.schedule, timeline.durations,
                                sim::uncontended(timeline.activities),
                                network->links());
    make_clock();
  }

  void make_clock() {
    for (std::size_t k = 0; k < schedules.size(); ++k) {
      sim::Activities activities = sim::activities_of(schedules[k], *network);
      const auto phase = static_cast<std::int32_t>(k);
      sim::disturb(activities, disturbance, phase);
      clock.phases.push_back(virtual_prices(schedules[k], *prices[k],
                                            activities, {&disturbance, phase}));
    }
    // A bridged job has a step for each phase; only the last one runs here.
    clock.steps.resize(bridged ? schedules.size() : 1);
    clock.steps.back() = virtual_step(timeline);
  }

  Operators simulated_operators() {
    Operators out;
    for (std::size_t k = 0; k < graph.parts.size(); ++k) {
      const schedule::Schedule& s = *graph.parts[k].schedule;
      const std::size_t phase = graph.parts[k].phase;
      sim::OperatorDetail detail(
          s, *prices[phase], exec::everyone(s.ranks.size()), 1U << 20,
          {&disturbance, static_cast<std::int32_t>(phase)});
      for (std::size_t t = 0; t < s.tasks.size(); ++t) {
        const TaskId id = timeline.tasks_of[k][t];
        if (!id || !schedule::computes(s.tasks[t].kind)) continue;
        detail.perform(make_id<TaskId>(t), alone.start[id.at()]);
      }
      for (const sim::OperatorRecord& r : detail.records()) {
        out[{k, s.rank(r.rank).device.v, r.task.v, r.layer, r.index}] = {
            r.start, r.end};
      }
    }
    return out;
  }

  Emulation emulated() {
    Segment segment;
    segment.job = job.get();
    segment.steps = 1;
    segment.prices = &clock;
    const std::vector<Segment> segments{segment};
    EmulationOptions options;
    // The number of the step chooses the phase of a bridged one.
    if (bridged) options.first_step = std::ssize(schedules) - 1;
    for (const runs::StepPart& part : graph.parts) {
      auto& devices = options.recorded.emplace_back();
      for (const auto& rank : part.schedule->ranks) {
        devices.push_back(rank.device);
      }
    }
    const auto batches = batches_of(segments, data::sample_corpus(),
                                    options.seed, options.first_step);
    auto out = emulate(segments, batches, options);
    EXPECT_TRUE(out.has_value()) << (out ? "" : out.error().message);
    return out ? std::move(*out) : Emulation{};
  }
};

Operators operators_of(const Emulation& e) {
  Operators out;
  for (const DeviceTimes& times : e.recorded) {
    for (const exec::Performed& p : times.operators) {
      out[{p.part, times.device.v, p.task.v, p.layer, p.index}] = {p.start,
                                                                   p.end};
    }
  }
  return out;
}

/// Tasks with other times than simulated, or that no rank knows.
std::size_t different_tasks(const Step& step, const Emulation& e) {
  std::size_t out = e.disputed.size();
  for (std::size_t t = 0; t < step.alone.start.size(); ++t) {
    const auto it = e.tasks.find(make_id<TaskId>(t));
    const exec::Span span{step.alone.start[t], step.alone.end[t]};
    if (it == e.tasks.end() || it->second != span) ++out;
  }
  return out;
}

/// Pipelines of unequal cuts, degrees and numbers of micro-batches, on devices
/// that other phases use for something else.
strategy::Phase random_phase(const models::Model& model, int first_device) {
  troupe::test::Degrees d;
  d.dp = *rc::gen::inRange(1, 3);
  d.tp = *rc::gen::element(1, 2, 4);
  d.cp = *rc::gen::element(1, 1, 2);
  d.pp = *rc::gen::element(1, 2);
  d.micro_batches = *rc::gen::inRange(1, 4);
  strategy::Phase phase = troupe::test::strategy_of(model, d).phases[0];
  for (auto& pipeline : phase.pipelines) {
    pipeline.seq_len = *rc::gen::element(8, 16);
    for (auto& stage : pipeline.stages) {
      for (auto& member : stage.members) {
        for (DeviceId& device : member.devices) device.v += first_device;
      }
    }
  }
  if (d.dp == 2) {
    auto& last = phase.pipelines[1];
    last.micro_batches = *rc::gen::inRange(1, 4);
    if (d.cp == 1 && d.tp > 1) last.stages[0].members[0].devices.resize(1);
    if (d.pp == 2) {
      last.stages[0].chunks = {{0, 1}};
      last.stages[1].chunks = {{1, model.layers}};
    }
  }
  return phase;
}

Step random_step(bool bridged) {
  Step step;
  step.plan.model = small_model();
  step.plan.model.layers = 2;
  step.plan.cluster = troupe::test::cluster_of(test::kCluster);
  step.plan.strategy = troupe::test::strategy_of(step.plan.model, {});
  step.plan.strategy.seq_len = 16;
  step.plan.strategy.dtype = kernels::DType::fp64;
  step.plan.strategy.zero =
      *rc::gen::element(strategy::Zero::none, strategy::Zero::one,
                        strategy::Zero::two, strategy::Zero::three);
  step.plan.strategy.overlap_gradient_sync = *rc::gen::arbitrary<bool>();
  step.plan.strategy.phases.clear();
  const int phases =
      bridged ? *rc::gen::inRange(2, 4) : *rc::gen::inRange(1, 4);
  for (int k = 0; k < phases; ++k) {
    step.plan.strategy.phases.push_back(
        random_phase(step.plan.model, *rc::gen::inRange(0, 6)));
  }
  step.bridged = bridged;
  step.disturbance.noise = *rc::gen::element(0.0, 0.05, 0.6);
  step.disturbance.seed = *rc::gen::inRange(1, 1000);
  if (*rc::gen::arbitrary<bool>()) {
    step.disturbance.slower[DeviceId{*rc::gen::inRange(0, 8)}] = 1.3;
  }
  return step;
}

void check_equal(Step& step) {
  step.prepare();
  const Emulation e = step.emulated();
  RC_ASSERT(e.virtual_steps.size() == 1U);
  RC_ASSERT(e.virtual_steps[0] == step.alone.step);
  RC_ASSERT(different_tasks(step, e) == 0U);
  const Operators simulated = step.simulated_operators();
  RC_ASSERT(!simulated.empty());
  RC_ASSERT(operators_of(e) == simulated);
}

RC_GTEST_PROP(VirtualClock, EqualsTheSimulatorInEveryTaskAndOperator, ()) {
  Step step = random_step(false);
  check_equal(step);
}

RC_GTEST_PROP(VirtualClock, EqualsTheSimulatorOfBridgedSteps, ()) {
  Step step = random_step(true);
  check_equal(step);
}

/// Without contention every start is the latest of some ends: later operators
/// can only make them later.
RC_GTEST_PROP(VirtualClock, ASlowerDeviceNeverMakesTheStepShorter, ()) {
  Step step = random_step(*rc::gen::arbitrary<bool>());
  Step slower{step.plan, step.bridged, step.disturbance};
  const DeviceId device{*rc::gen::inRange(0, 8)};
  slower.disturbance.slower[device] =
      step.disturbance.slower.contains(device) ? 2.6 : 2.0;
  step.prepare();
  slower.prepare();
  RC_ASSERT(slower.alone.step >= step.alone.step);
  for (std::size_t t = 0; t < step.alone.end.size(); ++t) {
    RC_ASSERT(slower.alone.start[t] >= step.alone.start[t]);
  }
}

Step two_phases() {
  Step step;
  step.plan.model = small_model();
  step.plan.cluster = troupe::test::cluster_of(test::kCluster);
  step.plan.strategy =
      troupe::test::strategy_of(step.plan.model, {.dp = 2, .tp = 2, .pp = 2});
  step.plan.strategy.seq_len = 16;
  step.plan.strategy.dtype = kernels::DType::fp64;
  auto other = troupe::test::strategy_of(step.plan.model, {.tp = 4, .pp = 2});
  other.phases[0].pipelines[0].seq_len = 16;
  for (auto& pipeline : step.plan.strategy.phases[0].pipelines) {
    pipeline.seq_len = 8;
  }
  step.plan.strategy.phases.push_back(other.phases[0]);
  return step;
}

results::Timeline timeline_of(const Step& step, const Operators& operators) {
  results::Timeline out;
  for (const auto& [key, span] : operators) {
    const auto [part, device, task, layer, index] = key;
    const schedule::Schedule& s = *step.graph.parts[part].schedule;
    const schedule::Task& t = s.tasks[static_cast<std::size_t>(task)];
    out.events.push_back({{static_cast<int>(part), device, task, layer, index},
                          t.micro_batch,
                          std::string(name_of(t.kind)),
                          span.first,
                          span.second});
  }
  return out;
}

// One price of one operator changed by a picosecond: the step's tasks differ,
// and the comparison names the first operator that takes longer.
TEST(VirtualClock, OneChangedPriceIsFoundAndNamed) {
  Step step = two_phases();
  step.prepare();
  const Operators simulated = step.simulated_operators();
  ASSERT_EQ(operators_of(step.emulated()), simulated);
  const schedule::Schedule& s = step.schedules[1];
  TaskId changed;
  for (std::size_t t = 0; t < s.tasks.size() && !changed; ++t) {
    if (s.tasks[t].kind == schedule::TaskKind::backward) {
      changed = make_id<TaskId>(t);
    }
  }
  const auto real = step.clock.phases[1].runs;
  std::vector<exec::BlockTimes> other = real(changed, 0);
  ++other[0].operators[0].v;
  step.clock.phases[1].runs =
      [&](TaskId id,
          std::size_t member) -> const std::vector<exec::BlockTimes>& {
    return id == changed ? other : real(id, member);
  };
  const Emulation e = step.emulated();
  EXPECT_GT(different_tasks(step, e), 0U);
  const Json compared = results::compare(timeline_of(step, simulated),
                                         timeline_of(step, operators_of(e)));
  EXPECT_EQ(compared["first"]["task"], changed.v);
  EXPECT_EQ(compared["first"]["name"], "backward");
  EXPECT_EQ(compared["first"]["index"], 0);
  EXPECT_DOUBLE_EQ(compared["longest"][0]["duration_s"]["difference"], 1e-12);
}

TEST(VirtualClock, NoiseIsOfTheSeedAndThePlace) {
  Step a = two_phases();
  a.disturbance.noise = 0.05;
  Step same{a.plan, false, a.disturbance};
  Step other{a.plan, false, a.disturbance};
  other.disturbance.seed = 2;
  for (Step* const step : {&a, &same, &other}) step->prepare();
  EXPECT_EQ(a.alone.end, same.alone.end);
  EXPECT_NE(a.alone.end, other.alone.end);
  // The law: evenly within 5%, different for each operator and device.
  schedule::Operator op;
  double sum = 0;
  double least = 2;
  double most = 0;
  constexpr int kDraws = 20000;
  for (int i = 0; i < kDraws; ++i) {
    const double factor =
        schedule::disturbed(
            a.disturbance,
            {0, TaskId{i / 100}, i % 10, 3, DeviceId{i / 10 % 10}, DeviceId{0}},
            op, Time{1'000'000'000'000}) /
        Time{1'000'000'000'000};
    sum += factor;
    least = std::min(least, factor);
    most = std::max(most, factor);
  }
  // The mean's deviation is 0.05 / sqrt(3 x 20000) = 2.0e-4.
  EXPECT_NEAR(sum / kDraws, 1, 1e-3);
  EXPECT_GE(least, 0.95);
  EXPECT_LT(least, 0.9501);
  EXPECT_LE(most, 1.05);
  EXPECT_GT(most, 1.0499);
}

}  // namespace
}  // namespace troupe::emu
