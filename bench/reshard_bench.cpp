// Planning a whole switch: every parameter of a 70B model between two
// strategies on 1,024 GPUs, from annotations to messages in buckets.
#include <benchmark/benchmark.h>

#include <cstdlib>

#include "clusters/read.h"
#include "models/read.h"
#include "reshard/hand_over.h"
#include "reshard/plan_cache.h"
#include "strategy/load.h"

namespace {

using namespace troupe;

/// Aborts with the message: a benchmark has no one to tell.
template <typename T>
T must(Result<T> result) {
  if (!result) {
    std::fprintf(stderr, "%s\n", result.error().message.c_str());
    std::abort();
  }
  return *std::move(result);
}

strategy::Plan plan_with(const char* set) {
  const std::string text = std::string(R"({"format": "troupe.strategy/1",
    "model": "llama2-70b", "cluster": "h100-1024", "micro_batches": 16,
    "zero": 1, )") + set + "}";
  return must(strategy::load_plan_text(text, "bench", {}));
}

void switch_70b(benchmark::State& state, strategy::Use use, bool compare) {
  const strategy::Plan from = plan_with(R"("dp": 16, "tp": 8, "pp": 8)");
  const strategy::Plan to = plan_with(R"("dp": 32, "tp": 4, "pp": 8)");
  const strategy::Layouts before(from.strategy, from.strategy.phases[0],
                                 from.model);
  const strategy::Layouts after(to.strategy, to.strategy.phases[0], to.model);
  const reshard::Rates rates = reshard::rates_of(from.cluster);
  const reshard::Routes routes(from.cluster, rates);
  reshard::SwitchOptions options;
  options.compare = compare;
  options.bucket = Bytes{std::int64_t{256} << 20};
  double transfers = 0;
  for (auto _ : state) {
    const auto changes = reshard::parameter_changes(before, after, from.model,
                                                    use, kernels::DType::bf16);
    const auto plan = must(reshard::plan_switch(changes, routes, options));
    transfers = static_cast<double>(plan.transfers.size());
    state.counters["gigabytes"] = static_cast<double>(plan.moved.v) * 1e-9;
    state.counters["predicted_ms"] = to_seconds(plan.predicted) * 1e3;
    state.counters["buckets"] = static_cast<double>(plan.buckets.size());
    state.counters["classes"] = static_cast<double>(plan.classes.size());
    for (std::size_t r = 0; r < plan.by_rule.size(); ++r) {
      const auto rule = static_cast<reshard::SenderRule>(r);
      state.counters[std::string(reshard::name_of(rule)) + "_ms"] =
          to_seconds(plan.by_rule[r].total()) * 1e3;
    }
  }
  state.counters["transfers"] = transfers;
}

BENCHMARK_CAPTURE(switch_70b, compute_parameters, strategy::Use::compute, false)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(switch_70b, compute_parameters_all_rules,
                  strategy::Use::compute, true)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(switch_70b, optimizer_states, strategy::Use::optimizer, true)
    ->Unit(benchmark::kMillisecond);

/// The same switch from its file (state.range 1), or planned (0).
void kept_switch_70b(benchmark::State& state) {
  const strategy::Plan from = plan_with(R"("dp": 16, "tp": 8, "pp": 8)");
  const strategy::Plan to = plan_with(R"("dp": 32, "tp": 4, "pp": 8)");
  const strategy::Layouts before(from.strategy, from.strategy.phases[0],
                                 from.model);
  const strategy::Layouts after(to.strategy, to.strategy.phases[0], to.model);
  const reshard::Rates rates = reshard::rates_of(from.cluster);
  const reshard::Routes routes(from.cluster, rates);
  const auto changes = reshard::parameter_changes(
      before, after, from.model, strategy::Use::compute, kernels::DType::bf16);
  const auto folder =
      std::filesystem::temp_directory_path() / "troupe-bench-plans";
  const reshard::PlanCache cache(folder);
  cache.clear();
  reshard::SwitchOptions options;
  options.bucket = Bytes{std::int64_t{256} << 20};
  if (state.range(0) == 1) must(cache.switch_plan(changes, routes, options));
  for (auto _ : state) {
    const auto plan = must(cache.switch_plan(changes, routes, options));
    benchmark::DoNotOptimize(plan.plan.predicted);
    const bool kept = plan.origin == reshard::Origin::cached;
    if (kept != (state.range(0) == 1)) state.SkipWithError("wrong origin");
    if (state.range(0) == 1) continue;
    state.PauseTiming();
    cache.clear();
    state.ResumeTiming();
  }
  if (state.range(0) == 1) {
    state.counters["file_MB"] = static_cast<double>(std::filesystem::file_size(
                                    cache.path_of(cache.list().front().key))) *
                                1e-6;
  }
  std::filesystem::remove_all(folder);
}
BENCHMARK(kept_switch_70b)
    ->Arg(0)
    ->Arg(1)
    ->ArgName("kept")
    ->Unit(benchmark::kMillisecond);

/// All three ways of a hand-over from TP 8 to TP 4 and CP 2.
void hand_over_8_to_4(benchmark::State& state) {
  const strategy::Plan plan = plan_with(R"("dp": 16, "tp": 8, "pp": 8)");
  const reshard::Rates rates = reshard::rates_of(plan.cluster);
  const reshard::Routes routes(plan.cluster, rates);
  std::vector<reshard::GroupRows> from(1), to(2);
  for (int i = 0; i < 8; ++i) {
    from[0].devices.push_back(reshard::DeviceId{i});
    to[static_cast<std::size_t>(i) / 4].devices.push_back(
        reshard::DeviceId{8 + i});
  }
  from[0].rows = 8192;
  to[0].rows = to[1].rows = 4096;
  for (auto _ : state) {
    const auto ways =
        must(reshard::hand_over(from, to, 8192, kernels::DType::bf16, routes));
    benchmark::DoNotOptimize(ways.chosen);
  }
}
BENCHMARK(hand_over_8_to_4)->Unit(benchmark::kMicrosecond);

}  // namespace
