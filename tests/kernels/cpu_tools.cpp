#include "tests/kernels/cpu_tools.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace troupe::kernels::testing {

Doubles Draw::normal(std::int64_t n, double scale) {
  std::normal_distribution<double> distribution(0, scale);
  Doubles values(static_cast<std::size_t>(n));
  for (double& x : values) x = distribution(random_);
  return values;
}

Doubles Draw::sizeable(std::int64_t n) {
  std::uniform_real_distribution<double> size(0.5, 1.5);
  Doubles values(static_cast<std::size_t>(n));
  for (double& x : values)
    x = random_() % 2 == 0 ? size(random_) : -size(random_);
  return values;
}

std::vector<std::int32_t> Draw::indices(std::int64_t n, std::int32_t low,
                                        std::int32_t high) {
  std::uniform_int_distribution<std::int32_t> distribution(low, high);
  std::vector<std::int32_t> values(static_cast<std::size_t>(n));
  for (auto& x : values) x = distribution(random_);
  return values;
}

void run_or_fail(const Call& call) {
  const auto result = cpu::run(call);
  if (!result) ADD_FAILURE() << result.error().message;
}

double Loss::of(std::span<const double> out) const {
  double sum = 0;
  for (std::size_t i = 0; i < out.size(); ++i) sum += w[i] * std::sin(out[i]);
  return sum;
}

Doubles Loss::gradient(std::span<const double> out) const {
  Doubles d(out.size());
  for (std::size_t i = 0; i < out.size(); ++i) d[i] = w[i] * std::cos(out[i]);
  return d;
}

void expect_gradient(Doubles& x, std::span<const double> gradient,
                     const std::function<double()>& loss, const char* name) {
  constexpr double kStep = 1e-3;
  ASSERT_EQ(x.size(), gradient.size());
  double largest = 1;
  for (const double g : gradient) largest = std::max(largest, std::fabs(g));
  const std::size_t stride = std::max<std::size_t>(1, x.size() / 40);
  for (std::size_t i = 0; i < x.size(); i += stride) {
    const double before = x[i];
    const auto at = [&](double steps) {
      x[i] = before + steps * kStep;
      return loss();
    };
    const double slope = (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / 12 / kStep;
    x[i] = before;
    EXPECT_NEAR(gradient[i], slope, 1e-9 * largest) << name << "[" << i << "]";
  }
}

double difference(std::span<const double> got, std::span<const double> want) {
  EXPECT_EQ(got.size(), want.size());
  double size = 1, most = 0;
  for (std::size_t i = 0; i < std::min(got.size(), want.size()); ++i) {
    if (got[i] == want[i]) continue;  // also both infinite
    if (!std::isfinite(got[i])) return HUGE_VAL;
    size = std::max(size, std::fabs(want[i]));
    most = std::max(most, std::fabs(got[i] - want[i]));
  }
  return most / size;
}

}  // namespace troupe::kernels::testing
