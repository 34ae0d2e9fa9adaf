#include <algorithm>

#include "kernels/cpu/bodies.h"
#include "kernels/cpu/types.h"

namespace troupe::kernels::cpu {
namespace {

// Row of the table that holds `token`, or -1.
std::int64_t held(std::int32_t token, std::int64_t first,
                  std::int64_t vocabulary) {
  const std::int64_t row = token - first;
  return row >= 0 && row < vocabulary ? row : -1;
}

}  // namespace

void perform(const EmbeddingForward& call) {
  const std::int64_t n = call.columns;
  with_type(call.dtype, [&](auto type) {
    using T = decltype(type);
    for (std::int64_t i = 0; i < call.rows && n > 0; ++i) {
      T* to = out<T>(call.out) + i * n;
      const std::int64_t row =
          held(call.tokens[i], call.first, call.vocabulary);
      if (row < 0) {
        if (!call.add) std::fill_n(to, n, T{});
        continue;
      }
      const T* from = in<T>(call.table) + row * n;
      if (!call.add) {
        std::copy_n(from, n, to);
        continue;
      }
      for (std::int64_t j = 0; j < n; ++j) {
        store(to[j], load(to[j]) + load(from[j]));
      }
    }
  });
}

void perform(const EmbeddingBackward& call) {
  const std::int64_t n = call.columns;
  with_type(call.dtype, [&](auto type) {
    using T = decltype(type);
    for (std::int64_t i = 0; i < call.rows && n > 0; ++i) {
      const std::int64_t row =
          held(call.tokens[i], call.first, call.vocabulary);
      if (row < 0) continue;
      const T* from = in<T>(call.d_out) + i * n;
      auto* to = out<Stat<T>>(call.d_table) + row * n;
      for (std::int64_t j = 0; j < n; ++j) to[j] += load(from[j]);
    }
  });
}

}  // namespace troupe::kernels::cpu
