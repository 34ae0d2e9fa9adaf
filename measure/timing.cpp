#include "measure/timing.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace troupe::measure {
namespace {

using kernels::Call;

// Sets of operands that together exceed the last cache so many times are
// taken to come from memory.
constexpr std::int64_t kCachesCold = 4;
constexpr std::int64_t kMostSets = 32;
// Most runs in one sample, however short the operator.
constexpr double kMostRuns = 2000;

/// Calls and the arrays they point into.
struct Prepared {
  std::vector<Call> calls;
  std::vector<std::unique_ptr<Array>> arrays;
};

Result<void> prepare(Machine& machine, CallPlan plan, std::uint64_t seed,
                     Prepared& to) {
  for (const Operand& operand : plan.operands) {
    TRY(auto array, machine.allocate(operand.size));
    TRY_DO(machine.upload(*array, contents(operand, seed++)));
    operand.bind(plan.call, array->data());
    to.arrays.push_back(std::move(array));
  }
  to.calls.push_back(plan.call);
  return {};
}

/// Runs of the list that take about `sample_s`, a whole number of lists.
std::vector<Call> sample_of(const std::vector<Call>& list, double one_s,
                            double sample_s) {
  const double runs =
      std::clamp(std::ceil(sample_s / std::max(one_s, 1e-9)), 1.0, kMostRuns);
  const auto lists = static_cast<std::size_t>(
      std::max(1.0, std::round(runs / static_cast<double>(list.size()))));
  std::vector<Call> calls;
  calls.reserve(lists * list.size());
  for (std::size_t i = 0; i < lists; ++i) {
    calls.insert(calls.end(), list.begin(), list.end());
  }
  return calls;
}

/// Seconds of one whole `list`, timed until precise or out of patience.
Result<Timing> repeat(Machine& machine, const std::vector<Call>& list,
                      const Patience& patience) {
  // The first run warms up; it also tells how long one takes.
  TRY(double first, machine.time(list));
  if (first < patience.limit_s) {
    TRY(first, machine.time(list));
  }
  const double one = first / static_cast<double>(list.size());
  const std::vector<Call> calls = sample_of(list, one, patience.sample_s);
  const double lists =
      static_cast<double>(calls.size()) / static_cast<double>(list.size());
  std::vector<double> samples;
  double spent = 0;
  for (;;) {
    TRY(const double t, machine.time(calls));
    samples.push_back(t / lists);
    spent += t;
    const auto count = static_cast<int>(samples.size());
    if (count >= patience.most || spent >= patience.limit_s) break;
    if (count < patience.least) continue;
    const Timing now = summary(samples);
    if (now.spread / std::sqrt(static_cast<double>(count)) <
        patience.precision) {
      break;
    }
  }
  return summary(samples);
}

Timing divided(Timing t, std::size_t by) {
  t.median_s /= static_cast<double>(by);
  return t;
}

Result<void> fits(const Machine& machine, Bytes size, std::string_view what) {
  if (size <= machine.info().memory) return {};
  return fail(Fault::unavailable,
              fmt::format("{}: operands of {:.1f} GB; arrays may take {:.1f} "
                          "GB on {}",
                          what, static_cast<double>(size.v) * 1e-9,
                          static_cast<double>(machine.info().memory.v) * 1e-9,
                          machine.info().device));
}

}  // namespace

Timing summary(std::span<const double> samples) {
  check(!samples.empty(), "summary of no samples");
  std::vector<double> sorted(samples.begin(), samples.end());
  std::ranges::sort(sorted);
  const std::size_t n = sorted.size();
  const double median = (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
  const double mean = std::accumulate(sorted.begin(), sorted.end(), 0.0) /
                      static_cast<double>(n);
  double square = 0;
  for (const double s : sorted) square += (s - mean) * (s - mean);
  const double deviation =
      n > 1 ? std::sqrt(square / static_cast<double>(n - 1)) : 0;
  return {median, median > 0 ? deviation / median : 0, static_cast<int>(n)};
}

Result<OperatorTiming> time_operator(Machine& machine, const Wanted& wanted,
                                     const Patience& patience) {
  TRY(const CallPlan plan, plan_call(wanted));
  TRY_DO(fits(machine, plan.size(), to_string(wanted.op)));
  const std::int64_t size = std::max<std::int64_t>(plan.size().v, 1);
  const std::int64_t room = machine.info().memory.v / size;
  const std::int64_t sets =
      std::clamp<std::int64_t>(kCachesCold * machine.info().cache.v / size + 1,
                               1, std::min(kMostSets, room));
  Prepared prepared;
  for (std::int64_t set = 0; set < sets; ++set) {
    TRY_DO(prepare(machine, plan, static_cast<std::uint64_t>(1 + 97 * set),
                   prepared));
  }
  OperatorTiming result;
  TRY(const Timing cold, repeat(machine, prepared.calls, patience));
  result.cold = divided(cold, prepared.calls.size());
  result.warm = result.cold;
  if (sets > 1) {
    TRY(result.warm, repeat(machine, {prepared.calls.front()}, patience));
  }
  return result;
}

Result<Timing> time_sequence(Machine& machine, std::span<const Wanted> list,
                             const Patience& patience) {
  Bytes size;
  std::vector<CallPlan> plans;
  for (const Wanted& wanted : list) {
    TRY(CallPlan plan, plan_call(wanted));
    size += plan.size();
    plans.push_back(std::move(plan));
  }
  TRY_DO(fits(machine, size, "a layer"));
  Prepared prepared;
  std::uint64_t seed = 1;
  for (CallPlan& plan : plans) {
    TRY_DO(prepare(machine, std::move(plan), seed, prepared));
    seed += 97;
  }
  return repeat(machine, prepared.calls, patience);
}

}  // namespace troupe::measure
