#include "tests/kernels/cuda_cases.h"

namespace troupe::kernels::testing {
namespace {

struct Shape {
  std::int64_t m, n, k, batch, gap;
};

Case gemm_case(const Shape& s, int variant, Values& values) {
  const bool ta = (variant & 1) != 0, tb = (variant & 2) != 0;
  const bool accumulate = (variant & 4) != 0, single = (variant & 8) != 0;
  // A bias of dtype and a sum of gradients do not meet.
  const bool bias = !single && (variant & 16) != 0;
  const std::int64_t lda = (ta ? s.m : s.k) + s.gap;
  const std::int64_t ldb = (tb ? s.k : s.n) + s.gap;
  const std::int64_t ldc = s.n + s.gap;
  Case one;
  one.name = "gemm " + std::to_string(s.batch) + "x" + std::to_string(s.m) +
             "x" + std::to_string(s.n) + "x" + std::to_string(s.k) +
             (ta ? " a'" : "") + (tb ? " b'" : "") +
             (accumulate ? " accumulate" : "") + (single ? " to fp32" : "") +
             (bias ? " bias" : "") + (s.gap > 0 ? " gap" : "");
  const std::int64_t c = s.batch * s.m * ldc;
  one.operands = {values.normal(s.batch * (ta ? s.k : s.m) * lda),
                  values.normal(s.batch * (tb ? s.n : s.k) * ldb),
                  bias ? values.normal(s.n) : Values::none(),
                  accumulate ? values.normal(c) : Values::out(c)};
  one.operands[3].role = accumulate ? Role::in_out : Role::out;
  one.operands[3].kind = single ? Kind::statistic : Kind::value;
  const std::int64_t gap = s.gap;
  one.call = [=](DType dtype, std::span<void* const> at) -> Call {
    return Gemm{.dtype = dtype,
                .out = single ? statistics_type(dtype) : dtype,
                .m = s.m,
                .n = s.n,
                .k = s.k,
                .batch = s.batch,
                .transpose_a = ta,
                .transpose_b = tb,
                .accumulate = accumulate,
                .lda = gap > 0 ? lda : 0,
                .ldb = gap > 0 ? ldb : 0,
                .ldc = gap > 0 ? ldc : 0,
                .a = at[0],
                .b = at[1],
                .bias = bias ? at[2] : nullptr,
                .c = at[3]};
  };
  one.terms = static_cast<double>(s.k);
  one.floor = 1;  // each product is of order one
  return one;
}

}  // namespace

std::vector<Case> gemm_cases(std::uint64_t seed) {
  Values values(seed);
  std::vector<Case> cases;
  for (const Shape& s :
       {Shape{1, 1, 1, 1, 0}, Shape{33, 65, 17, 1, 0}, Shape{64, 128, 96, 1, 0},
        Shape{70, 24, 40, 3, 8},
        Shape{values.pick(1, 90), values.pick(1, 90), values.pick(1, 90),
              values.pick(1, 3), values.pick(0, 3)}}) {
    for (int variant = 0; variant < 32; ++variant) {
      cases.push_back(gemm_case(s, variant, values));
    }
  }
  return cases;
}

}  // namespace troupe::kernels::testing
