// CUDA C++ for g++: the keywords, types and functions that kernels use. A
// kernel compiled with this runs on `machine.h`.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "tests/kernels/cuda_on_host/bfloat.h"
#include "tests/kernels/cuda_on_host/machine.h"
#include "tests/kernels/cuda_on_host/matrix.h"
#include "tests/kernels/cuda_on_host/warp.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) alignas(n)

#define threadIdx (::troupe::on_host::where.thread)
#define blockIdx (::troupe::on_host::where.block)
#define blockDim (::troupe::on_host::where.block_size)
#define gridDim (::troupe::on_host::where.grid_size)

#define TROUPE_SHARED(type, name, count) \
  static const char name##_site_ = 0;    \
  type* name = static_cast<type*>(       \
      ::troupe::on_host::static_shared(&name##_site_, sizeof(type) * (count)))
#define TROUPE_DYNAMIC_SHARED(type, name) \
  type* name = static_cast<type*>(::troupe::on_host::dynamic_shared())

struct alignas(8) float2 {
  float x, y;
};
struct float3 {
  float x, y, z;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) double2 {
  double x, y;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) {
  return {x, y, z, w};
}
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) {
  return {x, y, z, w};
}

inline float2 __bfloat1622float2(__nv_bfloat162 pair) {
  return {__low2float(pair), __high2float(pair)};
}
inline __nv_bfloat162 __float22bfloat162_rn(float2 pair) {
  return __floats2bfloat162_rn(pair.x, pair.y);
}

// Loads and stores with cache hints are loads and stores.
template <typename T>
T __ldg(const T* at) {
  return *at;
}
template <typename T>
T __ldcs(const T* at) {
  return *at;
}
template <typename T>
void __stcs(T* at, T value) {
  *at = value;
}

inline unsigned __float_as_uint(float value) {
  unsigned bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}
inline float __uint_as_float(unsigned bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __clz(int bits) {
  return bits == 0 ? 32 : __builtin_clz(static_cast<unsigned>(bits));
}

inline float rsqrtf(float x) { return 1.0F / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1.0F / x; }
inline void sincospif(float x, float* sine, float* cosine) {
  constexpr double pi = 3.14159265358979323846;
  *sine = static_cast<float>(std::sin(pi * static_cast<double>(x)));
  *cosine = static_cast<float>(std::cos(pi * static_cast<double>(x)));
}
using std::max;
using std::min;

namespace troupe::kernels::cuda {
using on_host::start;
inline float fast_exp2(float x) { return std::exp2(x); }
inline std::uint64_t nanoseconds() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
}
inline void store_16(void* at, uint4 x) { *static_cast<uint4*>(at) = x; }
inline void store_8(void* at, uint2 x) { *static_cast<uint2*>(at) = x; }
}  // namespace troupe::kernels::cuda
