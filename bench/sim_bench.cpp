// Speed of lowering, pricing and performing steps, with tasks per second and
// the peak of memory. Costs are a closed formula, so that only the simulator
// is measured; `bench/run.sh` times the whole program from files to answer.
#include <benchmark/benchmark.h>
#include <sys/resource.h>

#include "clusters/read.h"
#include "models/read.h"
#include "profiles/cost.h"
#include "schedule/lower.h"
#include "sim/engine.h"
#include "strategy/load.h"

namespace {

using namespace troupe;

class FlatCosts : public profiles::CostModel {
 public:
  profiles::Cost operator_cost(const kernels::OpShape& op,
                               const clusters::DeviceKind&) const override {
    return {kernels::flops(op) / FlopRate{4e14} +
                kernels::traffic(op) / Bandwidth{2e12},
            0, profiles::Provenance::roofline};
  }
  std::optional<profiles::Cost> layer_cost(
      const profiles::LayerKey&, const clusters::DeviceKind&) const override {
    return {};
  }
  profiles::LinkEfficiency link_efficiency(clusters::LinkClass) const override {
    return {1.0, {}, "bench"};
  }
  std::optional<profiles::Cost> collective_cost(
      clusters::Collective, int, int, Bytes,
      const clusters::DeviceKind&) const override {
    return {};
  }
  std::string content_hash() const override { return "flat"; }
};

strategy::Plan plan_of(const char* name, int dp) {
  strategy::LoadOptions options;
  options.cluster = dp > 16 ? "h100-16384" : "h100-1024";
  options.set = {{"dp", std::to_string(dp)}};
  auto plan = strategy::load_plan(name, options);
  if (!plan) throw std::runtime_error(plan.error().message);
  return std::move(*plan);
}

void report(benchmark::State& state, std::int64_t tasks) {
  state.counters["tasks/s"] = benchmark::Counter(static_cast<double>(tasks),
                                                 benchmark::Counter::kIsRate);
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  state.counters["peak_MiB"] = static_cast<double>(usage.ru_maxrss) / 1024;
}

void lower(benchmark::State& state) {
  const auto plan =
      plan_of("llama2-70b-1024", static_cast<int>(state.range(0)));
  std::int64_t tasks = 0;
  for (auto _ : state) {
    const auto schedule = schedule::lower(
        plan.strategy, plan.strategy.phases[0], plan.model, plan.cluster);
    tasks += static_cast<std::int64_t>(schedule->tasks.size());
  }
  report(state, tasks);
}
BENCHMARK(lower)->Arg(16)->Arg(256)->Unit(benchmark::kMillisecond);

void price_and_perform(benchmark::State& state, const char* name,
                       bool operators, bool folded) {
  const auto plan = plan_of(name, static_cast<int>(state.range(0)));
  const auto schedule = schedule::lower(plan.strategy, plan.strategy.phases[0],
                                        plan.model, plan.cluster);
  const FlatCosts costs;
  std::int64_t events = 0;
  for (auto _ : state) {
    const sim::Network network(plan.cluster, costs);
    sim::PriceList prices(*schedule, plan.cluster, network, costs);
    const auto activities = sim::activities_of(*schedule, network);
    sim::OperatorDetail detail(*schedule, prices);
    const auto run =
        sim::perform(*schedule, prices, activities, network.links(),
                     operators ? &detail : nullptr, folded);
    events += run->events;
  }
  report(state, events);
}
BENCHMARK_CAPTURE(price_and_perform, tasks_folded, "llama2-70b-1024", false,
                  true)
    ->Arg(16)
    ->Arg(256)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(price_and_perform, tasks_each, "llama2-70b-1024", false,
                  false)
    ->Arg(16)
    ->Arg(256)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(price_and_perform, operators_each, "gpt3-175b-1024", true,
                  false)
    ->Arg(16)
    ->Unit(benchmark::kMillisecond);

}  // namespace
