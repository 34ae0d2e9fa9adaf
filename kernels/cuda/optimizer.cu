// The optimizer's step, casts, and what gradient clipping needs.
#include <cmath>
#include <type_traits>

#include "kernels/cuda/each.cuh"
#include "kernels/scratch.h"

namespace troupe::kernels::cuda {
namespace {

constexpr unsigned kSumThreads = 256;

// A body's copy type where there is no copy.
struct NoCopy {};

template <typename T>
struct AdamBody {
  static constexpr int kUnroll = 2;
  const float* gradient;
  float* master;
  float* m;
  float* v;
  T* copy;
  const float* clip;
  float gradient_scale, beta1, beta2, epsilon, decay_rate;
  float rate_1;  // rate / (1 - beta1^t)
  float root_2;  // 1 / sqrt(1 - beta2^t)

  template <int W>
  struct In {
    Pack<float, W> g, w, m, v;
  };
  template <int W>
  __device__ In<W> load(std::int64_t, std::int64_t c) const {
    return {cuda::load<W>(gradient + c), cuda::load<W>(master + c),
            cuda::load<W>(m + c), cuda::load<W>(v + c)};
  }
  template <int W>
  __device__ void store(std::int64_t, std::int64_t c, In<W> in) const {
    const float scale =
        clip == nullptr ? gradient_scale : gradient_scale * __ldg(clip);
#pragma unroll
    for (int i = 0; i < W; ++i) {
      const float g = in.g.v[i] * scale;
      in.m.v[i] = beta1 * in.m.v[i] + (1.0F - beta1) * g;
      in.v.v[i] = beta2 * in.v.v[i] + (1.0F - beta2) * g * g;
      const float step =
          rate_1 * in.m.v[i] / (sqrtf(in.v.v[i]) * root_2 + epsilon);
      in.w.v[i] -= step + decay_rate * in.w.v[i];
    }
    cuda::store<W>(master + c, in.w);
    cuda::store<W>(m + c, in.m);
    cuda::store<W>(v + c, in.v);
    if constexpr (!std::is_same_v<T, NoCopy>) {
      Pack<T, W> out;
#pragma unroll
      for (int i = 0; i < W; ++i) out.v[i] = from_float<T>(in.w.v[i]);
      cuda::store<W>(copy + c, out);
    }
  }
};

template <typename T>
Result<void> adam(const AdamW& call, const Device& device) {
  AdamBody<T> body{};
  body.gradient = static_cast<const float*>(call.gradient);
  body.master = static_cast<float*>(call.master);
  body.m = static_cast<float*>(call.m);
  body.v = static_cast<float*>(call.v);
  body.copy = static_cast<T*>(call.copy);
  body.clip = static_cast<const float*>(call.clip);
  const auto t = static_cast<double>(call.step);
  body.gradient_scale = static_cast<float>(call.gradient_scale);
  body.beta1 = static_cast<float>(call.beta1);
  body.beta2 = static_cast<float>(call.beta2);
  body.epsilon = static_cast<float>(call.epsilon);
  body.decay_rate = static_cast<float>(call.rate * call.decay);
  body.rate_1 = static_cast<float>(call.rate / (1 - std::pow(call.beta1, t)));
  body.root_2 = static_cast<float>(1 / std::sqrt(1 - std::pow(call.beta2, t)));
  const bool wide =
      all_aligned(call.gradient, call.master, call.m, call.v, call.copy);
  return each<4>(body, 1, call.elements, wide, device);
}

__device__ inline float number(float x) { return x; }
__device__ inline float number(bf16 x) { return to_float(x); }
__device__ inline double number(double x) { return x; }

template <typename T, typename S>
__device__ inline T rounded(S x) {
  if constexpr (std::is_same_v<T, double>) {
    return x;
  } else {
    return from_float<T>(static_cast<float>(x));
  }
}

template <typename From, typename To, bool accumulate>
struct CastBody {
  static constexpr int kUnroll = 4;
  using S = std::conditional_t<std::is_same_v<From, double> ||
                                   std::is_same_v<To, double>,
                               double, float>;
  const From* in;
  To* out;
  S scale;

  template <int W>
  struct In {
    Pack<From, W> x;
    Pack<To, W> before;
  };
  template <int W>
  __device__ In<W> load(std::int64_t, std::int64_t c) const {
    In<W> all;
    all.x = cuda::load<W>(in + c);
    if constexpr (accumulate) all.before = cuda::load<W>(out + c);
    return all;
  }
  template <int W>
  __device__ void store(std::int64_t, std::int64_t c, const In<W>& all) const {
    Pack<To, W> y;
#pragma unroll
    for (int i = 0; i < W; ++i) {
      S value = scale * static_cast<S>(number(all.x.v[i]));
      if constexpr (accumulate) {
        value += static_cast<S>(number(all.before.v[i]));
      }
      y.v[i] = rounded<To>(value);
    }
    cuda::store<W>(out + c, y);
  }
};

template <typename From, typename To, bool accumulate>
Result<void> cast(const Cast& call, const Device& device) {
  using Body = CastBody<From, To, accumulate>;
  const Body body{static_cast<const From*>(call.in), static_cast<To*>(call.out),
                  static_cast<typename Body::S>(call.scale)};
  // 16 bytes of the narrower type.
  constexpr int width = kWide<From> > kWide<To> ? kWide<From> : kWide<To>;
  return each<width>(body, 1, call.elements, all_aligned(call.in, call.out),
                     device);
}

template <int W, typename T>
__device__ double square_sum(const Pack<T, W>& pack) {
  double sum = 0;
#pragma unroll
  for (int i = 0; i < W; ++i) {
    const double x = static_cast<double>(to_float(pack.v[i]));
    sum += x * x;
  }
  return sum;
}

// One partial sum per block, in an order that the sizes alone decide.
template <typename T, int W>
__global__ void __launch_bounds__(kSumThreads)
    square_sum_kernel(const T* data, std::int64_t elements, double* partial) {
  TROUPE_SHARED(double, scratch, 32);
  constexpr int unroll = 4;
  const std::int64_t whole = elements / W * W;
  const std::int64_t step =
      static_cast<std::int64_t>(gridDim.x) * blockDim.x * W;
  const std::int64_t mine =
      static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  double sum = 0;
  for (std::int64_t first = mine * W; first < whole; first += unroll * step) {
    Pack<T, W> in[unroll];
#pragma unroll
    for (int u = 0; u < unroll; ++u) {
      if (first + u * step < whole) in[u] = load<W>(data + first + u * step);
    }
#pragma unroll
    for (int u = 0; u < unroll; ++u) {
      if (first + u * step < whole) sum += square_sum<W>(in[u]);
    }
  }
  if (whole + mine < elements) sum += square_sum(load<1>(data + whole + mine));
  sum = row_sum(sum, scratch);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

__global__ void add_partials_kernel(const double* partial, int count,
                                    double* sum) {
  TROUPE_SHARED(double, scratch, 32);
  double mine = 0;
  for (int i = static_cast<int>(threadIdx.x); i < count;
       i += static_cast<int>(blockDim.x)) {
    mine += partial[i];
  }
  mine = row_sum(mine, scratch);
  if (threadIdx.x == 0) *sum += mine;
}

__global__ void clip_kernel(const double* sum, double limit, double scale,
                            float* clip) {
  const double norm = sqrt(*sum) * scale;
  const bool over = limit > 0 && norm > limit;
  *clip = over ? static_cast<float>(limit / norm) : 1.0F;
}

}  // namespace

Result<void> launch(const AdamW& call, const Device& device) {
  if (call.dtype != DType::bf16 && call.dtype != DType::fp32) {
    return no_kernel("adamw", call.dtype);
  }
  if (call.copy == nullptr) return adam<NoCopy>(call, device);
  return by_type(call.dtype, "adamw",
                 [&](auto type) { return adam<decltype(type)>(call, device); });
}

Result<void> launch(const Cast& call, const Device& device) {
  // fp64 only here: for numbers on their way from and to the host.
  const auto by_any_type = [](DType dtype, auto&& body) -> Result<void> {
    if (dtype == DType::fp64) return body(double{});
    return by_type(dtype, "cast", body);
  };
  return by_any_type(call.from, [&](auto from) {
    return by_any_type(call.to, [&](auto to) {
      using From = decltype(from);
      using To = decltype(to);
      return call.accumulate ? cast<From, To, true>(call, device)
                             : cast<From, To, false>(call, device);
    });
  });
}

Result<void> launch(const SquareSum& call, const Device& device) {
  if (call.elements == 0) return {};
  return by_type(call.dtype, "square_sum", [&](auto type) -> Result<void> {
    using T = decltype(type);
    const auto* data = static_cast<const T*>(call.data);
    auto* partial = static_cast<double*>(call.workspace);
    const unsigned blocks = clamp_grid(
        divide_up(call.elements, std::int64_t{kSumThreads} * kWide<T>),
        kSumParts);
    TRY_DO(start(aligned(data) ? &square_sum_kernel<T, kWide<T>>
                               : &square_sum_kernel<T, 1>,
                 blocks, kSumThreads, 0, device, data, call.elements, partial));
    return start(&add_partials_kernel, 1, kSumThreads, 0, device, partial,
                 static_cast<int>(blocks), static_cast<double*>(call.sum));
  });
}

Result<void> launch(const ClipFactor& call, const Device& device) {
  if (statistics_type(call.dtype) != DType::fp32) {
    return no_kernel("clip_factor", call.dtype);
  }
  return start(&clip_kernel, 1, 1, 0, device,
               static_cast<const double*>(call.sum), call.limit, call.scale,
               static_cast<float*>(call.clip));
}

}  // namespace troupe::kernels::cuda
