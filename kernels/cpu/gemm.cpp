#include <algorithm>
#include <vector>

#include "kernels/cpu/bodies.h"
#include "kernels/cpu/matrix.h"

namespace troupe::kernels::cpu {
namespace {

/// One operand as stored: row-major with a stride.
template <typename T>
struct Stored {
  const T* at;
  std::int64_t ld;
  bool transposed;
  const T& operator()(std::int64_t i, std::int64_t j) const {
    return transposed ? at[j * ld + i] : at[i * ld + j];
  }
  Stored from(std::int64_t i, std::int64_t j) const {
    return {&(*this)(i, j), ld, transposed};
  }
};

template <typename S, typename F>
void with_map(const Stored<S>& x, std::int64_t rows, std::int64_t columns,
              F&& f) {
  const Eigen::OuterStride<> stride(x.ld);
  if (x.transposed) {
    f(Operand<S, Eigen::ColMajor>(x.at, rows, columns, stride));
  } else {
    f(Operand<S, Eigen::RowMajor>(x.at, rows, columns, stride));
  }
}

// c += a b
template <typename S>
void multiply(const Stored<S>& a, const Stored<S>& b, S* c, std::int64_t ldc,
              std::int64_t m, std::int64_t n, std::int64_t k) {
  // Below this Eigen itself takes loops, whose order depends on alignment.
  if (m + n + k < 24) {
    for (std::int64_t i = 0; i < m; ++i) {
      for (std::int64_t p = 0; p < k; ++p) {
        const S x = a(i, p);
        for (std::int64_t j = 0; j < n; ++j) c[i * ldc + j] += x * b(p, j);
      }
    }
    return;
  }
  Target<S> target(c, m, n, Eigen::OuterStride<>(ldc));
  with_map(a, m, k, [&](const auto& left) {
    with_map(b, k, n,
             [&](const auto& right) { target.noalias() += left * right; });
  });
}

// C as the products find it: zero, the bias, what it held, or both.
template <typename S, typename T, typename Out>
void start(S* c, std::int64_t ldc, const Out* before, std::int64_t before_ld,
           const T* bias, std::int64_t m, std::int64_t n) {
  for (std::int64_t i = 0; i < m; ++i) {
    S* row = c + i * ldc;
    if (before == nullptr) {
      std::fill_n(row, n, S{});
    } else {
      for (std::int64_t j = 0; j < n; ++j) {
        row[j] = load(before[i * before_ld + j]);
      }
    }
    if (bias == nullptr) continue;
    for (std::int64_t j = 0; j < n; ++j) row[j] += load(bias[j]);
  }
}

struct Strides {
  std::int64_t a, b, c;
};

template <typename S>
void product(const Gemm& call, Stored<S> a, Stored<S> b, S* c,
             std::int64_t ldc) {
  start(c, ldc, call.accumulate ? c : nullptr, ldc, in<S>(call.bias), call.m,
        call.n);
  if (call.k > 0) multiply(a, b, c, ldc, call.m, call.n, call.k);
}

// Blocks of operands go through wider copies, so that only blocks are held.
template <typename T>
class Blocks {
 public:
  using W = Wide<T>;
  template <typename Out>
  void product(const Gemm& call, Stored<T> a, Stored<T> b, Out* c,
               std::int64_t ldc) {
    constexpr std::int64_t kSide = 256, kDepth = 512;
    const std::int64_t rows = std::min(kSide, call.m);
    const std::int64_t columns = std::min(kSide, call.n);
    const std::int64_t depth = std::min(kDepth, call.k);
    a_.resize(1, rows * depth);
    b_.resize(1, depth * columns);
    c_.resize(1, rows * columns);
    const auto* bias = in<T>(call.bias);
    for (std::int64_t j = 0; j < call.n; j += columns) {
      const std::int64_t n = std::min(columns, call.n - j);
      for (std::int64_t i = 0; i < call.m; i += rows) {
        const std::int64_t m = std::min(rows, call.m - i);
        Out* target = c + i * ldc + j;
        start(c_.data(), n, call.accumulate ? target : nullptr, ldc,
              bias == nullptr ? nullptr : bias + j, m, n);
        for (std::int64_t p = 0; p < call.k; p += depth) {
          const std::int64_t k = std::min(depth, call.k - p);
          multiply(copy(a.from(i, p), m, k, a_), copy(b.from(p, j), k, n, b_),
                   c_.data(), n, m, n, k);
        }
        for (std::int64_t r = 0; r < m; ++r) {
          for (std::int64_t q = 0; q < n; ++q) {
            store(target[r * ldc + q], c_(0, r * n + q));
          }
        }
      }
    }
  }

 private:
  static Stored<W> copy(Stored<T> x, std::int64_t rows, std::int64_t columns,
                        Matrix<W>& to) {
    if (x.transposed) std::swap(rows, columns);
    load_block(to.data(), columns, x.at, x.ld, rows, columns);
    return {to.data(), columns, x.transposed};
  }
  Matrix<W> a_, b_, c_;
};

std::int64_t stride_or(std::int64_t ld, std::int64_t row) {
  return ld == 0 ? row : ld;
}

template <typename T, typename F>
void each_of_batch(const Gemm& call, F&& f) {
  const std::int64_t lda =
      stride_or(call.lda, call.transpose_a ? call.m : call.k);
  const std::int64_t ldb =
      stride_or(call.ldb, call.transpose_b ? call.k : call.n);
  const Stored<T> a{in<T>(call.a), lda, call.transpose_a};
  const Stored<T> b{in<T>(call.b), ldb, call.transpose_b};
  const std::int64_t a_size = (call.transpose_a ? call.k : call.m) * lda;
  const std::int64_t b_size = (call.transpose_b ? call.n : call.k) * ldb;
  for (std::int64_t i = 0; i < call.batch; ++i) {
    f(Stored<T>{a.at + i * a_size, lda, call.transpose_a},
      Stored<T>{b.at + i * b_size, ldb, call.transpose_b}, i);
  }
}

}  // namespace

void perform(const Gemm& call) {
  if (call.m == 0 || call.n == 0) return;
  fix_caches();
  const std::int64_t ldc = stride_or(call.ldc, call.n);
  const std::int64_t size = call.m * ldc;
  with_type(call.dtype, [&](auto type) {
    using T = decltype(type);
    if constexpr (!std::is_same_v<T, double>) {
      Blocks<T> blocks;
      each_of_batch<T>(call, [&](auto a, auto b, std::int64_t i) {
        if (call.out == call.dtype) {
          blocks.product(call, a, b, out<T>(call.c) + i * size, ldc);
        } else {
          blocks.product(call, a, b, out<float>(call.c) + i * size, ldc);
        }
      });
    } else {
      each_of_batch<T>(call, [&](auto a, auto b, std::int64_t i) {
        product(call, a, b, out<T>(call.c) + i * size, ldc);
      });
    }
  });
}

}  // namespace troupe::kernels::cpu
