// Matrix products without a library: fp32 sums of 64 x 64 tiles, for shapes
// and machines that cuBLASLt does not serve and to check it.
#include "kernels/cuda/vector.cuh"

namespace troupe::kernels::cuda {
namespace {

constexpr int kTile = 64, kDepth = 16, kSide = 16, kEach = kTile / kSide;

template <typename T, typename Out>
struct Operands {
  const T* a;
  const T* b;
  const T* bias;
  Out* c;
  std::int64_t m, n, k;
  // Element (i, j) of A is at i * a_row + j * a_column, and so on.
  std::int64_t a_row, a_column, b_row, b_column, ldc;
  std::int64_t a_batch, b_batch, c_batch;
  bool accumulate;
};

// Fills tile[depth][kTile] with rows or columns r0.. and depths k0..; zeros
// outside. Neighbouring threads take what is contiguous in memory.
template <typename T>
__device__ void read_tile(float* tile, const T* from, std::int64_t r0,
                          std::int64_t rows, std::int64_t row_stride,
                          std::int64_t k0, std::int64_t depth,
                          std::int64_t depth_stride) {
  const int me = static_cast<int>(threadIdx.y * kSide + threadIdx.x);
  for (int i = me; i < kTile * kDepth; i += kSide * kSide) {
    const bool by_depth = depth_stride == 1;
    const int r = by_depth ? i / kDepth : i % kTile;
    const int d = by_depth ? i % kDepth : i / kTile;
    const bool inside = r0 + r < rows && k0 + d < depth;
    tile[d * kTile + r] =
        inside ? to_float(from[(r0 + r) * row_stride + (k0 + d) * depth_stride])
               : 0.0F;
  }
}

template <typename T, typename Out>
__global__ void __launch_bounds__(kSide* kSide)
    gemm_kernel(Operands<T, Out> o) {
  TROUPE_SHARED(float, a, kTile* kDepth);
  TROUPE_SHARED(float, b, kTile* kDepth);
  const std::int64_t m0 = static_cast<std::int64_t>(blockIdx.x) * kTile;
  const std::int64_t n0 = static_cast<std::int64_t>(blockIdx.y) * kTile;
  const std::int64_t batch = blockIdx.z;
  const int x = static_cast<int>(threadIdx.x),
            y = static_cast<int>(threadIdx.y);
  float sum[kEach][kEach] = {};
  for (std::int64_t k0 = 0; k0 < o.k; k0 += kDepth) {
    __syncthreads();
    read_tile(a, o.a + batch * o.a_batch, m0, o.m, o.a_row, k0, o.k,
              o.a_column);
    read_tile(b, o.b + batch * o.b_batch, n0, o.n, o.b_column, k0, o.k,
              o.b_row);
    __syncthreads();
    for (int d = 0; d < kDepth; ++d) {
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
#pragma unroll
        for (int j = 0; j < kEach; ++j) {
          sum[i][j] +=
              a[d * kTile + y + i * kSide] * b[d * kTile + x + j * kSide];
        }
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      const std::int64_t row = m0 + y + i * kSide, column = n0 + x + j * kSide;
      if (row >= o.m || column >= o.n) continue;
      float value = sum[i][j];
      if (o.bias != nullptr) value += to_float(o.bias[column]);
      Out* c = o.c + batch * o.c_batch + row * o.ldc + column;
      if (o.accumulate) value += to_float(*c);
      *c = from_float<Out>(value);
    }
  }
}

template <typename T, typename Out>
Result<void> multiply(const Gemm& call, const Device& device) {
  const auto ld = [](std::int64_t given, std::int64_t columns) {
    return given == 0 ? columns : given;
  };
  const std::int64_t lda = ld(call.lda, call.transpose_a ? call.m : call.k);
  const std::int64_t ldb = ld(call.ldb, call.transpose_b ? call.k : call.n);
  const std::int64_t ldc = ld(call.ldc, call.n);
  Operands<T, Out> o{};
  o.a = static_cast<const T*>(call.a);
  o.b = static_cast<const T*>(call.b);
  o.bias = static_cast<const T*>(call.bias);
  o.c = static_cast<Out*>(call.c);
  o.m = call.m;
  o.n = call.n;
  o.k = call.k;
  o.a_row = call.transpose_a ? 1 : lda;
  o.a_column = call.transpose_a ? lda : 1;
  o.b_row = call.transpose_b ? 1 : ldb;
  o.b_column = call.transpose_b ? ldb : 1;
  o.ldc = ldc;
  o.a_batch = (call.transpose_a ? call.k : call.m) * lda;
  o.b_batch = (call.transpose_b ? call.n : call.k) * ldb;
  o.c_batch = call.m * ldc;
  o.accumulate = call.accumulate;
  const std::int64_t down = divide_up(call.n, kTile);
  if (down > 65535 || call.batch > 65535) {
    return fail(Fault::unavailable,
                "a matrix product too large for the kernel without cuBLASLt");
  }
  const dim3 grid(static_cast<unsigned>(divide_up(call.m, kTile)),
                  static_cast<unsigned>(down),
                  static_cast<unsigned>(call.batch));
  return start(&gemm_kernel<T, Out>, grid, dim3(kSide, kSide), 0, device, o);
}

}  // namespace

Result<void> launch(const Gemm& call, const Device& device) {
  const bool single = call.dtype == DType::fp32 || call.dtype == DType::tf32;
  if (single && call.out != DType::bf16) {
    return multiply<float, float>(call, device);
  }
  if (call.dtype == DType::bf16 && call.out == DType::bf16) {
    return multiply<bf16, bf16>(call, device);
  }
  if (call.dtype == DType::bf16 && call.out == DType::fp32) {
    return multiply<bf16, float>(call, device);
  }
  return no_kernel("gemm", single ? call.out : call.dtype);
}

}  // namespace troupe::kernels::cuda
