#include "measure/operands.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "models/read.h"

namespace troupe::measure {
namespace {

using kernels::DType;
using kernels::OpKind;

std::vector<std::int32_t> integers(const Operand& operand) {
  const std::vector<std::byte> bytes = contents(operand, 1);
  std::vector<std::int32_t> values(bytes.size() / 4);
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

TEST(PlanCall, GivesBackTheShapeThatWasAskedFor) {
  Range range;
  range.models = {*models::read_model("llama-7b"),
                  *models::read_model("gpt2-xl")};
  range.tp = {1, 2};
  range.cp = {1, 2};
  range.seq_len = {256};
  for (const Wanted& w : wanted_operators(range)) {
    const auto plan = plan_call(w);
    ASSERT_TRUE(plan) << to_string(w.op);
    const kernels::OpShape shape = shape_of(plan->call);
    EXPECT_EQ(shape.kind, w.op.kind);
    EXPECT_EQ(kernels::traffic(shape), kernels::traffic(w.op))
        << to_string(w.op) << " became " << to_string(shape);
    EXPECT_EQ(kernels::flops(shape), kernels::flops(w.op)) << to_string(w.op);
  }
}

TEST(PlanCall, RefusesTypesWithoutABody) {
  const Wanted wanted{kernels::gemm(8, 8, 8, DType::fp16), Product::forward,
                      "p", 1};
  const auto plan = plan_call(wanted);
  ASSERT_FALSE(plan);
  EXPECT_NE(plan.error().message.find("fp16"), std::string::npos);
}

TEST(PlanCall, AWeightGradientAddsIntoSinglePrecision) {
  const Wanted wanted{kernels::gemm(32, 16, 8, DType::bf16),
                      Product::weight_gradient, "p.weight_gradient", 1};
  const auto plan = plan_call(wanted);
  ASSERT_TRUE(plan);
  const auto& gemm = std::get<kernels::Gemm>(plan->call);
  EXPECT_TRUE(gemm.transpose_a);
  EXPECT_TRUE(gemm.accumulate);
  EXPECT_EQ(gemm.out, DType::fp32);
  // A (8, 32) and B (8, 16) of two bytes, C (32, 16) of four.
  EXPECT_EQ(plan->size().v, 8 * 32 * 2 + 8 * 16 * 2 + 32 * 16 * 4);
}

TEST(Contents, TokensStayInTheVocabulary) {
  const Operand tokens{{4 * 1000}, DType::int32, Fill::tokens, 50, {}};
  int most = 0;
  for (const std::int32_t token : integers(tokens)) {
    ASSERT_GE(token, 0);
    ASSERT_LT(token, 50);
    most = std::max(most, token);
  }
  EXPECT_GT(most, 40);
}

TEST(Contents, StartsAreMultiplesOfTheLength) {
  const Operand starts{{4 * 4}, DType::int32, Fill::starts, 128, {}};
  EXPECT_EQ(integers(starts), (std::vector<std::int32_t>{0, 128, 256, 384}));
}

TEST(Contents, NormalNumbersHaveMeanZeroAndVarianceOne) {
  const Operand operand{{8 * 100000}, DType::fp64, Fill::normal, 0, {}};
  const std::vector<std::byte> bytes = contents(operand, 3);
  double sum = 0;
  double square = 0;
  for (std::size_t i = 0; i < 100000; ++i) {
    double x = 0;
    std::memcpy(&x, bytes.data() + 8 * i, 8);
    sum += x;
    square += x * x;
  }
  // Three standard errors of 100,000 draws.
  EXPECT_NEAR(sum / 1e5, 0, 3 / std::sqrt(1e5));
  EXPECT_NEAR(square / 1e5, 1, 0.02);
}

TEST(Contents, BrainFloatsAreRoundedToNearest) {
  const Operand operand{{2 * 4}, DType::bf16, Fill::ones, 0, {}};
  const std::vector<std::byte> bytes = contents(operand, 3);
  std::uint16_t bits = 0;
  std::memcpy(&bits, bytes.data(), 2);
  EXPECT_EQ(bits, 0x3f80);
}

}  // namespace
}  // namespace troupe::measure
