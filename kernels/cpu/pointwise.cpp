#include <cmath>
#include <numbers>
#include <vector>

#include "kernels/cpu/bodies.h"
#include "kernels/cpu/types.h"

namespace troupe::kernels::cpu {
namespace {

/// A function and its derivative at x, in S.
template <typename S>
struct Silu {
  static S value(S x) { return x / (1 + std::exp(-x)); }
  static S slope(S x) {
    const S gate = 1 / (1 + std::exp(-x));
    return gate * (1 + x * (1 - gate));
  }
};
template <typename S>
struct Gelu {
  static S phi(S x) {
    constexpr S kHalfRoot = std::numbers::sqrt2_v<S> / 2;
    return std::erfc(-x * kHalfRoot) / 2;
  }
  static S value(S x) { return x * phi(x); }
  static S slope(S x) {
    constexpr S kDensity =
        std::numbers::inv_sqrtpi_v<S> * std::numbers::sqrt2_v<S> / 2;
    return phi(x) + x * kDensity * std::exp(-x * x / 2);
  }
};
// Source: Hendrycks and Gimpel, arXiv 1606.08415, section 2.
template <typename S>
struct GeluTanh {
  static constexpr S kCubic = static_cast<S>(0.044715);
  static constexpr S kRoot =
      std::numbers::inv_sqrtpi_v<S> * std::numbers::sqrt2_v<S>;
  static S bend(S x) { return std::tanh(kRoot * (x + kCubic * x * x * x)); }
  static S value(S x) { return x / 2 * (1 + bend(x)); }
  static S slope(S x) {
    const S t = bend(x);
    const S inner = kRoot * (1 + 3 * kCubic * x * x);
    // Far out 1 - t^2 is 0 and `inner` may be infinite.
    const S rest = 1 - t * t;
    return (1 + t) / 2 + (rest == 0 ? S{} : x / 2 * rest * inner);
  }
};
// Written so that NaN stays NaN.
template <typename S>
struct Relu {
  static S value(S x) { return x <= 0 ? S{} : x; }
  static S slope(S x) { return x <= 0 ? S{} : S{1}; }
};

template <typename S, typename F>
void with_function(Pointwise function, F&& f) {
  switch (function) {
    case Pointwise::silu:
      return f(Silu<S>{});
    case Pointwise::gelu:
      return f(Gelu<S>{});
    case Pointwise::gelu_tanh:
      return f(GeluTanh<S>{});
    case Pointwise::relu:
      return f(Relu<S>{});
  }
}

template <typename T, typename F>
void forward(const ActivationForward& c, F function) {
  const std::int64_t n = c.columns;
  for (std::int64_t row = 0; row < c.rows; ++row) {
    const T* x = in<T>(c.in) + row * (c.gated ? 2 * n : n);
    T* y = out<T>(c.out) + row * n;
    for (std::int64_t j = 0; j < n; ++j) {
      const Wide<T> value = function.value(load(x[j]));
      store(y[j], c.gated ? value * load(x[n + j]) : value);
    }
  }
}

template <typename T, typename F>
void backward(const ActivationBackward& c, F function) {
  const std::int64_t n = c.columns;
  for (std::int64_t row = 0; row < c.rows; ++row) {
    const std::int64_t at = row * (c.gated ? 2 * n : n);
    const T* x = in<T>(c.in) + at;
    T* d_x = out<T>(c.d_in) + at;
    const T* d_out = in<T>(c.d_out) + row * n;
    for (std::int64_t j = 0; j < n; ++j) {
      const Wide<T> d = load(d_out[j]);
      const Wide<T> slope = function.slope(load(x[j]));
      store(d_x[j], c.gated ? d * slope * load(x[n + j]) : d * slope);
      if (c.gated) store(d_x[n + j], d * function.value(load(x[j])));
    }
  }
}

}  // namespace

void perform(const ActivationForward& call) {
  with_type(call.dtype, [&](auto type) {
    using T = decltype(type);
    with_function<Wide<T>>(call.function, [&](auto f) { forward<T>(call, f); });
  });
}

void perform(const ActivationBackward& call) {
  with_type(call.dtype, [&](auto type) {
    using T = decltype(type);
    with_function<Wide<T>>(call.function,
                           [&](auto f) { backward<T>(call, f); });
  });
}

void perform(const Rotary& call) {
  const std::int64_t half = call.head_dim / 2;
  const std::int64_t ld = call.ld == 0 ? call.heads * call.head_dim : call.ld;
  // Angles in double: a float is too coarse for late positions.
  const auto pairs = static_cast<std::size_t>(half);
  std::vector<double> frequency(pairs), cosine(pairs), sine(pairs);
  for (std::size_t i = 0; i < pairs; ++i) {
    const double radians =
        std::pow(call.base, -2.0 * static_cast<double>(i) /
                                static_cast<double>(call.head_dim));
    constexpr double kTurn = 2 * std::numbers::pi;
    frequency[i] = call.scaling.factor == 1
                       ? radians
                       : scaled_turns(radians / kTurn, call.scaling) * kTurn;
  }
  with_type(call.dtype, [&](auto type) {
    using T = decltype(type);
    using S = Wide<T>;
    for (std::int64_t token = 0; token < call.tokens; ++token) {
      for (std::size_t i = 0; i < pairs; ++i) {
        const double angle = call.positions[token] * frequency[i];
        cosine[i] = std::cos(angle);
        sine[i] = call.inverse ? -std::sin(angle) : std::sin(angle);
      }
      for (std::int64_t head = 0; head < call.heads; ++head) {
        T* low = out<T>(call.data) + token * ld + head * call.head_dim;
        T* high = low + half;
        for (std::size_t i = 0; i < pairs; ++i) {
          const S x = load(low[i]), y = load(high[i]);
          const S c = static_cast<S>(cosine[i]), s = static_cast<S>(sine[i]);
          store(low[i], x * c - y * s);
          store(high[i], y * c + x * s);
        }
      }
    }
  });
}

void perform(const Add& call) {
  with_type(call.dtype, [&](auto type) {
    using T = decltype(type);
    const T* a = in<T>(call.a);
    const T* b = in<T>(call.b);
    T* to = out<T>(call.out);
    for (std::int64_t i = 0; i < call.elements; ++i) {
      store(to[i], load(a[i]) + load(b[i]));
    }
  });
}

void perform(const BiasAdd& call) {
  with_type(call.dtype, [&](auto type) {
    using T = decltype(type);
    const T* bias = in<T>(call.bias);
    for (std::int64_t row = 0; row < call.rows; ++row) {
      T* data = out<T>(call.data) + row * call.columns;
      for (std::int64_t j = 0; j < call.columns; ++j) {
        store(data[j], load(data[j]) + load(bias[j]));
      }
    }
  });
}

}  // namespace troupe::kernels::cpu
