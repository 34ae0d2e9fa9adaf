#include "kernels/operator.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <set>

namespace troupe::kernels {
namespace {

OpShape attention(OpKind kind, std::int64_t q, std::int64_t kv, bool causal) {
  return {.kind = kind,
          .dtype = DType::bf16,
          .causal = causal,
          .dim = {1, q, kv, 8, 2, 64}};
}

TEST(Operator, EveryKindHasItsOwnNameAndIsParsedBack) {
  std::set<std::string_view> names;
  for (int i = 0; i < kOpKinds; ++i) {
    const auto kind = static_cast<OpKind>(i);
    names.insert(name_of(kind));
    EXPECT_EQ(parse_op_kind(name_of(kind)), kind);
    EXPECT_GT(dimensions(kind), 0);
  }
  EXPECT_EQ(names.size(), static_cast<std::size_t>(kOpKinds));
  EXPECT_FALSE(parse_op_kind("gem"));
  EXPECT_FALSE(parse_op_kind(""));
}

TEST(Operator, EveryTypeHasItsNameSizeAndOtherSpellings) {
  for (const DType type : {DType::fp32, DType::tf32, DType::bf16, DType::fp16,
                           DType::fp8, DType::int32, DType::int64}) {
    EXPECT_EQ(parse_dtype(name_of(type)), type);
  }
  EXPECT_EQ(size_of(DType::bf16).v, 2);
  EXPECT_EQ(size_of(DType::fp8).v, 1);
  EXPECT_EQ(size_of(DType::int64).v, 8);
  EXPECT_EQ(parse_dtype("bfloat16"), DType::bf16);
  EXPECT_FALSE(parse_dtype("bf17"));
}

TEST(Operator, KeysAreStable) {
  EXPECT_EQ(to_string(gemm(4096, 512, 64, DType::bf16)),
            "gemm 1x4096x512x64 bf16");
  OpShape swiglu =
      rows_by_columns(OpKind::activation_forward, 3, 5, DType::fp16);
  swiglu.gated = true;
  EXPECT_EQ(to_string(swiglu), "activation_forward 3x5 fp16 gated");
  EXPECT_EQ(to_string(attention(OpKind::attention_forward, 7, 7, true)),
            "attention_forward 1x7x7x8x2x64 bf16 causal");
}

// 2 x 2 batches x 3 x 5 x 7 = 420 FLOPs; elements: A 3x7 = 21,
// B 7x5 = 35, C 3x5 = 15, together 71, twice, 2 bytes each: 284.
TEST(Operator, GemmCountsMultiplyAddsAndEachMatrixOnce) {
  const OpShape op = gemm(3, 5, 7, DType::bf16, 2);
  EXPECT_DOUBLE_EQ(flops(op).v, 420);
  EXPECT_EQ(traffic(op).v, 284);
}

// 4 x 128 x 128 x 8 heads x 64 = 33554432, half of it causal; backward 2.5x.
TEST(Operator, CausalAttentionIsHalfTheSquare) {
  const auto full = attention(OpKind::attention_forward, 128, 128, false);
  const auto half = attention(OpKind::attention_forward, 128, 128, true);
  const auto back = attention(OpKind::attention_backward, 128, 128, true);
  EXPECT_DOUBLE_EQ(flops(full).v, 33554432);
  EXPECT_DOUBLE_EQ(flops(half).v, 16777216);
  EXPECT_DOUBLE_EQ(flops(back).v, 41943040);
}

// Q and O: 2 x 128 x 8 x 64; K and V: 2 x 128 x 2 x 64; 2 bytes each: 327680.
// One fp32 logsumexp per query and head: 128 x 8 x 4 = 4096.
TEST(Operator, AttentionTrafficCountsKvHeads) {
  const auto op = attention(OpKind::attention_forward, 128, 128, true);
  EXPECT_EQ(traffic(op).v, 327680 + 4096);
}

// Splitting causal queries into the chunks of a longer sequence must not
// change their sum: 64 first queries see 64 keys, 64 last ones see 128.
TEST(Operator, CausalChunksAddUpToTheWhole) {
  const auto whole = attention(OpKind::attention_forward, 128, 128, true);
  const auto first = attention(OpKind::attention_forward, 64, 64, true);
  const auto last = attention(OpKind::attention_forward, 64, 128, true);
  EXPECT_DOUBLE_EQ(flops(whole).v, flops(first).v + flops(last).v);
}

// Against the same counted token by token, in steps of a 64th.
RC_GTEST_PROP(OperatorProperty, CausalPairsAreThoseInTheWindow, ()) {
  const int kv = *rc::gen::inRange(1, 40);
  const int q = *rc::gen::inRange(1, 40);
  const int window = *rc::gen::inRange(0, 45);
  double pairs = 0;
  constexpr int kSteps = 64;
  for (int i = 0; i < q * kSteps; ++i) {
    const double seen = kv - q + (i + 0.5) / kSteps;
    pairs += std::clamp(seen, 0.0, window > 0 ? window : 1e9) / kSteps;
  }
  RC_ASSERT(std::abs(causal_pairs(q, kv, window) - pairs) <= 1e-9 * q * kv);
}

TEST(Operator, WindowThatHidesNothingIsNone) {
  EXPECT_EQ(effective_window(4096, 8192), 4096);
  EXPECT_EQ(effective_window(4096, 4096), 0);
  EXPECT_EQ(effective_window(0, 8), 0);
}

// fp32 master and two moments read and written (24), gradient read (4), bf16
// copy written (2): 30 bytes per element; 28 where the master is the copy.
TEST(Operator, OptimizerTrafficPerElement) {
  OpShape op{.kind = OpKind::optimizer, .dtype = DType::bf16, .dim = {10}};
  EXPECT_EQ(traffic(op).v, 300);
  op.dtype = DType::fp32;
  EXPECT_EQ(traffic(op).v, 280);
}

TEST(Operator, GatedActivationMovesMore) {
  OpShape op = rows_by_columns(OpKind::activation_forward, 10, 10, DType::bf16);
  EXPECT_EQ(traffic(op).v, 400);
  op.gated = true;
  EXPECT_EQ(traffic(op).v, 600);
}

RC_GTEST_PROP(OperatorProperty, GrowsWithEverySizeAndIsNeverNegative, ()) {
  OpShape op;
  op.kind = static_cast<OpKind>(*rc::gen::inRange(0, kOpKinds));
  op.causal = *rc::gen::arbitrary<bool>();
  op.gated = *rc::gen::arbitrary<bool>();
  for (auto& d : op.dim) d = *rc::gen::inRange<std::int64_t>(1, 1 << 12);
  OpShape larger = op;
  const auto i =
      static_cast<std::size_t>(*rc::gen::inRange(0, dimensions(op.kind)));
  larger.dim[i] += *rc::gen::inRange<std::int64_t>(1, 1 << 12);
  RC_ASSERT(flops(op).v >= 0);
  RC_ASSERT(traffic(op).v > 0);
  RC_ASSERT(flops(larger).v >= flops(op).v);
  RC_ASSERT(traffic(larger).v >= traffic(op).v);
}

RC_GTEST_PROP(OperatorProperty, HugeSizesSaturate, ()) {
  OpShape op;
  op.kind = static_cast<OpKind>(*rc::gen::inRange(0, kOpKinds));
  op.dim.fill(std::int64_t{1} << 40);
  RC_ASSERT(traffic(op).v > 0);
  RC_ASSERT(std::isfinite(flops(op).v));
}

}  // namespace
}  // namespace troupe::kernels
