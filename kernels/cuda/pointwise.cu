// Operators on each element by itself.
#include "kernels/cuda/each.cuh"

namespace troupe::kernels::cuda {
namespace {

template <typename T>
struct AddBody {
  static constexpr int kUnroll = 4;
  const T* a;
  const T* b;
  T* out;

  template <int W>
  struct In {
    Pack<T, W> a, b;
  };
  template <int W>
  __device__ In<W> load(std::int64_t, std::int64_t c) const {
    return {cuda::load<W>(a + c), cuda::load<W>(b + c)};
  }
  template <int W>
  __device__ void store(std::int64_t, std::int64_t c, const In<W>& in) const {
    Pack<T, W> sum;
#pragma unroll
    for (int i = 0; i < W; ++i) {
      sum.v[i] = from_float<T>(to_float(in.a.v[i]) + to_float(in.b.v[i]));
    }
    cuda::store<W>(out + c, sum);
  }
};

template <typename T>
struct BiasBody {
  static constexpr int kUnroll = 2;
  const T* bias;
  T* data;
  std::int64_t columns;

  template <int W>
  struct In {
    Pack<T, W> x, bias;
  };
  template <int W>
  __device__ In<W> load(std::int64_t r, std::int64_t c) const {
    return {cuda::load<W>(data + r * columns + c), cuda::load<W>(bias + c)};
  }
  template <int W>
  __device__ void store(std::int64_t r, std::int64_t c, const In<W>& in) const {
    Pack<T, W> sum;
#pragma unroll
    for (int i = 0; i < W; ++i) {
      sum.v[i] = from_float<T>(to_float(in.x.v[i]) + to_float(in.bias.v[i]));
    }
    cuda::store<W>(data + r * columns + c, sum);
  }
};

// A function with its derivative at x.
struct Curve {
  float value, slope;
};

// 1 / (1 + exp(-x)): exp of a large argument is infinite, which gives 0.
__device__ inline float logistic(float x) { return 1.0F / (1.0F + __expf(-x)); }

template <Pointwise function>
__device__ inline Curve curve(float x) {
  if constexpr (function == Pointwise::silu) {
    const float s = logistic(x);
    return {x * s, s * (1.0F + x * (1.0F - s))};
  } else if constexpr (function == Pointwise::gelu) {
    // Phi(x), and its density exp(-x^2 / 2) / sqrt(2 pi).
    const float phi = 0.5F * (1.0F + erff(x * 0.70710678F));
    return {x * phi, phi + x * 0.39894228F * __expf(-0.5F * x * x)};
  } else if constexpr (function == Pointwise::gelu_tanh) {
    // x (1 + tanh(u)) / 2 with u = sqrt(2 / pi) (x + 0.044715 x^3); the
    // factor is the logistic function of 2u, which cancels nothing.
    const float twice = 1.59576912F * (x + 0.044715F * x * x * x);
    const float twice_slope = 1.59576912F * (1.0F + 3 * 0.044715F * x * x);
    const float s = logistic(twice);
    return {x * s, s + x * s * (1.0F - s) * twice_slope};
  } else {
    return {x > 0 ? x : 0.0F, x > 0 ? 1.0F : 0.0F};
  }
}

template <typename T, Pointwise function, bool gated>
struct ForwardBody {
  static constexpr int kUnroll = 2;
  const T* in;
  T* out;
  std::int64_t columns;

  template <int W>
  struct In {
    Pack<T, W> x, up;
  };
  template <int W>
  __device__ In<W> load(std::int64_t r, std::int64_t c) const {
    In<W> all;
    const T* at = in + r * columns * (gated ? 2 : 1) + c;
    all.x = cuda::load<W>(at);
    if constexpr (gated) all.up = cuda::load<W>(at + columns);
    return all;
  }
  template <int W>
  __device__ void store(std::int64_t r, std::int64_t c,
                        const In<W>& all) const {
    Pack<T, W> y;
#pragma unroll
    for (int i = 0; i < W; ++i) {
      float value = curve<function>(to_float(all.x.v[i])).value;
      if constexpr (gated) value *= to_float(all.up.v[i]);
      y.v[i] = from_float<T>(value);
    }
    cuda::store<W>(out + r * columns + c, y);
  }
};

template <typename T, Pointwise function, bool gated>
struct BackwardBody {
  static constexpr int kUnroll = 2;
  const T* in;
  const T* d_out;
  T* d_in;
  std::int64_t columns;

  template <int W>
  struct In {
    Pack<T, W> x, up, dy;
  };
  template <int W>
  __device__ In<W> load(std::int64_t r, std::int64_t c) const {
    In<W> all;
    const T* at = in + r * columns * (gated ? 2 : 1) + c;
    all.x = cuda::load<W>(at);
    if constexpr (gated) all.up = cuda::load<W>(at + columns);
    all.dy = cuda::load<W>(d_out + r * columns + c);
    return all;
  }
  template <int W>
  __device__ void store(std::int64_t r, std::int64_t c,
                        const In<W>& all) const {
    Pack<T, W> dx, d_up;
#pragma unroll
    for (int i = 0; i < W; ++i) {
      const Curve f = curve<function>(to_float(all.x.v[i]));
      const float dy = to_float(all.dy.v[i]);
      float slope = f.slope;
      if constexpr (gated) {
        slope *= to_float(all.up.v[i]);
        d_up.v[i] = from_float<T>(dy * f.value);
      }
      dx.v[i] = from_float<T>(dy * slope);
    }
    T* at = d_in + r * columns * (gated ? 2 : 1) + c;
    cuda::store<W>(at, dx);
    if constexpr (gated) cuda::store<W>(at + columns, d_up);
  }
};

// Calls `body` with the function and whether it is gated as constants.
template <typename F>
Result<void> by_function(Pointwise function, bool gated, F&& body) {
  const auto with = [&](auto f) {
    return gated ? body(f, std::true_type{}) : body(f, std::false_type{});
  };
  switch (function) {
    case Pointwise::silu:
      return with(std::integral_constant<Pointwise, Pointwise::silu>{});
    case Pointwise::gelu:
      return with(std::integral_constant<Pointwise, Pointwise::gelu>{});
    case Pointwise::gelu_tanh:
      return with(std::integral_constant<Pointwise, Pointwise::gelu_tanh>{});
    case Pointwise::relu:
      return with(std::integral_constant<Pointwise, Pointwise::relu>{});
  }
  return {};
}

}  // namespace

Result<void> launch(const Add& call, const Device& device) {
  return by_type(call.dtype, "add", [&](auto type) {
    using T = decltype(type);
    const AddBody<T> body{static_cast<const T*>(call.a),
                          static_cast<const T*>(call.b),
                          static_cast<T*>(call.out)};
    return each<kWide<T>>(body, 1, call.elements,
                          all_aligned(call.a, call.b, call.out), device);
  });
}

Result<void> launch(const BiasAdd& call, const Device& device) {
  return by_type(call.dtype, "bias_add", [&](auto type) {
    using T = decltype(type);
    const BiasBody<T> body{static_cast<const T*>(call.bias),
                           static_cast<T*>(call.data), call.columns};
    return each<kWide<T>>(
        body, call.rows, call.columns,
        all_aligned(call.bias, call.data) && call.columns % kWide<T> == 0,
        device);
  });
}

Result<void> launch(const ActivationForward& call, const Device& device) {
  return by_type(call.dtype, "activation_forward", [&](auto type) {
    using T = decltype(type);
    return by_function(call.function, call.gated, [&](auto f, auto gated) {
      const ForwardBody<T, decltype(f)::value, decltype(gated)::value> body{
          static_cast<const T*>(call.in), static_cast<T*>(call.out),
          call.columns};
      return each<kWide<T>>(
          body, call.rows, call.columns,
          all_aligned(call.in, call.out) && call.columns % kWide<T> == 0,
          device);
    });
  });
}

Result<void> launch(const ActivationBackward& call, const Device& device) {
  return by_type(call.dtype, "activation_backward", [&](auto type) {
    using T = decltype(type);
    return by_function(call.function, call.gated, [&](auto f, auto gated) {
      const BackwardBody<T, decltype(f)::value, decltype(gated)::value> body{
          static_cast<const T*>(call.in), static_cast<const T*>(call.d_out),
          static_cast<T*>(call.d_in), call.columns};
      return each<kWide<T>>(body, call.rows, call.columns,
                            all_aligned(call.in, call.d_out, call.d_in) &&
                                call.columns % kWide<T> == 0,
                            device);
    });
  });
}

}  // namespace troupe::kernels::cuda
