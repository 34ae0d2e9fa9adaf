// bfloat16 as storage: the upper half of a float. Arithmetic is done in float.
// Plain C++, read by g++ and nvcc alike.
#pragma once

#include <bit>
#include <cstdint>

namespace troupe::kernels {

/// Eight bits of significand (one implied): a rounded value is off by 2^-8 of
/// itself at most.
struct Bf16 {
  std::uint16_t bits = 0;

  Bf16() = default;
  /// Rounds to nearest, ties to even; overflow gives infinity, NaN stays NaN.
  explicit constexpr Bf16(float value) : bits(round(value)) {}
  explicit constexpr operator float() const {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
  }

 private:
  static constexpr std::uint16_t round(float value) {
    const auto all = std::bit_cast<std::uint32_t>(value);
    const bool nan = (all & 0x7FFFFFFFU) > 0x7F800000U;
    if (nan) return static_cast<std::uint16_t>(all >> 16 | 0x40U);
    const std::uint32_t odd = all >> 16 & 1U;
    return static_cast<std::uint16_t>((all + 0x7FFFU + odd) >> 16);
  }
};
static_assert(sizeof(Bf16) == 2);

}  // namespace troupe::kernels
