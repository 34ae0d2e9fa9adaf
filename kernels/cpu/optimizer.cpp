#include <cmath>

#include "kernels/cpu/bodies.h"
#include "kernels/cpu/types.h"

namespace troupe::kernels::cpu {
namespace {

template <typename T>
void step(const AdamW& call) {
  using S = Stat<T>;
  const auto real = [](double value) { return static_cast<S>(value); };
  const auto t = static_cast<double>(call.step);
  const double scale =
      call.gradient_scale *
      (call.clip == nullptr ? 1 : static_cast<double>(*in<S>(call.clip)));
  const S beta1 = real(call.beta1), beta2 = real(call.beta2);
  const S rest1 = real(1 - call.beta1), rest2 = real(1 - call.beta2);
  const S correct1 = real(1 / (1 - std::pow(call.beta1, t)));
  const S correct2 = real(1 / (1 - std::pow(call.beta2, t)));
  const S rate = real(call.rate), decay = real(call.decay);
  const S epsilon = real(call.epsilon), factor = real(scale);
  const S* gradient = in<S>(call.gradient);
  S* master = out<S>(call.master);
  S* m = out<S>(call.m);
  S* v = out<S>(call.v);
  T* copy = out<T>(call.copy);
  for (std::int64_t i = 0; i < call.elements; ++i) {
    const S g = gradient[i] * factor;
    m[i] = beta1 * m[i] + rest1 * g;
    v[i] = beta2 * v[i] + rest2 * g * g;
    const S move = m[i] * correct1 / (std::sqrt(v[i] * correct2) + epsilon);
    master[i] -= rate * (move + decay * master[i]);
    if (copy != nullptr) store(copy[i], master[i]);
  }
}

}  // namespace

void perform(const AdamW& call) {
  with_type(call.dtype, [&](auto type) { step<decltype(type)>(call); });
}

void perform(const SquareSum& call) {
  with_type(call.dtype, [&](auto type) {
    using T = decltype(type);
    const T* data = in<T>(call.data);
    *out<double>(call.sum) += sum_of(call.elements, [&](std::int64_t i) {
      const auto x = static_cast<double>(load(data[i]));
      return x * x;
    });
  });
}

void perform(const ClipFactor& call) {
  const double norm = std::sqrt(*in<double>(call.sum)) * call.scale;
  // NaN stays NaN; a norm of 0 needs no clipping.
  const double factor =
      call.limit == 0 || norm <= call.limit ? 1 : call.limit / norm;
  with_type(statistics_type(call.dtype), [&](auto type) {
    using S = Stat<decltype(type)>;
    *out<S>(call.clip) = static_cast<S>(factor);
  });
}

}  // namespace troupe::kernels::cpu
