// Timing of work on a stream.
#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/cuda.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/state.h"

namespace troupe::kernels::cuda {
namespace {

constexpr int kSamples = 5;
constexpr int kMostRuns = 20;
/// A sample is made at least so long by repeating short runs.
constexpr double kSampleSeconds = 2e-4;
/// What the host needs to start one run, generously.
constexpr double kStartSeconds = 1.5e-5;

}  // namespace

Result<void> Context::busy(double seconds) {
  const double most = std::clamp(seconds, 0.0, 1e-2);
  return launch_spin(static_cast<std::uint64_t>(most * 1e9), device());
}

Result<double> time_of_runs(const std::function<Result<void>()>& body,
                            Context& context) {
  TRY(const Event before, context.event());
  TRY(const Event after, context.event());
  const auto sample = [&](int runs) -> Result<double> {
    TRY_DO(context.busy(runs * kStartSeconds));
    TRY_DO(context.record(before));
    for (int i = 0; i < runs; ++i) TRY_DO(body());
    TRY_DO(context.record(after));
    TRY(const double all, context.elapsed(before, after));
    return all / runs;
  };
  // The first run loads libraries and compiles plans.
  TRY_DO(body());
  TRY(const double one, sample(1));
  const int runs = std::clamp(
      static_cast<int>(std::ceil(kSampleSeconds / std::max(one, 1e-9))), 1,
      kMostRuns);
  std::array<double, kSamples> seconds{};
  for (double& each : seconds) {
    TRY(each, sample(runs));
  }
  std::ranges::sort(seconds);
  return seconds[kSamples / 2];
}

}  // namespace troupe::kernels::cuda
