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
constexpr std::int64_t kCachesCold = 2;
// More calls than a GPU keeps waiting would be given out at the host's pace.
constexpr std::int64_t kMostSets = 512;
constexpr double kMostRuns = 512;
// Samples that are usually enough.
constexpr int kUsual = 8;

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

/// Times lists of calls until precise or out of patience.
class Repeat {
 public:
  Repeat(Machine& machine, const Patience& patience, Caches caches)
      : machine_(machine), patience_(patience), caches_(caches) {}

  /// Seconds of one whole `list`; no samples where time ran out.
  Result<Timing> run(const std::vector<Call>& list) {
    TRY(double one, machine_.time(list, caches_));
    if (one >= patience_.limit_s && !machine_.info().prepares_at_first_run) {
      return summary({&one, 1});
    }
    if (!fits(one)) return Timing{};
    TRY_DO(ramp(list, one));
    // That run may have loaded libraries and chosen algorithms: another one.
    TRY(one, machine_.time(list, caches_));
    const double run = one / static_cast<double>(list.size());
    const std::vector<Call> calls = sample_of(list, run, patience_.sample_s);
    const double lists =
        static_cast<double>(calls.size()) / static_cast<double>(list.size());
    std::vector<double> samples;
    double spent = 0;
    if (calls.size() == list.size()) {
      samples.push_back(one);
      spent = one;
    }
    while (!enough(samples, spent) && (samples.empty() || fits(one * lists))) {
      TRY(const double t, machine_.time(calls, caches_));
      samples.push_back(t / lists);
      spent += t;
    }
    return summary(samples);
  }

 private:
  bool fits(double seconds) const {
    return !patience_.left || seconds <= patience_.left();
  }

  Result<void> ramp(const std::vector<Call>& list, double one) {
    double spent = 0;
    while (machine_.ramp_s() > 0 && spent < patience_.limit_s && fits(one)) {
      TRY(one, machine_.time(list, caches_));
      spent += std::max(one, 1e-6);
    }
    return {};
  }

  bool enough(const std::vector<double>& samples, double spent) const {
    const auto count = static_cast<int>(samples.size());
    if (count == 0) return false;
    if (count >= patience_.most || spent >= patience_.limit_s) return true;
    if (count < patience_.least) return false;
    return summary(samples).spread / std::sqrt(static_cast<double>(count)) <
           patience_.precision;
  }

  Machine& machine_;
  const Patience& patience_;
  Caches caches_;
};

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

int sets_of(const MachineInfo& machine, Bytes size) {
  const std::int64_t one = std::max<std::int64_t>(size.v, 1);
  const std::int64_t room = std::max<std::int64_t>(machine.memory.v / one, 1);
  return static_cast<int>(std::clamp<std::int64_t>(
      kCachesCold * machine.cache.v / one + 1, 1, std::min(kMostSets, room)));
}

bool comes_from_memory(const MachineInfo& machine, Bytes size) {
  return size.v * sets_of(machine, size) >= kCachesCold * machine.cache.v;
}

double expected_s(const MachineInfo& machine, double run_s, int sets,
                  const Patience& patience) {
  const auto series = [&](double list) {
    const double sample = std::max(list, patience.sample_s);
    const bool at_once =
        list >= patience.limit_s && !machine.prepares_at_first_run;
    return (at_once ? 1 : 2) * list +
           std::min(std::max(patience.limit_s - sample, 0.0), kUsual * sample);
  };
  return sets > 1 ? run_s + series(run_s * sets) + series(run_s)
                  : series(run_s);
}

Result<OperatorTiming> time_operator(Machine& machine, Memory& memory,
                                     const Wanted& wanted,
                                     const Patience& patience) {
  TRY(const CallPlan plan, plan_call(wanted));
  const Bytes size = Memory::size_of(plan);
  TRY_DO(fits(machine, size, to_string(wanted.op)));
  const int sets = sets_of(machine.info(), size);
  TRY(const std::vector<Call> calls, memory.place(plan, sets));
  const std::vector<Call> front{calls.front()};
  OperatorTiming result;
  result.from_memory = comes_from_memory(machine.info(), size);
  if (sets > 1) {
    // What is loaded and chosen at the first run is no matter of all sets.
    TRY(const double first, machine.time(front, Caches::cold));
    if (patience.left && 2 * sets * first > patience.left()) return result;
  }
  TRY(const Timing cold, Repeat(machine, patience, Caches::cold).run(calls));
  result.cold = divided(cold, calls.size());
  if (cold.samples == 0) return result;
  result.warm = result.cold;
  if (sets > 1) {
    TRY(const Timing warm, Repeat(machine, patience, Caches::warm).run(front));
    result.warm.reset();
    if (warm.samples > 0) result.warm = warm;
  }
  result.bodies = machine.bodies(calls.front());
  return result;
}

Result<Timing> time_sequence(Machine& machine, Memory& memory,
                             std::span<const Wanted> list,
                             const Patience& patience) {
  Bytes size;
  std::vector<CallPlan> plans;
  for (const Wanted& wanted : list) {
    TRY(CallPlan plan, plan_call(wanted));
    size += Memory::size_of(plan);
    plans.push_back(std::move(plan));
  }
  TRY_DO(fits(machine, size, "a layer"));
  TRY(const std::vector<Call> calls, memory.place(plans));
  return Repeat(machine, patience, Caches::cold).run(calls);
}

}  // namespace troupe::measure
