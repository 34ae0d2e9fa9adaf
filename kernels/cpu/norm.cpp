#include <cmath>
#include <vector>

#include "kernels/cpu/bodies.h"
#include "kernels/cpu/types.h"

namespace troupe::kernels::cpu {
namespace {

template <typename T>
void forward(const NormForward& c, std::int64_t row) {
  using S = Wide<T>;
  const std::int64_t n = c.columns;
  const auto count = static_cast<double>(n);
  const T* x = in<T>(c.in) + row * n;
  double mean = 0;
  if (!c.rms) {
    mean = sum_of(n, [&](std::int64_t j) { return load(x[j]); }) / count;
    store(out<Stat<T>>(c.mean)[row], mean);
  }
  const double square = sum_of(n, [&](std::int64_t j) {
    const double centred = static_cast<double>(load(x[j])) - mean;
    return centred * centred;
  });
  const double rstd = 1 / std::sqrt(square / count + c.epsilon);
  store(out<Stat<T>>(c.rstd)[row], rstd);
  const T* weight = in<T>(c.weight);
  const T* bias = in<T>(c.bias);
  T* y = out<T>(c.out) + row * n;
  const S m = static_cast<S>(mean), r = static_cast<S>(rstd);
  for (std::int64_t j = 0; j < n; ++j) {
    const S scaled = (load(x[j]) - m) * r * load(weight[j]);
    store(y[j], bias == nullptr ? scaled : scaled + load(bias[j]));
  }
}

/// Column sums of one call, over all rows, in double.
struct Columns {
  std::vector<double> weight, bias;
};

template <typename T>
void backward(const NormBackward& c, std::int64_t row, Columns& sums) {
  using S = Wide<T>;
  const std::int64_t n = c.columns;
  const T* x = in<T>(c.in) + row * n;
  const T* d_out = in<T>(c.d_out) + row * n;
  const T* weight = in<T>(c.weight);
  const S m = c.rms ? S{} : in<Stat<T>>(c.mean)[row];
  const S r = in<Stat<T>>(c.rstd)[row];
  const auto normal = [&](std::int64_t j) { return (load(x[j]) - m) * r; };
  const auto gradient = [&](std::int64_t j) {
    return S{load(d_out[j])} * load(weight[j]);
  };
  const auto count = static_cast<double>(n);
  const auto along = static_cast<S>(
      sum_of(n, [&](std::int64_t j) { return gradient(j) * normal(j); }) /
      count);
  const S mean = c.rms ? S{} : static_cast<S>(sum_of(n, gradient) / count);
  T* d_in = out<T>(c.d_in) + row * n;
  for (std::int64_t j = 0; j < n; ++j) {
    store(d_in[j], r * (gradient(j) - mean - normal(j) * along));
    sums.weight[static_cast<std::size_t>(j)] +=
        static_cast<double>(load(d_out[j]) * normal(j));
  }
  if (c.d_bias == nullptr) return;
  for (std::int64_t j = 0; j < n; ++j) {
    sums.bias[static_cast<std::size_t>(j)] +=
        static_cast<double>(load(d_out[j]));
  }
}

template <typename S>
void gain(S* to, const std::vector<double>& sums) {
  for (std::size_t j = 0; j < sums.size(); ++j) {
    to[j] = static_cast<S>(static_cast<double>(to[j]) + sums[j]);
  }
}

}  // namespace

void perform(const NormForward& call) {
  with_type(call.dtype, [&](auto type) {
    for (std::int64_t row = 0; row < call.rows; ++row) {
      forward<decltype(type)>(call, row);
    }
  });
}

void perform(const NormBackward& call) {
  if (call.rows == 0) return;
  with_type(call.dtype, [&](auto type) {
    using T = decltype(type);
    const auto columns = static_cast<std::size_t>(call.columns);
    Columns sums{std::vector<double>(columns),
                 std::vector<double>(call.d_bias == nullptr ? 0 : columns)};
    for (std::int64_t row = 0; row < call.rows; ++row) {
      backward<T>(call, row, sums);
    }
    gain(out<Stat<T>>(call.d_weight), sums.weight);
    gain(out<Stat<T>>(call.d_bias), sums.bias);
  });
}

void perform(const BiasGradient& call) {
  if (call.rows == 0 || call.columns == 0) return;
  with_type(call.dtype, [&](auto type) {
    using T = decltype(type);
    std::vector<double> sums(static_cast<std::size_t>(call.columns));
    for (std::int64_t row = 0; row < call.rows; ++row) {
      const T* d_out = in<T>(call.d_out) + row * call.columns;
      for (std::size_t j = 0; j < sums.size(); ++j) {
        sums[j] += static_cast<double>(load(d_out[j]));
      }
    }
    gain(out<Stat<T>>(call.d_bias), sums);
  });
}

}  // namespace troupe::kernels::cpu
