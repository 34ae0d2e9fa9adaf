#include <cmath>
#include <limits>

#include "kernels/cpu/bodies.h"
#include "kernels/cpu/types.h"

namespace troupe::kernels::cpu {

void perform(const CrossEntropyForward& call) {
  const std::int64_t n = call.columns;
  const std::int64_t ld = call.ld == 0 ? n : call.ld;
  with_type(call.dtype, [&](auto type) {
    using T = decltype(type);
    using S = Stat<T>;
    for (std::int64_t row = 0; row < call.rows; ++row) {
      const T* x = in<T>(call.logits) + row * ld;
      S maximum = -std::numeric_limits<S>::infinity();
      for (std::int64_t j = 0; j < n; ++j) {
        if (load(x[j]) > maximum) maximum = load(x[j]);
      }
      const double sum = sum_of(
          n, [&](std::int64_t j) { return std::exp(load(x[j]) - maximum); });
      out<S>(call.maximum)[row] = maximum;
      out<S>(call.sum)[row] = static_cast<S>(sum);
      const std::int64_t label = call.labels[row] - call.first;
      const bool here = call.labels[row] >= 0 && label >= 0 && label < n;
      out<S>(call.target)[row] = here ? load(x[label]) : S{};
    }
  });
}

void perform(const CrossEntropyMerge& call) {
  with_type(statistics_type(call.dtype), [&](auto type) {
    using S = Stat<decltype(type)>;
    for (std::int64_t row = 0; row < call.rows; ++row) {
      const auto at = [&](const void* of, std::int64_t shard) {
        return in<S>(of)[shard * call.rows + row];
      };
      S maximum = -std::numeric_limits<S>::infinity(), target{};
      for (std::int64_t i = 0; i < call.shards; ++i) {
        if (at(call.maximum, i) > maximum) maximum = at(call.maximum, i);
        target += at(call.target, i);
      }
      S sum{};
      for (std::int64_t i = 0; i < call.shards; ++i) {
        if (at(call.sum, i) == 0) continue;  // a shard without columns
        sum += at(call.sum, i) * std::exp(at(call.maximum, i) - maximum);
      }
      const S lse = maximum + std::log(sum);
      out<S>(call.lse)[row] = lse;
      out<S>(call.loss)[row] = call.labels[row] < 0 ? S{} : lse - target;
    }
  });
}

void perform(const CrossEntropyBackward& call) {
  const std::int64_t n = call.columns;
  const std::int64_t ld = call.ld == 0 ? n : call.ld;
  with_type(call.dtype, [&](auto type) {
    using T = decltype(type);
    using S = Stat<T>;
    const S scale = static_cast<S>(call.scale);
    for (std::int64_t row = 0; row < call.rows && n > 0; ++row) {
      const T* x = in<T>(call.logits) + row * ld;
      T* d_x = out<T>(call.d_logits) + row * ld;
      const bool labelled = call.labels[row] >= 0;
      const std::int64_t label = call.labels[row] - call.first;
      const S lse = in<S>(call.lse)[row];
      for (std::int64_t j = 0; j < n; ++j) {
        if (!labelled) {
          d_x[j] = T{};
          continue;
        }
        const S probability = std::exp(load(x[j]) - lse);
        store(d_x[j], (j == label ? probability - 1 : probability) * scale);
      }
    }
  });
}

}  // namespace troupe::kernels::cpu
