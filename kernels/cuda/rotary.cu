// Rotary positions. The angles of a token are the same for all heads: a block
// forms them once, in fp64 until they are within one turn, then turns every
// head of its tokens.
#include <cmath>

#include "kernels/cuda/vector.cuh"

namespace troupe::kernels::cuda {
namespace {

constexpr unsigned kThreads = 256;
// Tokens of a block at a time, so that few heads still give all threads work.
constexpr int kTokens = 4;

template <typename T>
struct Operands {
  T* data;
  const std::int32_t* positions;
  std::int64_t tokens, ld;
  int heads, half;
  double log2_base;
  RotaryScaling scaling;
  bool inverse;
};

// cos and sin of each pair's angle for kTokens tokens from `first`.
template <typename T>
__device__ void angles(const Operands<T>& o, std::int64_t first,
                       const double* turns, float2* turn) {
  for (int i = static_cast<int>(threadIdx.x); i < kTokens * o.half;
       i += static_cast<int>(blockDim.x)) {
    const std::int64_t token = first + i / o.half;
    if (token >= o.tokens) continue;
    const double all = turns[i % o.half] * o.positions[token];
    float s, c;
    sincospif(static_cast<float>((all - rint(all)) * 2), &s, &c);
    turn[i] = make_float2(c, o.inverse ? -s : s);
  }
}

template <typename T, int W>
__device__ void turn_pack(T* low, T* high, const float2* turn) {
  Pack<T, W> a = load<W>(low), b = load<W>(high);
#pragma unroll
  for (int j = 0; j < W; ++j) {
    const float x = to_float(a.v[j]), y = to_float(b.v[j]);
    a.v[j] = from_float<T>(x * turn[j].x - y * turn[j].y);
    b.v[j] = from_float<T>(y * turn[j].x + x * turn[j].y);
  }
  store<W>(low, a);
  store<W>(high, b);
}

template <typename T, int W>
__global__ void __launch_bounds__(kThreads) rotary_kernel(Operands<T> o) {
  TROUPE_DYNAMIC_SHARED(double, turns);  // per position, of each pair
  auto* turn = reinterpret_cast<float2*>(turns + o.half);
  constexpr double one_over_two_pi = 0.159154943091895335769;
  for (int i = static_cast<int>(threadIdx.x); i < o.half;
       i += static_cast<int>(blockDim.x)) {
    turns[i] = scaled_turns(exp2(-o.log2_base * i / o.half) * one_over_two_pi,
                            o.scaling);
  }
  const int packs = o.half / W;
  const int work = kTokens * o.heads * packs;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kTokens;
  for (std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kTokens;
       first < o.tokens; first += step) {
    __syncthreads();
    angles(o, first, turns, turn);
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < work;
         i += static_cast<int>(blockDim.x)) {
      const int pack = i % packs, head = i / packs % o.heads;
      const int token = i / packs / o.heads;
      if (first + token >= o.tokens) continue;
      T* low = o.data + (first + token) * o.ld +
               static_cast<std::int64_t>(head) * 2 * o.half + pack * W;
      turn_pack<T, W>(low, low + o.half, turn + token * o.half + pack * W);
    }
  }
}

}  // namespace

Result<void> launch(const Rotary& call, const Device& device) {
  if (call.tokens == 0 || call.heads == 0 || call.head_dim == 0) return {};
  return by_type(call.dtype, "rotary", [&](auto type) {
    using T = decltype(type);
    const auto half = static_cast<int>(call.head_dim / 2);
    const std::int64_t ld = call.ld == 0 ? call.heads * call.head_dim : call.ld;
    const Operands<T> o{static_cast<T*>(call.data),
                        call.positions,
                        call.tokens,
                        ld,
                        static_cast<int>(call.heads),
                        half,
                        std::log2(call.base),
                        call.scaling,
                        call.inverse};
    const bool wide =
        aligned(call.data) && ld % kWide<T> == 0 && half % kWide<T> == 0;
    const unsigned grid = clamp_grid(divide_up(call.tokens, kTokens),
                                     std::int64_t{8} * device.multiprocessors);
    const std::size_t shared = static_cast<std::size_t>(half) *
                               (sizeof(double) + kTokens * sizeof(float2));
    return start(wide ? &rotary_kernel<T, kWide<T>> : &rotary_kernel<T, 1>,
                 grid, kThreads, shared, device, o);
  });
}

}  // namespace troupe::kernels::cuda
