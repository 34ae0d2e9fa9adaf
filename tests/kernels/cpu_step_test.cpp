// The optimizer's step, gradient norms, casts and copies.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <array>
#include <cmath>

#include "kernels/bf16.h"
#include "tests/kernels/cpu_tools.h"

namespace troupe::kernels {
namespace {

using testing::as_size;
using testing::Doubles;
using testing::Draw;
using testing::Guarded;

TEST(CpuAdamW, FollowsThePublishedStepWithClipAndDecay) {
  const std::int64_t n = 33;
  const double rate = 0.02, b1 = 0.8, b2 = 0.95, epsilon = 1e-3, decay = 0.3;
  Doubles w = Draw(1).normal(n), want = w;
  Doubles m(as_size(n)), v(as_size(n)), copy(as_size(n));
  Doubles want_m = m, want_v = v;
  for (int step = 1; step <= 5; ++step) {
    const Doubles gradient =
        Draw(static_cast<std::uint64_t>(step) + 10).normal(n);
    const double clip = step % 2 == 0 ? 0.25 : 1;
    testing::run_or_fail(AdamW{.dtype = DType::fp64,
                               .elements = n,
                               .rate = rate,
                               .beta1 = b1,
                               .beta2 = b2,
                               .epsilon = epsilon,
                               .decay = decay,
                               .step = step,
                               .gradient_scale = 0.5,
                               .clip = step % 2 == 0 ? &clip : nullptr,
                               .gradient = gradient.data(),
                               .master = w.data(),
                               .m = m.data(),
                               .v = v.data(),
                               .copy = copy.data()});
    // Algorithm 2 of arXiv 1711.05101, line by line.
    for (std::size_t i = 0; i < as_size(n); ++i) {
      const double g = gradient[i] * 0.5 * clip;
      want_m[i] = b1 * want_m[i] + (1 - b1) * g;
      want_v[i] = b2 * want_v[i] + (1 - b2) * g * g;
      const double m_hat = want_m[i] / (1 - std::pow(b1, step));
      const double v_hat = want_v[i] / (1 - std::pow(b2, step));
      want[i] -=
          rate * (m_hat / (std::sqrt(v_hat) + epsilon) + decay * want[i]);
    }
    EXPECT_LT(testing::difference(w, want), 1e-14) << step;
    EXPECT_LT(testing::difference(m, want_m), 1e-15) << step;
    EXPECT_LT(testing::difference(v, want_v), 1e-15) << step;
    EXPECT_EQ(copy, w);
  }
}

TEST(CpuAdamW, KeepsAnFp32MasterBesideBf16Weights) {
  std::vector<float> w{1, -2, 3}, m(3), v(3);
  const std::vector<float> gradient{1, 1, -1};
  Guarded<float> unused(1);
  std::vector<Bf16> copy(3);
  testing::run_or_fail(AdamW{.dtype = DType::bf16,
                             .elements = 3,
                             .rate = 0.001,
                             .epsilon = 0,
                             .decay = 0,
                             .gradient = gradient.data(),
                             .master = w.data(),
                             .m = m.data(),
                             .v = v.data(),
                             .copy = copy.data()});
  // The first step moves every weight by rate, whatever its gradient.
  EXPECT_NEAR(w[0], 0.999F, 1e-7F);
  EXPECT_NEAR(w[1], -2.001F, 2e-7F);
  EXPECT_NEAR(w[2], 3.001F, 4e-7F);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(copy[i].bits, Bf16(w[i]).bits);
  }
}

TEST(CpuNormOfGradients, ClipsTheScaledNormToTheLimit) {
  const Doubles data{3, 4};
  double sum = 144;  // of another tensor
  testing::run_or_fail(SquareSum{
      .dtype = DType::fp64, .elements = 2, .data = data.data(), .sum = &sum});
  EXPECT_EQ(sum, 169);
  double clip = NAN;
  const auto factor = [&](double limit, double scale) {
    testing::run_or_fail(ClipFactor{.dtype = DType::fp64,
                                    .limit = limit,
                                    .scale = scale,
                                    .sum = &sum,
                                    .clip = &clip});
    return clip;
  };
  EXPECT_EQ(factor(6.5, 1), 0.5);
  EXPECT_EQ(factor(6.5, 0.5), 1);  // the norm is the limit
  EXPECT_EQ(factor(20, 1), 1);
  EXPECT_EQ(factor(0, 1), 1);  // no limit
  EXPECT_EQ(factor(13, 2), 0.5);
  sum = 0;
  EXPECT_EQ(factor(1, 1), 1);
  sum = NAN;
  EXPECT_TRUE(std::isnan(factor(1, 1)));
  float single = 0;
  sum = 16;
  testing::run_or_fail(ClipFactor{
      .dtype = DType::bf16, .limit = 1, .sum = &sum, .clip = &single});
  EXPECT_EQ(single, 0.25F);
}

RC_GTEST_PROP(CpuNormOfGradients, SumsAnyNumberOfSquares, ()) {
  const auto n = *rc::gen::inRange<std::int64_t>(0, 200);
  std::vector<float> data;
  double want = 1;
  for (const double x : Draw(3).normal(n)) {
    data.push_back(static_cast<float>(x));
    want += static_cast<double>(data.back()) * static_cast<double>(data.back());
  }
  double sum = 1;
  testing::run_or_fail(SquareSum{
      .dtype = DType::fp32, .elements = n, .data = data.data(), .sum = &sum});
  RC_ASSERT(std::fabs(sum - want) <= 1e-13 * want);
}

TEST(CpuCast, ScalesAndAddsBetweenAllTypes) {
  const Doubles wide{1.5, -3, 1e-3};
  std::vector<Bf16> half(3);
  testing::run_or_fail(Cast{.from = DType::fp64,
                            .to = DType::bf16,
                            .elements = 3,
                            .scale = 2,
                            .in = wide.data(),
                            .out = half.data()});
  EXPECT_EQ(static_cast<float>(half[0]), 3.0F);
  EXPECT_EQ(static_cast<float>(half[1]), -6.0F);
  EXPECT_NEAR(static_cast<float>(half[2]), 2e-3F, 2e-3F * 0x1p-8F);
  std::vector<float> single{1, 2, 3};
  testing::run_or_fail(Cast{.from = DType::bf16,
                            .to = DType::fp32,
                            .elements = 2,
                            .scale = 0.5,
                            .accumulate = true,
                            .in = half.data(),
                            .out = single.data()});
  EXPECT_EQ(single, (std::vector<float>{2.5F, -1, 3}));
  Doubles back(3, NAN);
  testing::run_or_fail(Cast{.from = DType::fp32,
                            .to = DType::fp64,
                            .elements = 3,
                            .in = single.data(),
                            .out = back.data()});
  EXPECT_EQ(back, (Doubles{2.5, -1, 3}));
}

RC_GTEST_PROP(CpuCopyBlock, MovesEveryElementOfAnyPermutation, ()) {
  std::array<std::int64_t, 4> size{}, from{}, to{};
  for (auto& side : size) side = *rc::gen::inRange<std::int64_t>(0, 5);
  // Dense arrays whose dimensions are nested in any order.
  const auto strides = [&](std::array<std::int64_t, 4>& stride) {
    std::vector<std::size_t> order{0, 1, 2, 3};
    for (std::size_t i = 3; i > 0; --i) {
      std::swap(order[i], order[*rc::gen::inRange<std::size_t>(0, i + 1)]);
    }
    std::int64_t step = 1 + *rc::gen::inRange<std::int64_t>(0, 2);
    for (const std::size_t i : order) {
      stride[i] = step;
      step *= std::max<std::int64_t>(size[i], 1) +
              *rc::gen::inRange<std::int64_t>(0, 2);
    }
    return step;
  };
  const Doubles source = Draw(1).normal(strides(from));
  Doubles target = Draw(2).normal(strides(to)), want = target;
  const bool accumulate = *rc::gen::arbitrary<bool>();
  for (std::int64_t a = 0; a < size[0]; ++a) {
    for (std::int64_t b = 0; b < size[1]; ++b) {
      for (std::int64_t c = 0; c < size[2]; ++c) {
        for (std::int64_t d = 0; d < size[3]; ++d) {
          const auto at = [&](const auto& s) {
            return as_size(a * s[0] + b * s[1] + c * s[2] + d * s[3]);
          };
          want[at(to)] = source[at(from)] + (accumulate ? want[at(to)] : 0);
        }
      }
    }
  }
  testing::run_or_fail(CopyBlock{.dtype = DType::fp64,
                                 .size = size,
                                 .from_stride = from,
                                 .to_stride = to,
                                 .accumulate = accumulate,
                                 .in = source.data(),
                                 .out = target.data()});
  RC_ASSERT(target == want);
}

}  // namespace
}  // namespace troupe::kernels
