// Steps of several phases: exact sums, what overlaps, limits of memory.
#include "runs/step.h"

#include <gmock/gmock.h>
#include <rapidcheck/gtest.h>

#include <map>

#include "reshard/verify.h"
#include "schedule/lower.h"
#include "tests/support/fixtures.h"

namespace troupe::runs {
namespace {

using test::Degrees;
using testing::HasSubstr;
using testing::IsEmpty;

const char* const kNode = "8 x h100-sxm per node, 400 Gbit/s per GPU, 2 nodes";

/// A strategy of several phases, lowered in the order of a step.
struct Setting {
  strategy::Plan plan;
  std::vector<std::size_t> order;
  std::vector<schedule::Schedule> schedules;
  test::FlatCosts costs;
  reshard::Rates rates;

  explicit Setting(const std::vector<Degrees>& phases,
                   strategy::Zero zero = strategy::Zero::one, int layers = 8,
                   const char* cluster = kNode) {
    plan.model = test::tiny_model(layers);
    plan.cluster = test::cluster_of(cluster);
    for (const Degrees& d : phases) {
      const auto one = test::strategy_of(plan.model, d);
      if (plan.strategy.phases.empty()) plan.strategy = one;
      if (&d != &phases.front()) {
        plan.strategy.phases.push_back(one.phases[0]);
      }
    }
    plan.strategy.zero = zero;
    std::vector<std::size_t> listed;
    for (std::size_t p = 0; p < phases.size(); ++p) listed.push_back(p);
    order = reshard::execution_order(listed);
    for (const std::size_t p : order) schedules.push_back(lowered(p));
    rates = reshard::rates_of(plan.cluster, costs);
  }

  schedule::Schedule lowered(std::size_t p) const {
    auto s = schedule::lower(plan.strategy, plan.strategy.phases[p], plan.model,
                             plan.cluster);
    EXPECT_TRUE(s.has_value());
    return *s;
  }
  StepOptions options(std::int64_t limit = 0) const {
    StepOptions out;
    out.switching.rates = &rates;
    out.switching.options.bucket = {limit};
    return out;
  }
  Result<StepTimes> step(std::int64_t limit = 0) const {
    return perform_step(plan, order, schedules, costs, options(limit));
  }
};

Time sum_of_parts(const StepTimes& t) {
  Time sum;
  for (const PhaseTime& phase : t.phases) sum += phase.by_itself;
  for (const SwitchTime& change : t.switches) sum += change.by_itself;
  return sum;
}

/// Up to eight devices in at most eight layers.
Degrees random_degrees() {
  Degrees d;
  d.dp = *rc::gen::element(1, 2, 4);
  d.tp = *rc::gen::element(1, 2, 4);
  d.pp = *rc::gen::element(1, 2, 4);
  if (d.dp * d.tp * d.pp > 16) d.pp = 1;
  d.micro_batches = *rc::gen::inRange(1, 6);
  return d;
}

std::vector<Degrees> random_phases() {
  std::vector<Degrees> out;
  const int count = *rc::gen::inRange(1, 5);
  for (int i = 0; i < count; ++i) out.push_back(random_degrees());
  return out;
}

TEST(FullStep, OfOnePhaseIsThatPhase) {
  const Setting s({{.dp = 2, .tp = 2, .pp = 2}});
  const auto times = s.step();
  ASSERT_TRUE(times) << times.error().message;
  const sim::Network network(s.plan.cluster, s.costs);
  const sim::PriceList prices(s.schedules[0], s.plan.cluster, network, s.costs);
  const auto activities = sim::activities_of(s.schedules[0], network);
  const auto run =
      sim::perform(s.schedules[0], prices, activities, network.links());
  ASSERT_TRUE(run);
  EXPECT_EQ(times->step, run->step);
  EXPECT_EQ(times->apart, run->step);
  EXPECT_TRUE(times->switches.empty());
  EXPECT_EQ(times->in_switches(), Time{});
}

RC_GTEST_PROP(FullStep, AddsUpAndIsNeverLongerThanApart, ()) {
  const Setting s(random_phases(),
                  *rc::gen::element(strategy::Zero::none, strategy::Zero::one));
  const std::int64_t limit =
      *rc::gen::element(std::int64_t{0}, std::int64_t{1} << 20);
  const auto times = s.step(limit);
  RC_ASSERT(times.has_value());
  RC_ASSERT(times->phases.size() == s.order.size());
  RC_ASSERT(times->switches.size() ==
            (s.order.size() > 1 ? s.order.size() : 0U));
  // Exactly, to the picosecond.
  RC_ASSERT(sum_of_parts(*times) == times->apart);
  RC_ASSERT(times->step <= times->apart);
  RC_ASSERT(times->without <= times->apart);
  for (const PhaseTime& phase : times->phases) {
    RC_ASSERT(phase.window.start >= Time{});
    RC_ASSERT(phase.window.end <= times->step);
  }
  RC_ASSERT(times->phases.back().window.end == times->step);
  std::int64_t tokens = 0;
  for (const auto& schedule : s.schedules) tokens += schedule.tokens;
  RC_ASSERT(times->tokens == tokens);
  if (limit > 0) RC_ASSERT(times->buffers.v <= limit);
}

/// Performs a timeline of a setting as perform_step does.
struct Timeline {
  StepTimeline timeline;
  sim::Run run;
};
Timeline perform(const Setting& s, Waiting waiting, std::int64_t limit = 0) {
  const sim::Network network(s.plan.cluster, s.costs);
  std::vector<std::size_t> listed{s.order.back()};
  listed.insert(listed.end(), s.order.begin(), s.order.end() - 1);
  auto switches =
      reshard::phase_switches(s.plan, listed, s.options(limit).switching);
  EXPECT_TRUE(switches.has_value());
  std::vector<StepPart> parts;
  for (std::size_t k = 0; k < s.schedules.size(); ++k) {
    const sim::PriceList prices(s.schedules[k], s.plan.cluster, network,
                                s.costs);
    StepPart part{&s.schedules[k], s.order[k],
                  std::vector<Time>(s.schedules[k].tasks.size()),
                  sim::activities_of(s.schedules[k], network),
                  k + 1 == s.schedules.size() ? Doing::all : Doing::gradients};
    for (std::size_t t = 0; t < part.durations.size(); ++t) {
      if (schedule::computes(s.schedules[k].tasks[t].kind)) {
        part.durations[t] = prices.of(make_id<schedule::TaskId>(t)).time;
      }
    }
    parts.push_back(std::move(part));
  }
  Timeline out{
      step_timeline(parts, *switches, s.plan.cluster, network, {waiting}), {}};
  auto run = sim::perform_timed(out.timeline.schedule, out.timeline.durations,
                                out.timeline.activities, network.links());
  EXPECT_TRUE(run.has_value()) << (run ? "" : run.error().message);
  if (run) out.run = *run;
  return out;
}

RC_GTEST_PROP(FullStep, NoDeviceComputesTwoThingsAtOnce, ()) {
  const Setting s(random_phases());
  const Timeline done = perform(s, Waiting::overlapped);
  std::map<clusters::DeviceId, std::vector<std::pair<Time, Time>>> busy;
  std::size_t stages_before = 0;
  for (std::size_t k = 0; k < s.schedules.size(); ++k) {
    const schedule::Schedule& own = s.schedules[k];
    for (const schedule::TaskId id : done.timeline.parts[k]) {
      const auto& task = done.timeline.schedule.tasks[id.at()];
      if (!schedule::computes(task.kind)) continue;
      const auto& stage = own.stages[task.stage.at() - stages_before];
      for (const auto& member : stage.members) {
        for (const auto rank : member) {
          busy[own.rank(rank).device].emplace_back(done.run.start[id.at()],
                                                   done.run.end[id.at()]);
        }
      }
    }
    stages_before += own.stages.size();
  }
  for (auto& [device, times] : busy) {
    std::sort(times.begin(), times.end());
    for (std::size_t i = 1; i < times.size(); ++i) {
      RC_ASSERT(times[i - 1].second <= times[i].first);
    }
  }
}

// Every update comes after every switch, whose last messages are gradients.
TEST(FullStep, UpdatesAfterAllGradientsHaveArrived) {
  const Setting s({{.dp = 1, .tp = 4, .pp = 2},
                   {.dp = 8, .tp = 1},
                   {.dp = 2, .tp = 2, .pp = 2}});
  const Timeline done = perform(s, Waiting::overlapped);
  Time arrived;
  for (const auto& tasks : done.timeline.switches) {
    for (const auto id : tasks) {
      arrived = std::max(arrived, done.run.end[id.at()]);
    }
  }
  int updates = 0;
  for (const auto id : done.timeline.parts.back()) {
    const auto& task = done.timeline.schedule.tasks[id.at()];
    if (task.kind != schedule::TaskKind::optimizer) continue;
    ++updates;
    EXPECT_GE(done.run.start[id.at()], arrived);
  }
  EXPECT_EQ(updates, 2);
  for (std::size_t k = 0; k + 1 < done.timeline.parts.size(); ++k) {
    for (const auto id : done.timeline.parts[k]) {
      const auto kind = done.timeline.schedule.tasks[id.at()].kind;
      EXPECT_NE(kind, schedule::TaskKind::optimizer);
      EXPECT_NE(kind, schedule::TaskKind::parameter_gather);
    }
  }
}

// Two halves of a model on two devices become two copies: each device sends
// its half. Half of the parameters, in bf16, over a port of 450 GB/s at both
// ends, then packed and unpacked (read and written) through memory.
TEST(FullStep, ASwitchTakesWhatItsMessagesTake) {
  const Setting s({{.dp = 1, .pp = 2}, {.dp = 2}}, strategy::Zero::none, 2,
                  "2 x h100-sxm per node, 400 Gbit/s per GPU, 1 nodes");
  const auto times = s.step();
  ASSERT_TRUE(times);
  std::map<int, std::int64_t> bytes;  // by stage
  for (const auto& p : models::parameter_list(s.plan.model)) {
    std::int64_t n = 2;
    for (const std::int64_t extent : p.shape) n *= extent;
    const bool second = p.layer == models::kHead || p.layer == 1;
    bytes[second ? 1 : 0] += n;
  }
  const auto& first = times->switches[0];
  EXPECT_EQ(first.plans.moved().v, bytes[0] + bytes[1]);
  const clusters::Cluster& c = s.plan.cluster;
  const auto route = c.route(clusters::DeviceId{0}, clusters::DeviceId{1});
  const double link = c.links[route.links[0].at()].bandwidth.v;
  const double memory = c.kinds[0].memory_bandwidth.v;
  const auto most = static_cast<double>(std::max(bytes[0], bytes[1]));
  const double expected = to_seconds(reshard::kStart + route.latency) +
                          most / link + 4 * most / memory;
  EXPECT_NEAR(to_seconds(first.by_itself), expected, 2e-11);
  EXPECT_FALSE(first.plans.gradients.has_value());
  // Both hold everything: only gradients go back, what each half's stage
  // keeps; without ZeRO both already have their sums.
  EXPECT_EQ(times->switches[1].plans.moved().v, 0);
}

// One pipeline has five times the work of the other. Its devices go on alone:
// the others are given their next layers before it ends.
TEST(FullStep, BeginsWhereDevicesAreFree) {
  Setting s({{.dp = 2, .tp = 2}, {.dp = 2, .tp = 1, .pp = 2}});
  s.plan.strategy.phases[1].pipelines[1].micro_batches = 40;
  s.schedules[0] = s.lowered(1);
  const auto times = s.step();
  ASSERT_TRUE(times);
  EXPECT_TRUE(times->overlapped);
  EXPECT_LT(times->phases[1].window.start, times->phases[0].window.end);
  EXPECT_LT(times->step, times->apart);
}

RC_GTEST_PROP(SwitchMemory, TheSmallestPossibleIsTold, ()) {
  const Setting s({random_degrees(), random_degrees()});
  const std::vector<std::size_t> listed{0, 1};
  const auto peak = [&](std::int64_t limit) -> Result<Bytes> {
    TRY(const auto switches,
        reshard::phase_switches(s.plan, listed, s.options(limit).switching));
    Bytes most;
    for (const auto& one : switches) most = std::max(most, one.peak());
    return most;
  };
  const auto smallest = [](const std::string& message) {
    const std::string words = "the smallest possible is ";
    return std::stoll(message.substr(message.find(words) + words.size()));
  };
  RC_PRE(peak(0)->v > 4);
  auto kept = peak(1);
  RC_ASSERT(!kept.has_value());
  // Each of the step's plans has its own; the largest counts.
  std::int64_t least = 1;
  for (int i = 0; i < 5 && !kept; ++i) {
    RC_ASSERT(kept.error().fault == Fault::infeasible);
    const std::int64_t next = smallest(kept.error().message);
    RC_ASSERT(next > least);
    least = next;
    kept = peak(least);
  }
  RC_ASSERT(kept.has_value());
  RC_ASSERT(kept->v <= least);
  RC_ASSERT(!peak(least - 1).has_value());
}

// The step itself keeps to it.
TEST(SwitchMemory, IsKeptByAStep) {
  const Setting s({{.dp = 1, .tp = 4, .pp = 2}, {.dp = 8, .tp = 1}});
  const auto free = s.step();
  ASSERT_TRUE(free);
  for (const int parts : {2, 7, 40}) {
    const auto kept = s.step(free->buffers.v / parts);
    ASSERT_TRUE(kept) << kept.error().message;
    EXPECT_LE(kept->buffers.v, free->buffers.v / parts);
    EXPECT_GE(kept->switches[0].plans.parameters->plan.buckets.size(),
              static_cast<std::size_t>(parts));
    EXPECT_EQ(sum_of_parts(*kept), kept->apart);
    EXPECT_LE(kept->step, kept->apart);
  }
  const auto refused = s.step(1);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("the smallest possible is"));
}

RC_GTEST_PROP(Bridges, AddUpAndAreExact, ()) {
  const Setting s({random_degrees(), random_degrees()});
  const auto home = s.lowered(0);
  for (const std::size_t p : {0, 1}) {
    const auto own = s.lowered(p);
    const auto times =
        perform_bridged_step(s.plan, 0, p, home, own, s.costs, s.options());
    RC_ASSERT(times.has_value());
    RC_ASSERT(sum_of_parts(*times) == times->apart);
    RC_ASSERT(times->step <= times->apart);
    RC_ASSERT(times->tokens == own.tokens);
    const auto& gradients = times->switches[1].plans.gradients;
    RC_ASSERT(gradients.has_value());
    if (p == 0) RC_ASSERT(gradients->plan.moved.v == 0);
  }
  const strategy::Layouts kept(s.plan.strategy, s.plan.strategy.phases[0],
                               s.plan.model);
  const strategy::Layouts used(s.plan.strategy, s.plan.strategy.phases[1],
                               s.plan.model);
  const auto changes = reshard::parameter_changes(
      kept, strategy::Use::optimizer, used, strategy::Use::compute,
      s.plan.model, s.plan.strategy.dtype);
  const auto bridges = reshard::bridges(s.plan, 0, 1, s.options().switching);
  RC_ASSERT(bridges.has_value());
  const auto wrong =
      reshard::wrong_with((*bridges)[0].parameters->plan, changes);
  RC_ASSERT(wrong.has_value());
  RC_ASSERT(wrong->empty());
}

}  // namespace
}  // namespace troupe::runs
