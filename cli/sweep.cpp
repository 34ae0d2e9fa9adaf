#include "cli/sweep.h"

#include <fmt/format.h>

#include <atomic>
#include <charconv>
#include <mutex>

#include "base/progress.h"
#include "base/text.h"
#include "cli/parallel.h"

namespace troupe::cli {
namespace {

constexpr std::size_t kMostValues = 10'000;

std::optional<std::int64_t> whole_number(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return {};
  return value;
}

std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> out;
  for (;;) {
    const auto comma = text.find(',');
    out.emplace_back(text.substr(0, comma));
    if (comma == std::string_view::npos) return out;
    text.remove_prefix(comma + 1);
  }
}

/// Values strictly between `b` and `last` that go on from `a`, `b`.
Result<std::vector<std::string>> go_on(std::int64_t a, std::int64_t b,
                                       std::int64_t last) {
  std::vector<std::string> out;
  const bool ratio = a > 0 && b > a && b % a == 0 && b / a >= 2;
  for (int times : {1, 0}) {
    if (times == 1 && !ratio) continue;
    out.clear();
    std::int64_t v = b;
    while (b > a && v < last && out.size() <= kMostValues) {
      std::int64_t next = 0;
      const bool beyond = times == 1 ? __builtin_mul_overflow(v, b / a, &next)
                                     : __builtin_add_overflow(v, b - a, &next);
      if (beyond) break;
      v = next;
      if (v < last) out.push_back(std::to_string(v));
    }
    if (v == last) return out;
  }
  return fail(Fault::input,
              fmt::format("--sweep: {},{},...,{} does not reach {} by equal "
                          "ratios or steps",
                          a, b, last, last));
}

/// Devices of the first `count` pipelines of a phase.
std::int64_t devices_of(const strategy::Phase& phase, std::size_t count) {
  std::int64_t sum = 0;
  for (std::size_t p = 0; p < count; ++p) {
    for (const auto& stage : phase.pipelines[p].stages) {
      sum += stage.device_count();
    }
  }
  return sum;
}

Result<results::RunResult> one_point(const StrategyOptions& base,
                                     const std::string& field,
                                     const std::string& value, KeepWork keep,
                                     SharedCosts& shared,
                                     const SimulationOptions& options,
                                     const std::string& phase) {
  StrategyOptions changed = base;
  const bool gpus = field == "gpus";
  if (!gpus) changed.set.push_back(field + "=" + value);
  TRY(strategy::Plan plan, load(changed));
  TRY(const auto phases, choose_phases(plan.strategy, phase));
  std::swap(plan.strategy.phases.front(), plan.strategy.phases[phases.front()]);
  if (gpus) {
    const auto count = whole_number(value);
    if (!count || *count < 1) {
      return fail(Fault::input,
                  fmt::format("gpus={}: expected a number above 0", value));
    }
    TRY(plan, with_gpus(std::move(plan), *count, keep));
  }
  TRY(const auto costs, shared.of(plan.cluster));
  return simulate_phase(plan, 0, *costs, options);
}

}  // namespace

Result<std::pair<std::string, std::vector<std::string>>> parse_sweep(
    const std::string& text) {
  const auto equals = text.find('=');
  if (equals == std::string::npos || equals == 0 || equals + 1 == text.size()) {
    return fail(
        Fault::input,
        fmt::format("--sweep {}: expected field=value,value,...", text));
  }
  std::vector<std::string> values;
  const auto words = split(std::string_view(text).substr(equals + 1));
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (words[i] != "...") {
      values.push_back(words[i]);
      continue;
    }
    const auto a = i >= 2 ? whole_number(words[i - 2]) : std::nullopt;
    const auto b = i >= 2 ? whole_number(words[i - 1]) : std::nullopt;
    const auto last =
        i + 1 < words.size() ? whole_number(words[i + 1]) : std::nullopt;
    if (!a || !b || !last) {
      return fail(Fault::input,
                  "--sweep: '...' stands between two numbers "
                  "before and one after it");
    }
    TRY(const auto between, go_on(*a, *b, *last));
    values.insert(values.end(), between.begin(), between.end());
  }
  if (values.size() > kMostValues) {
    return fail(Fault::input,
                fmt::format("--sweep: more than {} values", kMostValues));
  }
  return std::make_pair(text.substr(0, equals), std::move(values));
}

Result<strategy::Plan> with_gpus(strategy::Plan plan, std::int64_t gpus,
                                 KeepWork keep) {
  strategy::Phase& phase = plan.strategy.phases.front();
  plan.strategy.phases.resize(1);
  const std::size_t all = phase.pipelines.size();
  std::size_t count = 0;
  while (count < all && devices_of(phase, count) < gpus) ++count;
  if (devices_of(phase, count) != gpus) {
    return fail(Fault::input,
                fmt::format("gpus={}: whole pipelines give {} or {}; "
                            "start from a strategy for the largest number",
                            gpus, devices_of(phase, count > 0 ? count - 1 : 0),
                            counted(devices_of(phase, count), "device")));
  }
  if (keep == KeepWork::per_step) {
    std::int64_t work = 0;
    for (const auto& p : phase.pipelines) work += p.micro_batches;
    const auto n = static_cast<std::int64_t>(count);
    for (std::size_t p = 0; p < count; ++p) {
      const auto i = static_cast<std::int64_t>(p);
      phase.pipelines[p].micro_batches =
          static_cast<int>(work * (i + 1) / n - work * i / n);
      phase.pipelines[p].micro_batch_seq_lens.clear();
    }
  }
  phase.pipelines.resize(count);
  return plan;
}

Result<results::Sweep> sweep(const StrategyOptions& base,
                             const std::string& field,
                             const std::vector<std::string>& values,
                             KeepWork keep, const std::string& profiles,
                             const SimulationOptions& options,
                             const std::string& phase) {
  TRY(const strategy::Plan plan, load(base));
  SharedCosts costs(profiles);
  TRY_DO(costs.of(plan.cluster));
  results::Sweep out;
  out.parameter = field;
  out.points.resize(values.size());
  Progress progress("points simulated",
                    static_cast<std::int64_t>(values.size()));
  std::mutex mutex;
  std::int64_t done = 0;
  in_parallel(values.size(), [&](std::size_t i) {
    if (interrupted()) return;
    auto run = one_point(base, field, values[i], keep, costs, options, phase);
    results::SweepPoint& point = out.points[i];
    point.value = values[i];
    if (run) {
      point.run = std::move(*run);
    } else {
      point.error = run.error().message;
    }
    const std::lock_guard lock(mutex);
    progress.update(++done);
  });
  if (interrupted()) return fail(Fault::interrupted, "interrupted");
  return out;
}

}  // namespace troupe::cli
