// Calls that cannot be performed: each is refused with operator, field and
// value, and nothing is written. A GPU asks the
// same check, and says the same of all that it can see.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/check.h"
#include "tests/kernels/cpu_tools.h"

namespace troupe::kernels {
namespace {

using ::testing::HasSubstr;

constexpr auto kHuge = std::numeric_limits<std::int64_t>::max();
double memory[64];
const std::int32_t indices[8] = {};

// Calls whose operands are all `memory`.
Gemm gemm_call() {
  return {.dtype = DType::fp64,
          .out = DType::fp64,
          .m = 2,
          .n = 2,
          .k = 2,
          .a = memory,
          .b = memory + 4,
          .c = memory + 8};
}
const std::int32_t starts[3] = {0, 1, 2};
const std::int32_t falling[3] = {0, 1, 0};
const std::int32_t below[3] = {-1, 0, 1};
AttentionForward attention() {
  return {.dtype = DType::fp64,
          .sizes = {.sequences = 2,
                    .q_tokens = 2,
                    .kv_tokens = 2,
                    .max_q = 1,
                    .max_kv = 1,
                    .heads = 2,
                    .kv_heads = 1,
                    .head_dim = 2,
                    .q_starts = starts,
                    .kv_starts = starts},
          .q = memory,
          .k = memory,
          .v = memory,
          .out = memory + 32,
          .lse = memory + 48};
}

// What a GPU's launch cannot know is the host's alone: contents of sequence
// starts, and which types the CPU has bodies for.
enum class Seen { everywhere, on_host };

void expect_refused(const Call& call, const char* a, const char* b,
                    Seen seen = Seen::everywhere) {
  for (double& x : memory) x = 0.5;
  const auto result = cpu::run(call);
  ASSERT_FALSE(result) << a << " " << b;
  EXPECT_EQ(result.error().fault, Fault::input);
  EXPECT_THAT(result.error().message, HasSubstr(a));
  EXPECT_THAT(result.error().message, HasSubstr(b));
  for (const double x : memory) ASSERT_EQ(x, 0.5);
  const auto device = check_call(call, Side::device);
  if (seen == Seen::on_host) {
    EXPECT_TRUE(device) << device.error().message;
    return;
  }
  ASSERT_FALSE(device) << a << " " << b;
  EXPECT_EQ(device.error().fault, Fault::input);
  EXPECT_EQ(device.error().message, result.error().message);
}

template <typename C, typename Change>
Call but(C call, Change&& change) {
  change(call);
  return call;
}

TEST(CpuBadCall, OfAProduct) {
  ASSERT_TRUE(cpu::run(gemm_call()));
  const auto refused = [](auto change, const char* what,
                          Seen seen = Seen::everywhere) {
    expect_refused(but(gemm_call(), change), "gemm: ", what, seen);
  };
  refused([](Gemm& c) { c.m = -1; }, "m is -1");
  refused([](Gemm& c) { c.batch = -7; }, "batch is -7");
  refused([](Gemm& c) { c.k = kHuge; }, "k is 9223372036854775807");
  refused([](Gemm& c) { c.lda = 1; }, "lda is 1");
  refused([](Gemm& c) { c.ldb = -2; }, "ldb is -2");
  refused([](Gemm& c) { c.ldc = kHuge; }, "ldc is 9223372036854775807");
  refused([](Gemm& c) { c.dtype = c.out = DType::fp8; }, "dtype is fp8",
          Seen::on_host);
  refused([](Gemm& c) { c.out = DType::bf16; }, "out is bf16");
  refused([](Gemm& c) { c.a = nullptr; }, "a is null");
  refused([](Gemm& c) { c.c = nullptr; }, "c is null");
}

TEST(CpuBadCall, OfAttention) {
  ASSERT_TRUE(cpu::run(attention()));
  const auto refused = [](auto change, const char* what,
                          Seen seen = Seen::everywhere) {
    expect_refused(but(attention(), change), "attention_forward: ", what, seen);
  };
  refused([](auto& c) { c.sizes.kv_heads = 3; }, "heads is 2");
  refused([](auto& c) { c.sizes.kv_heads = 0; }, "kv_heads is 0");
  refused([](auto& c) { c.sizes.head_dim = 0; }, "head_dim is 0");
  refused([](auto& c) { c.sizes.sequences = -1; }, "sequences is -1");
  refused([](auto& c) { c.sizes.q_ld = 3; }, "q_ld is 3");
  refused([](auto& c) { c.sizes.kv_ld = 1; }, "kv_ld is 1");
  refused([](auto& c) { c.sizes.out_ld = kHuge; }, "out_ld is 9223");
  refused([](auto& c) { c.sizes.scale = NAN; }, "scale is nan");
  refused([](auto& c) { c.sizes.q_starts = nullptr; }, "q_starts is null");
  refused([](auto& c) { c.sizes.max_q = 0; }, "q_starts[1] is 1",
          Seen::on_host);
  refused([](auto& c) { c.sizes.kv_tokens = 1; }, "kv_starts[sequences] is 2",
          Seen::on_host);
  refused([](auto& c) { c.sizes.kv_starts = falling; }, "kv_starts[2] is 0",
          Seen::on_host);
  refused([](auto& c) { c.sizes.q_starts = below; }, "q_starts is -1",
          Seen::on_host);
  refused([](auto& c) { c.lse = nullptr; }, "lse is null");
  refused([](auto& c) { c.sizes.window = -1; }, "window is -1");
  refused(
      [](auto& c) {
        c.sizes.window = 4;
        c.sizes.causal = false;
      },
      "window is 4");
  refused([](auto& c) { c.k = nullptr; }, "k is null");
}

TEST(CpuBadCall, OfNormsAndRotary) {
  const DType d = DType::fp64;
  double* const x = memory;
  expect_refused(AttentionBackward{.dtype = d,
                                   .sizes = attention().sizes,
                                   .q = x,
                                   .k = x,
                                   .v = x,
                                   .out = x,
                                   .lse = x,
                                   .dq = x,
                                   .dk = x,
                                   .dv = x},
                 "attention_backward", "d_out is null");
  expect_refused(AttentionMerge{.dtype = d, .tokens = -1}, "attention_merge",
                 "tokens is -1");
  expect_refused(NormForward{.dtype = d, .rows = 1, .columns = 0},
                 "norm_forward", "columns is 0");
  expect_refused(
      NormForward{.dtype = d, .rows = 1, .columns = 1, .epsilon = -1},
      "norm_forward", "epsilon is -1");
  expect_refused(NormForward{.dtype = d,
                             .rms = false,
                             .rows = 1,
                             .columns = 1,
                             .in = x,
                             .weight = x,
                             .out = x,
                             .rstd = x},
                 "norm_forward", "mean is null");
  expect_refused(NormBackward{.dtype = d, .rows = kHuge, .columns = 2},
                 "norm_backward", "rows is 9223372036854775807");
  expect_refused(Rotary{.dtype = d, .tokens = 1, .heads = 1, .head_dim = 3},
                 "rotary", "head_dim is 3");
  expect_refused(Rotary{.dtype = d,
                        .tokens = 1,
                        .heads = 1,
                        .head_dim = 2,
                        .base = 0,
                        .positions = indices,
                        .data = x},
                 "rotary", "base is 0");
  const auto scaled = [&](RotaryScaling scaling, const char* what) {
    expect_refused(Rotary{.dtype = d,
                          .tokens = 1,
                          .heads = 1,
                          .head_dim = 2,
                          .scaling = scaling,
                          .positions = indices,
                          .data = x},
                   "rotary", what);
  };
  scaled({.factor = 0.5}, "scaling.factor is 0.5");
  scaled({.factor = NAN}, "scaling.factor is nan");
  scaled({.factor = 8, .low = 4, .high = 4}, "scaling.high is 4");
  scaled({.factor = 8, .original = 0}, "scaling.original is 0");
}

TEST(CpuBadCall, OfPointwiseOperatorsAndEmbeddings) {
  const DType d = DType::fp64;
  double* const x = memory;
  expect_refused(ActivationForward{.dtype = d, .rows = 1, .columns = -4},
                 "activation_forward", "columns is -4");
  expect_refused(
      ActivationBackward{
          .dtype = d, .rows = 1, .columns = 1, .in = x, .d_in = x},
      "activation_backward", "d_out is null");
  expect_refused(Add{.dtype = DType::int32}, "add", "dtype is int32",
                 Seen::on_host);
  expect_refused(BiasAdd{.dtype = d, .rows = 1, .columns = 1, .data = x},
                 "bias_add", "bias is null");
  expect_refused(BiasGradient{.dtype = d, .rows = -2}, "bias_gradient",
                 "rows is -2");
  expect_refused(
      EmbeddingForward{.dtype = d, .rows = 1, .columns = 1, .vocabulary = -1},
      "embedding_forward", "vocabulary is -1");
  expect_refused(EmbeddingBackward{.dtype = d,
                                   .rows = 1,
                                   .columns = 1,
                                   .vocabulary = 1,
                                   .d_out = x,
                                   .d_table = x},
                 "embedding_backward", "tokens is null");
}

TEST(CpuBadCall, OfTheLossAndTheOptimizer) {
  const DType d = DType::fp64;
  double* const x = memory;
  expect_refused(
      CrossEntropyForward{.dtype = d, .rows = 1, .columns = 4, .ld = 3},
      "cross_entropy_forward", "ld is 3");
  expect_refused(CrossEntropyMerge{.dtype = d, .rows = 1, .shards = 0},
                 "cross_entropy_merge", "shards is 0");
  expect_refused(
      CrossEntropyBackward{
          .dtype = d, .rows = 1, .columns = 1, .scale = HUGE_VAL},
      "cross_entropy_backward", "scale is inf");
  expect_refused(AdamW{.dtype = d, .elements = 1, .step = 0}, "adamw",
                 "step is 0");
  expect_refused(AdamW{.dtype = d, .elements = 1, .beta2 = 1}, "adamw",
                 "beta2 is 1");
  expect_refused(
      AdamW{.dtype = d, .elements = 1, .gradient = x, .master = x, .v = x},
      "adamw", "m is null");
  expect_refused(SquareSum{.dtype = d, .elements = 0}, "square_sum",
                 "sum is null");
  expect_refused(ClipFactor{.dtype = d, .limit = NAN, .sum = x, .clip = x},
                 "clip_factor", "limit is nan");
}

TEST(CpuBadCall, OfCopies) {
  const DType d = DType::fp64;
  double* const x = memory;
  expect_refused(
      Cast{.from = d, .to = DType::fp16, .elements = 1, .in = x, .out = x + 8},
      "cast", "to is fp16", Seen::on_host);
  expect_refused(
      CopyBlock{.dtype = d, .size = {1, 1, 1, 2}, .in = x, .out = x + 8},
      "copy_block", "size[3] is 2");
  expect_refused(CopyBlock{.dtype = d, .size = {1, 1, -3, 2}}, "copy_block",
                 "size[2] is -3");
  expect_refused(CopyBlock{.dtype = d,
                           .size = {2, 1, 1, 1},
                           .from_stride = {kHuge, 0, 0, 0},
                           .to_stride = {1, 0, 0, 0},
                           .in = x,
                           .out = x + 8},
                 "copy_block", "from_stride is 9223372036854775807");
}

TEST(CpuBadCall, OnAGpuWithoutItsScratchMemory) {
  double* const x = memory;
  const auto refused = [](const Call& call, const char* what) {
    EXPECT_TRUE(check_call(call, Side::host));
    const auto result = check_call(call, Side::device);
    ASSERT_FALSE(result) << what;
    EXPECT_EQ(result.error().fault, Fault::input);
    EXPECT_THAT(result.error().message, HasSubstr(what));
    EXPECT_THAT(result.error().message, HasSubstr("workspace is null"));
  };
  const DType d = DType::fp32;
  NormBackward norm{.dtype = d, .rows = 1, .columns = 1};
  norm.in = norm.weight = norm.rstd = norm.d_out = x;
  norm.d_in = norm.d_weight = x;
  refused(norm, "norm_backward");
  norm.workspace = x;
  EXPECT_TRUE(check_call(norm, Side::device));
  refused(
      BiasGradient{
          .dtype = d, .rows = 1, .columns = 1, .d_out = x, .d_bias = x},
      "bias_gradient");
  refused(SquareSum{.dtype = d, .elements = 1, .data = x, .sum = x},
          "square_sum");
  refused(EmbeddingBackward{.dtype = d,
                            .rows = 1,
                            .columns = 1,
                            .vocabulary = 1,
                            .tokens = indices,
                            .d_out = x,
                            .d_table = x},
          "embedding_backward");
}

TEST(CpuBadCall, AnEmptyCallNeedsNoOperands) {
  AttentionForward none{.dtype = DType::fp32};
  none.sizes.heads = none.sizes.kv_heads = none.sizes.head_dim = 1;
  const DType d = DType::bf16;
  const Call empty[] = {Gemm{},
                        none,
                        AttentionMerge{},
                        NormForward{.dtype = d, .columns = 4},
                        NormBackward{.dtype = d, .columns = 4},
                        Rotary{},
                        ActivationForward{},
                        ActivationBackward{},
                        Add{},
                        BiasAdd{},
                        BiasGradient{},
                        EmbeddingForward{},
                        EmbeddingBackward{},
                        CrossEntropyForward{},
                        CrossEntropyMerge{},
                        CrossEntropyBackward{},
                        AdamW{},
                        Cast{},
                        CopyBlock{.size = {0, 1, 1, 1}}};
  for (const Call& call : empty) {
    const auto result = cpu::run(call);
    EXPECT_TRUE(result) << call.index() << result.error().message;
  }
}

}  // namespace
}  // namespace troupe::kernels
