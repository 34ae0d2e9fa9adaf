// The machine that runs kernels on the CPU: what it computes, and what it
// must notice. A kernel here is an ordinary function.
#include <gmock/gmock.h>

#include <numeric>
#include <vector>

#include "kernels/cuda/device.cuh"

namespace troupe::kernels::cuda {
namespace {

using testing::HasSubstr;

// Sums `n` numbers by warps, then across them.
__global__ void sum_all(const float* in, float* out, int n) {
  TROUPE_SHARED(float, partial, 32);
  float sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < n;
       i += static_cast<int>(blockDim.x)) {
    sum += in[i];
  }
  for (int by = 16; by > 0; by /= 2) {
    sum += __shfl_xor_sync(0xFFFFFFFFU, sum, by);
  }
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    float all = 0;
    for (unsigned w = 0; w < blockDim.x / 32; ++w) all += partial[w];
    out[blockIdx.x] = all;
  }
}

TEST(CudaOnHost, SumsThroughWarpsAndSharedMemory) {
  std::vector<float> in(1000);
  std::iota(in.begin(), in.end(), 1.0F);  // 1 + ... + 1000 = 500500
  for (const auto order : {on_host::Order::forward, on_host::Order::backward,
                           on_host::Order::shuffled}) {
    on_host::set_order(order, 7);
    std::vector<float> out(3, -1.0F);
    ASSERT_TRUE(
        start(&sum_all, 3, 128, 0, Device{}, in.data(), out.data(), 1000));
    EXPECT_THAT(out, testing::Each(500500.0F));
  }
  on_host::set_order(on_host::Order::forward);
}

__global__ void half_at_barrier(float* out) {
  if (threadIdx.x < 16) __syncthreads();
  out[threadIdx.x] = 1;
}

TEST(CudaOnHost, ReportsABarrierThatOnlyHalfOfTheThreadsReach) {
  std::vector<float> out(32);
  const auto ran = start(&half_at_barrier, 1, 32, 0, Device{}, out.data());
  ASSERT_FALSE(ran);
  EXPECT_THAT(ran.error().message, HasSubstr("16 threads at a barrier"));
  EXPECT_THAT(ran.error().message, HasSubstr("16 threads finished"));
}

__global__ void divergent_shuffle(int* out) {
  int value = static_cast<int>(threadIdx.x);
  if (threadIdx.x < 8) value = __shfl_xor_sync(0xFFFFFFFFU, value, 1);
  out[threadIdx.x] = value;
}

TEST(CudaOnHost, ReportsAShuffleWhoseLanesAreMissing) {
  std::vector<int> out(32);
  const auto ran = start(&divergent_shuffle, 1, 32, 0, Device{}, out.data());
  ASSERT_FALSE(ran);
  EXPECT_THAT(ran.error().message,
              HasSubstr("8 threads in a warp instruction"));
  // A block of 16 threads has no lane 16.
  EXPECT_FALSE(start(&divergent_shuffle, 1, 16, 0, Device{}, out.data()));
}

// The result is right only if a barrier stands where the comment is.
__global__ void neighbour(int* out, bool barrier) {
  TROUPE_DYNAMIC_SHARED(int, all);
  all[threadIdx.x] = static_cast<int>(threadIdx.x);
  if (barrier) __syncthreads();
  out[threadIdx.x] = all[(threadIdx.x + 1) % blockDim.x];
}

TEST(CudaOnHost, AMissingBarrierReadsPoisonInSomeOrder) {
  std::vector<int> out(64);
  const auto wrong = [&](bool barrier) {
    int count = 0;
    EXPECT_TRUE(start(&neighbour, 1, 64, 64 * sizeof(int), Device{}, out.data(),
                      barrier));
    for (int t = 0; t < 64; ++t) {
      count += out[static_cast<std::size_t>(t)] != (t + 1) % 64;
    }
    return count;
  };
  EXPECT_EQ(wrong(true), 0);
  // Forward: each thread reads what the next has not yet written, except the
  // last, which reads what the first wrote.
  EXPECT_EQ(wrong(false), 63);
}

TEST(CudaOnHost, RefusesWhatNoGpuCanLaunch) {
  std::vector<int> out(1);
  Device device;
  device.shared_limit = 1000;
  EXPECT_FALSE(start(&neighbour, 1, 2048, 0, device, out.data(), true));
  EXPECT_FALSE(start(&neighbour, 1, 32, 1001, device, out.data(), true));
  EXPECT_FALSE(
      start(&neighbour, dim3(1, 70000), 32, 0, device, out.data(), true));
  EXPECT_TRUE(start(&neighbour, 0, 32, 0, device, out.data(), true));
}

// One warp multiplies a (16,16) by b (16,8), both row-major, by way of shared
// memory and the matrix units.
__global__ void multiply(const bf16* a, const bf16* b, float* c) {
  TROUPE_SHARED(bf16, tile_a, 16 * 16);
  TROUPE_SHARED(bf16, tile_b, 16 * 16);
  const int lane = static_cast<int>(threadIdx.x);
  copy_async_16(tile_a + 8 * lane, a + 8 * lane);
  // b has 8 columns: the right half of its tile is zeros.
  copy_async_16(tile_b + 8 * lane, b + 8 * (lane / 2), lane % 2 == 0);
  copy_async_commit();
  copy_async_wait<0>();
  __syncthreads();
  std::uint32_t fa[4], fb[4];
  load_matrix_x4(fa, tile_a + lane % 16 * 16 + lane / 16 * 8);
  load_matrix_x4_transposed(fb, tile_b + lane % 16 * 16 + lane / 16 * 8);
  float sum[4] = {};
  mma_16x8x16(sum, fa, {fb[0], fb[1]});
  float none[4] = {};
  mma_16x8x16(none, fa, {fb[2], fb[3]});
  const int g = lane / 4, t = lane % 4;
  for (int i = 0; i < 4; ++i) {
    c[(g + 8 * (i / 2)) * 8 + 2 * t + i % 2] = sum[i] + none[i];
  }
}

TEST(CudaOnHost, MatrixUnitsMultiply) {
  alignas(16) bf16 a[256], b[128];
  float fa[256], fb[128], c[128];
  for (int i = 0; i < 256; ++i) {
    fa[i] = static_cast<float>(i * 37 % 29 - 14);  // small integers are exact
    a[i] = __float2bfloat16_rn(fa[i]);
  }
  for (int i = 0; i < 128; ++i) {
    fb[i] = static_cast<float>(i * 53 % 23 - 11);
    b[i] = __float2bfloat16_rn(fb[i]);
  }
  ASSERT_TRUE(start(&multiply, 1, 32, 0, Device{}, a, b, c));
  for (int m = 0; m < 16; ++m) {
    for (int n = 0; n < 8; ++n) {
      float expected = 0;
      for (int k = 0; k < 16; ++k) expected += fa[16 * m + k] * fb[8 * k + n];
      EXPECT_EQ(c[8 * m + n], expected) << m << "," << n;
    }
  }
}

// Reads a background copy without waiting for it.
__global__ void impatient(const float* in, float* out) {
  TROUPE_SHARED(float, tile, 4);
  copy_async_16(tile, in);
  copy_async_commit();
  out[0] = tile[0];
  copy_async_wait<0>();
  out[1] = tile[0];
}

TEST(CudaOnHost, BackgroundCopiesArriveOnlyWhenWaitedFor) {
  alignas(16) const float in[4] = {5, 6, 7, 8};
  float out[2] = {};
  ASSERT_TRUE(start(&impatient, 1, 1, 0, Device{}, in, out));
  EXPECT_TRUE(std::isnan(out[0]));
  EXPECT_EQ(out[1], 5);
}

TEST(CudaOnHost, RoundsToBfloat16AsHardwareDoes) {
  // 1 + 2^-8 is half way between 1 and 1 + 2^-7: ties to even, down.
  EXPECT_EQ(to_float(from_float<bf16>(1 + 1.0F / 256)), 1);
  EXPECT_EQ(to_float(from_float<bf16>(1 + 3.0F / 256)), 1 + 4.0F / 256);
  EXPECT_EQ(to_float(from_float<bf16>(3.4e38F)), INFINITY);
  EXPECT_TRUE(std::isnan(to_float(from_float<bf16>(NAN))));
}

}  // namespace
}  // namespace troupe::kernels::cuda
