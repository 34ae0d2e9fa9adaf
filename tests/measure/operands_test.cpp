#include "measure/operands.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "measure/memory.h"
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

// Larger than a pattern, so that every way of filling is taken.
constexpr std::int64_t kMany = (std::int64_t{3} << 20) + 77;

/// Places a plan of one operand and returns what lies there in each set.
std::vector<std::vector<float>> placed(const Operand& operand, int sets) {
  const auto machine = cpu_machine();
  Memory memory(*machine);
  std::vector<const float*> at;
  Operand one = operand;
  one.bind = [&](kernels::Call&, void* data) {
    at.push_back(static_cast<const float*>(data));
  };
  // Placed twice: nothing of the first filling may shine through.
  const CallPlan other{{}, {{one.size, one.dtype, Fill::ones, 0, one.bind}}};
  EXPECT_TRUE(memory.place(other, sets));
  at.clear();
  EXPECT_TRUE(memory.place(CallPlan{{}, {one}}, sets));
  std::vector<std::vector<float>> values;
  for (const float* data : at) {
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(data) % 256, 0);
    values.emplace_back(data, data + one.size.v / 4);
  }
  return values;
}

TEST(Memory, FillsEverySetToItsEnd) {
  const Operand zeros{{4 * kMany}, DType::fp32, Fill::zeros, 0, {}};
  const auto sets = placed(zeros, 3);
  ASSERT_EQ(sets.size(), 3);
  for (const auto& set : sets) {
    EXPECT_TRUE(std::ranges::all_of(set, [](float x) { return x == 0; }));
  }
  const Operand ones{{4 * kMany}, DType::fp32, Fill::ones, 0, {}};
  for (const auto& set : placed(ones, 2)) {
    EXPECT_TRUE(std::ranges::all_of(set, [](float x) { return x == 1; }));
  }
}

TEST(Memory, FillsWithNormalNumbersAndNothingOdd) {
  const Operand normal{{4 * kMany}, DType::fp32, Fill::normal, 0, {}};
  const auto sets = placed(normal, 2);
  ASSERT_EQ(sets.size(), 2);
  EXPECT_EQ(sets[0], sets[1]);
  double sum = 0;
  double square = 0;
  for (const float x : sets[0]) {
    ASSERT_TRUE(x == 0 || std::isnormal(x));
    sum += x;
    square += static_cast<double>(x) * x;
  }
  const auto n = static_cast<double>(sets[0].size());
  EXPECT_NEAR(sum / n, 0, 5e-3);
  EXPECT_NEAR(square / n, 1, 0.02);
}

TEST(Memory, OperandsOfOneCallDiffer) {
  const auto machine = cpu_machine();
  Memory memory(*machine);
  const Wanted wanted{kernels::gemm(64, 64, 64, DType::fp32), Product::forward,
                      "p", 1};
  const auto calls = memory.place(*plan_call(wanted), 2);
  ASSERT_TRUE(calls);
  const auto& first = std::get<kernels::Gemm>((*calls)[0]);
  const auto& second = std::get<kernels::Gemm>((*calls)[1]);
  EXPECT_NE(std::memcmp(first.a, first.b, 4 * 64 * 64), 0);
  EXPECT_EQ(std::memcmp(first.a, second.a, 4 * 64 * 64), 0);
  EXPECT_NE(first.a, second.a);
}

TEST(Memory, TokensAndStartsArePlacedAsTheyAre) {
  const Operand starts{{4 * 4}, DType::int32, Fill::starts, 128, {}};
  const auto sets = placed(starts, 2);
  std::vector<std::int32_t> values(4);
  std::memcpy(values.data(), sets[1].data(), 16);
  EXPECT_EQ(values, (std::vector<std::int32_t>{0, 128, 256, 384}));
}

}  // namespace
}  // namespace troupe::measure
