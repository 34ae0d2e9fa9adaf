// The names of device.cuh as nvcc knows them. Instructions that CUDA C++ has
// no word for are inline PTX here; the host's emulation of each is in
// tests/kernels/cuda_on_host/matrix.h.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

/// An array in shared memory, of a size known when compiling.
#define TROUPE_SHARED(type, name, count) __shared__ type name[count]
/// The shared memory asked for at launch, as `type*`; aligned to 128 bytes.
#define TROUPE_DYNAMIC_SHARED(type, name)                           \
  extern __shared__ __align__(128) unsigned char troupe_dynamic_[]; \
  type* name = reinterpret_cast<type*>(troupe_dynamic_)

namespace troupe::kernels::cuda {

/// One store of 16 or 8 bytes, aligned to its size. Left to itself the
/// compiler takes a vector store apart when its parts were made apart.
__device__ inline void store_16(void* at, uint4 x) {
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(
                   __cvta_generic_to_global(at)),
               "r"(x.x), "r"(x.y), "r"(x.z), "r"(x.w)
               : "memory");
}
__device__ inline void store_8(void* at, uint2 x) {
  asm volatile(
      "st.global.v2.u32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(at)),
      "r"(x.x), "r"(x.y)
      : "memory");
}

/// Whether the last launch was accepted; raises the shared-memory limit.
Result<void> launched();
Result<void> allow_shared(const void* kernel, std::size_t bytes);

/// Starts `kernel` on the device's stream; an empty grid is no work.
template <typename... P, typename... A>
Result<void> start(void (*kernel)(P...), dim3 grid, dim3 block,
                   std::size_t shared, const Device& device, A... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return {};
  if (shared > (48 << 10)) {
    TRY_DO(allow_shared(reinterpret_cast<const void*>(kernel), shared));
  }
  kernel<<<grid, block, shared, static_cast<cudaStream_t>(device.stream)>>>(
      static_cast<P>(arguments)...);
  return launched();
}

/// c += a b for one warp: a is 16x16 row-major, b 16x8 column-major, both
/// bf16; c 16x8 fp32. Fragments as in the PTX ISA, mma.m16n8k16.
__device__ inline void mma_16x8x16(float (&c)[4], const std::uint32_t (&a)[4],
                                   const std::uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/// Four 8x8 matrices of 16-bit values from shared memory: lane l gives the
/// address of row l % 8 of matrix l / 8 (16 bytes, aligned), and gets in r[i]
/// elements 2(l % 4) and the next of row l / 4 of matrix i.
__device__ inline void load_matrix_x4(std::uint32_t (&r)[4], const void* row) {
  const auto at = static_cast<unsigned>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(at)
               : "memory");
}
/// The same with each matrix transposed on the way.
__device__ inline void load_matrix_x4_transposed(std::uint32_t (&r)[4],
                                                 const void* row) {
  const auto at = static_cast<unsigned>(__cvta_generic_to_shared(row));
  asm volatile(
      "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
      : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
      : "r"(at)
      : "memory");
}

/// Copies 16 bytes from device to shared memory in the background, or writes
/// zeros there where not `valid` (nothing is read then). Both aligned to 16.
__device__ inline void copy_async_16(void* shared, const void* global,
                                     bool valid = true) {
  const auto at = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(at),
               "l"(__cvta_generic_to_global(global)), "r"(valid ? 16 : 0)
               : "memory");
}
/// Closes a group of background copies.
__device__ inline void copy_async_commit() {
  asm volatile("cp.async.commit_group;\n" ::: "memory");
}
/// Waits until at most `newest` of this thread's groups are unfinished. Other
/// threads' copies need a barrier after it.
template <int newest>
__device__ inline void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(newest) : "memory");
}

/// A clock of the whole GPU; its steps may be as long as a microsecond.
__device__ inline std::uint64_t nanoseconds() {
  std::uint64_t now;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now)::"memory");
  return now;
}

/// 2^x by the special-function unit (relative error about 2^-22).
__device__ inline float fast_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace troupe::kernels::cuda
