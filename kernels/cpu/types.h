// From the dtype of a call to C++ types, and sums in a fixed order.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/bf16.h"
#include "kernels/operator.h"

namespace troupe::kernels::cpu {

/// The S of an operand type T: what one number of it is read into and
/// statistics are stored in.
template <typename T>
using Stat = std::conditional_t<std::is_same_v<T, double>, double, float>;

/// The W of an operand type T: what arithmetic and sums are in. For fp32 twice
/// as wide, so that two ways of cutting a sum differ by the rounding of what
/// is stored and not of how it was computed.
template <typename T>
using Wide = std::conditional_t<sizeof(T) == sizeof(Bf16), float, double>;

template <typename T>
Stat<T> load(T value) {
  return static_cast<Stat<T>>(value);
}
template <typename T, typename S>
void store(T& to, S value) {
  to = static_cast<T>(static_cast<Stat<T>>(value));
}

/// Calls f(T{}) with the C++ type of `dtype`, which is one of the three.
template <typename F>
void with_type(DType dtype, F&& f) {
  if (dtype == DType::fp64) {
    f(double{});
  } else if (dtype == DType::fp32) {
    f(float{});
  } else {
    f(Bf16{});
  }
}

template <typename T>
const T* in(const void* pointer) {
  return static_cast<const T*>(pointer);
}
template <typename T>
T* out(void* pointer) {
  return static_cast<T*>(pointer);
}

/// Sum of f(0) ... f(n - 1) in double: eight running sums, which the compiler
/// keeps in vectors, then their sum. The order depends on n alone.
template <typename F>
double sum_of(std::int64_t n, F&& f) {
  double part[8] = {};
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    for (int lane = 0; lane < 8; ++lane) {
      part[lane] += static_cast<double>(f(i + lane));
    }
  }
  for (; i < n; ++i) part[0] += static_cast<double>(f(i));
  return ((part[0] + part[1]) + (part[2] + part[3])) +
         ((part[4] + part[5]) + (part[6] + part[7]));
}

}  // namespace troupe::kernels::cpu
