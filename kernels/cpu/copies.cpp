#include <algorithm>
#include <array>
#include <type_traits>

#include "kernels/cpu/bodies.h"
#include "kernels/cpu/types.h"

namespace troupe::kernels::cpu {
namespace {

template <typename From, typename To>
void cast(const Cast& call) {
  // The wider of the two types decides.
  using S = std::common_type_t<Stat<From>, Stat<To>>;
  const S scale = static_cast<S>(call.scale);
  const From* from = in<From>(call.in);
  To* to = out<To>(call.out);
  for (std::int64_t i = 0; i < call.elements; ++i) {
    const S value = scale * static_cast<S>(load(from[i]));
    store(to[i], call.accumulate ? static_cast<S>(load(to[i])) + value : value);
  }
}

template <typename T>
void copy_row(const CopyBlock& call, const T* from, T* to) {
  const std::int64_t n = call.size[3];
  const std::int64_t step = call.from_stride[3], to_step = call.to_stride[3];
  if (call.accumulate) {
    for (std::int64_t i = 0; i < n; ++i) {
      T& x = to[i * to_step];
      store(x, load(x) + load(from[i * step]));
    }
  } else if (n == 1 || (step == 1 && to_step == 1)) {
    std::copy_n(from, n, to);
  } else {
    for (std::int64_t i = 0; i < n; ++i) to[i * to_step] = from[i * step];
  }
}

}  // namespace

void perform(const Cast& call) {
  with_type(call.from, [&](auto from) {
    with_type(call.to,
              [&](auto to) { cast<decltype(from), decltype(to)>(call); });
  });
}

void perform(const CopyBlock& call) {
  for (const std::int64_t size : call.size) {
    if (size == 0) return;
  }
  with_type(call.dtype, [&](auto type) {
    using T = decltype(type);
    std::array<std::int64_t, 3> i{};
    const auto at = [&](const std::array<std::int64_t, 4>& stride) {
      return i[0] * stride[0] + i[1] * stride[1] + i[2] * stride[2];
    };
    for (i[0] = 0; i[0] < call.size[0]; ++i[0]) {
      for (i[1] = 0; i[1] < call.size[1]; ++i[1]) {
        for (i[2] = 0; i[2] < call.size[2]; ++i[2]) {
          copy_row(call, in<T>(call.in) + at(call.from_stride),
                   out<T>(call.out) + at(call.to_stride));
        }
      }
    }
  });
}

}  // namespace troupe::kernels::cpu
