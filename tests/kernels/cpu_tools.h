// What tests of the CPU's bodies share: random operands, arrays between guard
// bands, and gradients by finite differences.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <random>
#include <span>
#include <vector>

#include "kernels/cpu.h"

namespace troupe::kernels::testing {

using Doubles = std::vector<double>;

inline std::size_t as_size(std::int64_t n) {
  return static_cast<std::size_t>(n);
}

/// Reproducible operands.
class Draw {
 public:
  explicit Draw(std::uint64_t seed) : random_(seed) {}
  Doubles normal(std::int64_t n, double scale = 1);
  /// Away from 0: of either sign, 0.5 to 1.5 in size.
  Doubles sizeable(std::int64_t n);
  std::vector<std::int32_t> indices(std::int64_t n, std::int32_t low,
                                    std::int32_t high);

 private:
  std::mt19937_64 random_;
};

/// An output: NaN before the call, between bands that must not change.
template <typename T>
class Guarded {
 public:
  explicit Guarded(std::int64_t n)
      : all_(static_cast<std::size_t>(n) + 2 * kBand, T(-777)) {
    for (T& x : values()) x = T(std::numeric_limits<float>::quiet_NaN());
  }
  T* data() { return all_.data() + kBand; }
  std::span<T> values() {
    return std::span(all_).subspan(kBand, all_.size() - 2 * kBand);
  }
  bool intact() const {
    for (std::size_t i = 0; i < kBand; ++i) {
      if (all_[i] != T(-777) || all_[all_.size() - 1 - i] != T(-777)) {
        return false;
      }
    }
    return true;
  }

 private:
  static constexpr std::size_t kBand = 16;
  std::vector<T> all_;
};

/// Runs the call; a failed one fails the test.
void run_or_fail(const Call& call);

/// A smooth loss of an output, sum of w sin(out), and its gradient w cos(out).
struct Loss {
  Doubles w;
  double of(std::span<const double> out) const;
  Doubles gradient(std::span<const double> out) const;
};

/// Compares `gradient` with differences of `loss` as elements of `x` move (at
/// most 40 of them).
///
/// Model: five points, h = 1e-3: off by h^4/30 = 3e-14 of the fifth
///        derivative (below 1e4 for operands of size 1), and by 1.5 2^-53 / h
///        = 2e-13 of each rounding of the loss (below 1e2 in size): 1e-9 of
///        the largest gradient, or of 1, covers both.
void expect_gradient(Doubles& x, std::span<const double> gradient,
                     const std::function<double()>& loss, const char* name);

/// Largest difference, relative to the larger of 1 and the largest expected.
double difference(std::span<const double> got, std::span<const double> want);

}  // namespace troupe::kernels::testing
