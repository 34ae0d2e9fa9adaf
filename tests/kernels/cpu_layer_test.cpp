// Norms, activations, rotary positions, sums and biases.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <complex>
#include <numbers>

#include "tests/kernels/cpu_tools.h"

namespace troupe::kernels {
namespace {

using testing::as_size;
using testing::Doubles;
using testing::Draw;
using testing::Guarded;
using testing::Loss;

struct Norm {
  std::int64_t rows, columns;
  bool rms, bias;
  Doubles in, weight, b;
  Norm(std::int64_t r, std::int64_t c, bool is_rms, bool with_bias)
      : rows(r), columns(c), rms(is_rms), bias(with_bias) {
    Draw draw(2);
    in = draw.sizeable(r * c);
    weight = draw.normal(c);
    b = draw.normal(c);
  }
  NormForward forward(void* out, void* mean, void* rstd) const {
    return {.dtype = DType::fp64,
            .rms = rms,
            .rows = rows,
            .columns = columns,
            .epsilon = 1e-3,
            .in = in.data(),
            .weight = weight.data(),
            .bias = bias ? b.data() : nullptr,
            .out = out,
            .mean = mean,
            .rstd = rstd};
  }
};

void expect_norm(const Norm& n) {
  Guarded<double> out(n.rows * n.columns), mean(n.rows), rstd(n.rows);
  testing::run_or_fail(n.forward(out.data(), mean.data(), rstd.data()));
  ASSERT_TRUE(out.intact() && mean.intact() && rstd.intact());
  for (std::int64_t i = 0; i < n.rows; ++i) {
    const double* row = n.in.data() + i * n.columns;
    const auto count = static_cast<double>(n.columns);
    double m = 0, square = 0;
    for (std::int64_t j = 0; j < n.columns; ++j) m += row[j] / count;
    if (n.rms) m = 0;
    for (std::int64_t j = 0; j < n.columns; ++j) {
      square += (row[j] - m) * (row[j] - m) / count;
    }
    const double scale = std::pow(square + 1e-3, -0.5);
    ASSERT_NEAR(rstd.values()[as_size(i)], scale, 1e-13 * scale);
    if (n.rms) {
      EXPECT_TRUE(std::isnan(mean.values()[as_size(i)]));  // unused
    } else {
      ASSERT_NEAR(mean.values()[as_size(i)], m, 1e-13);
    }
    for (std::int64_t j = 0; j < n.columns; ++j) {
      const double want = (row[j] - m) * scale * n.weight[as_size(j)] +
                          (n.bias ? n.b[as_size(j)] : 0);
      ASSERT_NEAR(out.values()[as_size(i * n.columns + j)], want, 1e-12);
    }
  }
}

TEST(CpuNorm, FollowsItsFormula) {
  for (const std::int64_t columns : {1, 3, 8, 33, 65}) {
    for (const bool rms : {true, false}) {
      expect_norm({3, columns, rms, !rms});
      expect_norm({1, columns, rms, rms});
    }
  }
}

RC_GTEST_PROP(CpuNorm, HoldsForAnySizes, ()) {
  expect_norm({*rc::gen::inRange<std::int64_t>(0, 9),
               *rc::gen::inRange<std::int64_t>(1, 99),
               *rc::gen::arbitrary<bool>(), *rc::gen::arbitrary<bool>()});
  RC_ASSERT(!::testing::Test::HasFailure());
}

TEST(CpuNorm, GradientsAreThoseOfFiniteDifferences) {
  for (const std::int64_t columns : {1, 3, 33, 65}) {
    for (const bool rms : {true, false}) {
      for (const bool bias : {true, false}) {
        Norm n(3, columns, rms, bias);
        Doubles mean(3), rstd(3), out(as_size(3 * columns));
        const Loss loss{Draw(4).normal(3 * columns)};
        const auto value = [&] {
          testing::run_or_fail(n.forward(out.data(), mean.data(), rstd.data()));
          return loss.of(out);
        };
        value();
        const Doubles d_out = loss.gradient(out);
        Guarded<double> d_in(3 * columns);
        // Gradients of parameters are added to what is there.
        Doubles d_weight(as_size(columns), 1), d_bias(as_size(columns), 2);
        testing::run_or_fail(
            NormBackward{.dtype = DType::fp64,
                         .rms = rms,
                         .rows = 3,
                         .columns = columns,
                         .in = n.in.data(),
                         .weight = n.weight.data(),
                         .mean = mean.data(),
                         .rstd = rstd.data(),
                         .d_out = d_out.data(),
                         .d_in = d_in.data(),
                         .d_weight = d_weight.data(),
                         .d_bias = bias ? d_bias.data() : nullptr});
        EXPECT_TRUE(d_in.intact());
        for (double& x : d_weight) x -= 1;
        for (double& x : d_bias) x -= 2;
        testing::expect_gradient(n.in, d_in.values(), value, "d_in");
        testing::expect_gradient(n.weight, d_weight, value, "d_weight");
        if (bias) {
          testing::expect_gradient(n.b, d_bias, value, "d_bias");
        } else {
          EXPECT_EQ(d_bias, Doubles(as_size(columns)));
        }
      }
    }
  }
}

constexpr Pointwise kFunctions[] = {Pointwise::silu, Pointwise::gelu,
                                    Pointwise::gelu_tanh, Pointwise::relu};

double function(Pointwise f, double x) {
  const double cubic =
      std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * std::pow(x, 3));
  switch (f) {
    case Pointwise::silu:
      return x / (1 + std::exp(-x));
    case Pointwise::gelu:
      return x * 0.5 * (1 + std::erf(x / std::sqrt(2.0)));
    case Pointwise::gelu_tanh:
      return 0.5 * x * (1 + std::tanh(cubic));
    case Pointwise::relu:
      return std::max(x, 0.0);
  }
  return NAN;
}

TEST(CpuActivation, FollowsItsFormulaAndItsGradientFiniteDifferences) {
  for (const Pointwise f : kFunctions) {
    for (const bool gated : {true, false}) {
      for (const std::int64_t columns : {1, 3, 33}) {
        const std::int64_t row = gated ? 2 * columns : columns;
        Doubles in = Draw(8).sizeable(3 * row);  // relu has no kink there
        Guarded<double> out(3 * columns);
        const Loss loss{Draw(9).normal(3 * columns)};
        const auto value = [&] {
          testing::run_or_fail(ActivationForward{.dtype = DType::fp64,
                                                 .function = f,
                                                 .gated = gated,
                                                 .rows = 3,
                                                 .columns = columns,
                                                 .in = in.data(),
                                                 .out = out.data()});
          return loss.of(out.values());
        };
        value();
        ASSERT_TRUE(out.intact());
        for (std::int64_t i = 0; i < 3 * columns; ++i) {
          const std::int64_t at = i / columns * row + i % columns;
          const double up = gated ? in[as_size(at + columns)] : 1;
          EXPECT_NEAR(out.values()[as_size(i)],
                      function(f, in[as_size(at)]) * up, 1e-14);
        }
        const Doubles d_out = loss.gradient(out.values());
        Guarded<double> d_in(3 * row);
        testing::run_or_fail(ActivationBackward{.dtype = DType::fp64,
                                                .function = f,
                                                .gated = gated,
                                                .rows = 3,
                                                .columns = columns,
                                                .in = in.data(),
                                                .d_out = d_out.data(),
                                                .d_in = d_in.data()});
        EXPECT_TRUE(d_in.intact());
        testing::expect_gradient(in, d_in.values(), value, "d_in");
      }
    }
  }
}

TEST(CpuActivation, IsFiniteFarOutAndDoesNotHideNaN) {
  for (const Pointwise f : kFunctions) {
    const Doubles in{-1e30, -800, 0, 800, 1e30, NAN};
    const Doubles d_out(6, 1);
    Doubles out(6), d_in(6);
    testing::run_or_fail(ActivationForward{.dtype = DType::fp64,
                                           .function = f,
                                           .gated = false,
                                           .rows = 1,
                                           .columns = 6,
                                           .in = in.data(),
                                           .out = out.data()});
    testing::run_or_fail(ActivationBackward{.dtype = DType::fp64,
                                            .function = f,
                                            .gated = false,
                                            .rows = 1,
                                            .columns = 6,
                                            .in = in.data(),
                                            .d_out = d_out.data(),
                                            .d_in = d_in.data()});
    const Doubles want{0, 0, 0, 800, 1e30};
    for (std::size_t i = 0; i < want.size(); ++i) {
      EXPECT_EQ(out[i], want[i]) << i;
      if (i == 2) continue;
      EXPECT_EQ(d_in[i], i > 2 ? 1 : 0) << i;
    }
    EXPECT_TRUE(std::isnan(out[5]));
  }
}

TEST(CpuRotary, TurnsPairsAndBack) {
  const std::int64_t tokens = 3, heads = 2, dim = 6, ld = 15;
  const Doubles before = Draw(1).normal(tokens * ld);
  const std::vector<std::int32_t> positions{0, 5, 131071};
  Doubles data = before;
  Rotary call{.dtype = DType::fp64,
              .tokens = tokens,
              .heads = heads,
              .head_dim = dim,
              .ld = ld,
              .base = 500,
              .positions = positions.data(),
              .data = data.data()};
  testing::run_or_fail(call);
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t i = 0; i < ld; ++i) {
      const auto at = as_size(t * ld + i);
      if (i >= heads * dim) {
        EXPECT_EQ(data[at], before[at]);  // the gap
        continue;
      }
      if (i % dim >= 3) continue;
      // A pair is a complex number that is turned by the angle.
      const double angle =
          positions[as_size(t)] *
          std::pow(500, -2.0 * static_cast<double>(i % dim) / 6);
      const auto turned =
          std::complex(before[at], before[at + 3]) * std::polar(1.0, angle);
      EXPECT_NEAR(data[at], turned.real(), 1e-9);
      EXPECT_NEAR(data[at + 3], turned.imag(), 1e-9);
    }
  }
  call.inverse = true;
  testing::run_or_fail(call);
  EXPECT_LT(testing::difference(data, before), 1e-14);
}

TEST(CpuRotary, ItsInverseIsItsGradient) {
  Doubles in = Draw(1).normal(3 * 8);
  const std::vector<std::int32_t> positions{0, 7, 2};
  const Loss loss{Draw(2).normal(3 * 8)};
  Doubles data;
  Rotary call{.dtype = DType::fp64,
              .tokens = 3,
              .heads = 2,
              .head_dim = 4,
              .positions = positions.data()};
  const auto value = [&] {
    data = in;
    call.data = data.data();
    testing::run_or_fail(call);
    return loss.of(data);
  };
  value();
  Doubles d = loss.gradient(data);
  Rotary back = call;
  back.inverse = true;
  back.data = d.data();
  testing::run_or_fail(back);
  testing::expect_gradient(in, d, value, "data");
}

TEST(CpuSums, AddAddsAlsoInPlace) {
  for (const std::int64_t n : {0, 1, 3, 33}) {
    const Doubles a = Draw(1).normal(n), b = Draw(2).normal(n);
    Guarded<double> out(n);
    Doubles in_place = a;
    testing::run_or_fail(Add{.dtype = DType::fp64,
                             .elements = n,
                             .a = a.data(),
                             .b = b.data(),
                             .out = out.data()});
    testing::run_or_fail(Add{.dtype = DType::fp64,
                             .elements = n,
                             .a = b.data(),
                             .b = in_place.data(),
                             .out = in_place.data()});
    EXPECT_TRUE(out.intact());
    for (std::size_t i = 0; i < as_size(n); ++i) {
      EXPECT_EQ(out.values()[i], a[i] + b[i]);
      EXPECT_EQ(in_place[i], a[i] + b[i]);
    }
  }
}

TEST(CpuSums, BiasIsAddedToRowsAndItsGradientSumsColumns) {
  for (const std::int64_t columns : {1, 3, 33}) {
    Doubles bias = Draw(1).normal(columns);
    const Doubles x = Draw(2).normal(5 * columns);
    const Loss loss{Draw(3).normal(5 * columns)};
    Doubles data;
    const auto value = [&] {
      data = x;
      testing::run_or_fail(BiasAdd{.dtype = DType::fp64,
                                   .rows = 5,
                                   .columns = columns,
                                   .bias = bias.data(),
                                   .data = data.data()});
      return loss.of(data);
    };
    value();
    for (std::size_t i = 0; i < data.size(); ++i) {
      EXPECT_EQ(data[i], x[i] + bias[i % bias.size()]);
    }
    const Doubles d_out = loss.gradient(data);
    Doubles d_bias(as_size(columns), 3);
    testing::run_or_fail(BiasGradient{.dtype = DType::fp64,
                                      .rows = 5,
                                      .columns = columns,
                                      .d_out = d_out.data(),
                                      .d_bias = d_bias.data()});
    for (double& d : d_bias) d -= 3;
    testing::expect_gradient(bias, d_bias, value, "bias");
  }
}

}  // namespace
}  // namespace troupe::kernels
