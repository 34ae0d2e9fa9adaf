// Quantities that must not be mixed up: simulated time, bytes, FLOPs, rates.
// Time is an integer count of picoseconds, so that sums are exact and equal
// on every machine; rounding happens only in `seconds`.
#pragma once

#include <cmath>
#include <compare>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace troupe {

/// A number with a unit; only like adds to like.
template <typename Unit, typename Rep>
struct Quantity {
  Rep v{};

  constexpr auto operator<=>(const Quantity&) const = default;
  constexpr Quantity& operator+=(Quantity o) { return v += o.v, *this; }
  constexpr Quantity& operator-=(Quantity o) { return v -= o.v, *this; }
  friend constexpr Quantity operator+(Quantity a, Quantity b) {
    return {a.v + b.v};
  }
  friend constexpr Quantity operator-(Quantity a, Quantity b) {
    return {a.v - b.v};
  }
  /// A whole-number quantity times a real number rounds half away from zero
  /// and saturates.
  template <typename N>
    requires std::is_arithmetic_v<N>
  friend constexpr Quantity operator*(Quantity a, N n) {
    if constexpr (std::is_integral_v<Rep> && std::is_floating_point_v<N>) {
      return {rounded(static_cast<double>(a.v) * static_cast<double>(n))};
    } else {
      return {static_cast<Rep>(a.v * static_cast<Rep>(n))};
    }
  }
  template <typename N>
    requires std::is_arithmetic_v<N>
  friend constexpr Quantity operator*(N n, Quantity a) {
    return a * n;
  }

 private:
  static constexpr Rep rounded(double value) {
    if (!(value < 9.2e18)) return std::numeric_limits<Rep>::max();
    if (value < -9.2e18) return std::numeric_limits<Rep>::min();
    return static_cast<Rep>(value < 0 ? value - 0.5 : value + 0.5);
  }
};

/// Simulated time in picoseconds; the largest value is about 106 days.
using Time = Quantity<struct PicosecondUnit, std::int64_t>;
/// Bytes; GB is 1e9, GiB is 2^30.
using Bytes = Quantity<struct ByteUnit, std::int64_t>;
/// Floating-point operations; a multiply-add counts two.
using Flops = Quantity<struct FlopUnit, double>;
/// Bytes per second, one direction.
using Bandwidth = Quantity<struct BandwidthUnit, double>;
/// Floating-point operations per second.
using FlopRate = Quantity<struct FlopRateUnit, double>;

inline constexpr Time kForever{std::numeric_limits<std::int64_t>::max()};

/// The only place where seconds are rounded to picoseconds (half away from
/// zero). Values beyond the range saturate; NaN counts as the maximum.
inline Time seconds(double s) {
  const double ps = s * 1e12;
  if (!(ps < 9.2e18)) return kForever;
  if (ps < -9.2e18) return {std::numeric_limits<std::int64_t>::min()};
  return {std::llround(ps)};
}
constexpr double to_seconds(Time t) { return static_cast<double>(t.v) * 1e-12; }

inline double operator/(Bytes a, Bytes b) {
  return static_cast<double>(a.v) / static_cast<double>(b.v);
}
inline double operator/(Time a, Time b) {
  return static_cast<double>(a.v) / static_cast<double>(b.v);
}
inline Time operator/(Bytes b, Bandwidth r) {
  return seconds(static_cast<double>(b.v) / r.v);
}
inline Time operator/(Flops f, FlopRate r) { return seconds(f.v / r.v); }

/// a / b, rounded up.
constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

namespace literals {
constexpr Bytes operator""_KiB(unsigned long long n) {
  return {static_cast<std::int64_t>(n) << 10};
}
constexpr Bytes operator""_MiB(unsigned long long n) {
  return {static_cast<std::int64_t>(n) << 20};
}
constexpr Bytes operator""_GiB(unsigned long long n) {
  return {static_cast<std::int64_t>(n) << 30};
}
constexpr Bandwidth operator""_GBps(unsigned long long n) {
  return {static_cast<double>(n) * 1e9};
}
constexpr Bandwidth operator""_GBps(long double n) {
  return {static_cast<double>(n) * 1e9};
}
constexpr Time operator""_us(unsigned long long n) {
  return {static_cast<std::int64_t>(n) * 1'000'000};
}
constexpr Time operator""_ms(unsigned long long n) {
  return {static_cast<std::int64_t>(n) * 1'000'000'000};
}
}  // namespace literals

}  // namespace troupe
