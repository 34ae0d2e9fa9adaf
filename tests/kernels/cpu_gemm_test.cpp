#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <cstring>

#include "kernels/bf16.h"
#include "tests/kernels/cpu_tools.h"

namespace troupe::kernels {
namespace {

using testing::Draw;

// A product with everything that may vary.
struct Problem {
  std::int64_t m = 1, n = 1, k = 1, batch = 1, gap = 0;
  bool ta = false, tb = false, bias = false, accumulate = false;
};

double real(double x) { return x; }
double real(Bf16 x) { return static_cast<double>(static_cast<float>(x)); }

template <typename T>
std::vector<T> drawn(std::uint64_t seed, std::int64_t n) {
  std::vector<T> values;
  for (const double x : Draw(seed).normal(n)) {
    values.push_back(static_cast<T>(static_cast<float>(x)));
  }
  return values;
}

// Operands of type T with a C of type Out before the call.
template <typename T, typename Out>
struct Operands {
  std::int64_t a_rows, b_rows, lda, ldb, ldc;
  std::vector<T> a, b, bias;
  std::vector<Out> c;

  explicit Operands(const Problem& p)
      : a_rows(p.ta ? p.k : p.m),
        b_rows(p.tb ? p.n : p.k),
        lda((p.ta ? p.m : p.k) + p.gap),
        ldb((p.tb ? p.k : p.n) + p.gap),
        ldc(p.n + p.gap),
        a(drawn<T>(1, p.batch * a_rows * lda)),
        b(drawn<T>(2, p.batch * b_rows * ldb)),
        bias(drawn<T>(3, p.n)),
        c(static_cast<std::size_t>(p.batch * p.m * ldc),
          static_cast<Out>(p.accumulate ? 0.5F : NAN)) {}

  Gemm call(const Problem& p, DType dtype, DType out) {
    const bool packed = p.gap == 0;
    return {.dtype = dtype,
            .out = out,
            .m = p.m,
            .n = p.n,
            .k = p.k,
            .batch = p.batch,
            .transpose_a = p.ta,
            .transpose_b = p.tb,
            .accumulate = p.accumulate,
            .lda = packed ? 0 : lda,
            .ldb = packed ? 0 : ldb,
            .ldc = packed ? 0 : ldc,
            .a = a.data(),
            .b = b.data(),
            .bias = p.bias ? bias.data() : nullptr,
            .c = c.data()};
  }
  double a_at(const Problem& p, std::int64_t z, std::int64_t i,
              std::int64_t q) const {
    const std::int64_t at = p.ta ? q * lda + i : i * lda + q;
    return real(a[static_cast<std::size_t>(z * a_rows * lda + at)]);
  }
  double b_at(const Problem& p, std::int64_t z, std::int64_t q,
              std::int64_t j) const {
    const std::int64_t at = p.tb ? j * ldb + q : q * ldb + j;
    return real(b[static_cast<std::size_t>(z * b_rows * ldb + at)]);
  }
};

// Any order of k + 2 sums errs by at most (k + 2) units of the sum of sizes;
// the last rounding by `out_unit` of the result.
template <typename T, typename Out>
void expect_product(const Problem& p, DType dtype, DType out, double unit,
                    double out_unit) {
  Operands<T, Out> x(p);
  const std::vector<Out> before = x.c;
  testing::run_or_fail(x.call(p, dtype, out));
  for (std::int64_t at = 0; at < p.batch * p.m * x.ldc; ++at) {
    const auto where = static_cast<std::size_t>(at);
    const std::int64_t row = at / x.ldc, j = at % x.ldc;
    const std::int64_t z = row / p.m, i = row % p.m;
    if (j >= p.n) {  // the gap stays as it was
      EXPECT_EQ(std::memcmp(&x.c[where], &before[where], sizeof(Out)), 0);
      continue;
    }
    double want = p.accumulate ? 0.5 : 0, size = 1;
    if (p.bias) want += real(x.bias[static_cast<std::size_t>(j)]);
    for (std::int64_t q = 0; q < p.k; ++q) {
      const double term = x.a_at(p, z, i, q) * x.b_at(p, z, q, j);
      want += term;
      size += std::fabs(term);
    }
    const double bound =
        static_cast<double>(p.k + 2) * unit * size + out_unit * std::fabs(want);
    ASSERT_NEAR(real(x.c[where]), want, bound)
        << i << "," << j << " of " << p.m << "x" << p.n << "x" << p.k;
  }
}

constexpr double kDouble = 0x1p-53, kSingle = 0x1p-24, kHalf = 0x1p-8;

void expect_all_types(const Problem& p) {
  expect_product<double, double>(p, DType::fp64, DType::fp64, kDouble, kDouble);
  expect_product<float, float>(p, DType::fp32, DType::fp32, kSingle, kSingle);
  expect_product<Bf16, Bf16>(p, DType::bf16, DType::bf16, kSingle, kHalf);
  expect_product<Bf16, float>(p, DType::bf16, DType::fp32, kSingle, kSingle);
}

TEST(CpuGemm, IsTheSumOfProductsForEveryTransposition) {
  for (const bool ta : {false, true}) {
    for (const bool tb : {false, true}) {
      for (const bool more : {false, true}) {
        expect_all_types({33, 65, 17, 1, more ? 3 : 0, ta, tb, more, more});
        expect_all_types({1, 65, 33, 2, 0, ta, tb, more, !more});
        expect_all_types({65, 1, 33, 2, 1, ta, tb, !more, more});
        expect_all_types({3, 5, 7, 3, 2, ta, tb, more, more});
      }
    }
  }
}

TEST(CpuGemm, BlocksOfBf16JoinAtTheirBorders) {
  // Blocks are 256 x 256 with 512 deep: one more than a block each way.
  for (const bool t : {false, true}) {
    expect_product<Bf16, Bf16>({257, 259, 513, 1, 0, t, !t, true, false},
                               DType::bf16, DType::bf16, kSingle, kHalf);
  }
}

TEST(CpuGemm, WithoutTermsIsTheBias) {
  expect_all_types({3, 4, 0, 1, 0, false, false, true, false});
  expect_all_types({3, 4, 0, 1, 0, false, false, true, true});
  expect_all_types({0, 4, 5});
  expect_all_types({3, 0, 5});
  expect_all_types({3, 4, 5, 0});
}

RC_GTEST_PROP(CpuGemm, HoldsForAnySizes, ()) {
  const auto side = [] { return *rc::gen::inRange<std::int64_t>(0, 40); };
  const auto coin = [] { return *rc::gen::arbitrary<bool>(); };
  const Problem p{side(),
                  side(),
                  side(),
                  *rc::gen::inRange<std::int64_t>(0, 3),
                  *rc::gen::inRange<std::int64_t>(0, 3),
                  coin(),
                  coin(),
                  coin(),
                  coin()};
  expect_all_types(p);
  RC_ASSERT(!::testing::Test::HasFailure());
}

// Vector loads depend on where operands lie; results must not.
TEST(CpuGemm, GivesTheSameBitsWhereverOperandsLie) {
  Draw draw(3);
  for (const std::int64_t size : {2, 5, 7, 9, 31, 100}) {
    const auto values = draw.normal(2 * size * size);
    std::vector<std::vector<float>> results;
    for (std::size_t shift = 0; shift < 4; ++shift) {
      std::vector<float> space(values.size() + 4);
      std::copy(values.begin(), values.end(), space.begin() + shift);
      std::vector<float> c(static_cast<std::size_t>(size * size) + 4);
      testing::run_or_fail(Gemm{.dtype = DType::fp32,
                                .out = DType::fp32,
                                .m = size,
                                .n = size,
                                .k = size,
                                .transpose_b = true,
                                .a = space.data() + shift,
                                .b = space.data() + shift + size * size,
                                .c = c.data() + (3 - shift)});
      c.erase(c.begin(), c.begin() + (3 - static_cast<int>(shift)));
      c.resize(static_cast<std::size_t>(size * size));
      results.push_back(c);
    }
    for (const auto& one : results) EXPECT_EQ(one, results[0]) << size;
  }
}

TEST(Bf16, RoundsToNearestEvenAndKeepsInfinityAndNaN) {
  // 1 + 2^-8 lies between 1 and 1 + 2^-7: even is 1; a little more goes up.
  EXPECT_EQ(static_cast<float>(Bf16(1 + 0x1p-8F)), 1.0F);
  EXPECT_EQ(static_cast<float>(Bf16(1 + 0x1p-8F + 0x1p-20F)), 1 + 0x1p-7F);
  EXPECT_EQ(static_cast<float>(Bf16(1 + 3 * 0x1p-8F)), 1 + 0x1p-6F);
  EXPECT_EQ(static_cast<float>(Bf16(3.4e38F)), HUGE_VALF);
  EXPECT_EQ(static_cast<float>(Bf16(-HUGE_VALF)), -HUGE_VALF);
  EXPECT_TRUE(std::isnan(static_cast<float>(Bf16(std::nanf("")))));
  EXPECT_EQ(static_cast<float>(Bf16(0x1p-133F)), 0x1p-133F);  // subnormal
}

}  // namespace
}  // namespace troupe::kernels
