#include "profiles/rows.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <limits>

#include "profiles/devices.h"
#include "profiles/plausible.h"
#include "tests/profiles/support.h"

namespace troupe::profiles {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

TEST(Rows, TimesMustBePositiveAndFinite) {
  for (const double bad : {0.0, -1.0, kNan, kInfinity, 1e9}) {
    EXPECT_TRUE(problem_of(gemm_row("h100-sxm", 8, 8, 8, bad))) << bad;
  }
  EXPECT_FALSE(problem_of(gemm_row("h100-sxm", 8, 8, 8, 1e-5)));
}

TEST(Rows, SizesMustBePositiveAndOfThisWorld) {
  EXPECT_TRUE(problem_of(gemm_row("h100-sxm", 0, 8, 8, 1)));
  EXPECT_TRUE(problem_of(gemm_row("h100-sxm", -8, 8, 8, 1)));
  EXPECT_TRUE(problem_of(gemm_row("h100-sxm", std::int64_t{1} << 41, 8, 8, 1)));
  OperatorRow five = gemm_row("h100-sxm", 8, 8, 8, 1);
  five.op.dim[4] = 3;
  EXPECT_TRUE(problem_of(five));
}

// 4096^3 x 2 = 137 GFLOP in 1 us would be 137 PFLOP/s.
TEST(Rows, FasterThanAnyDeviceIsRefused) {
  const auto problem = problem_of(gemm_row("h100-sxm", 4096, 4096, 4096, 1e-6));
  ASSERT_TRUE(problem);
  EXPECT_NE(problem->find("FLOP/s"), std::string::npos);
}

TEST(Rows, StageNeedsEitherATimeOrAFit) {
  StageRow row{.device = "h20",
               .hidden = 8,
               .layers = 2,
               .vocab = 8,
               .heads = 2,
               .kv_heads = 2,
               .head_dim = 4,
               .ffn = 16};
  EXPECT_TRUE(problem_of(row));
  row.seq_len = 128;
  row.time_s = 0.1;
  EXPECT_FALSE(problem_of(row));
  row.seq_len = 0;
  row.max_seq = 4096;
  EXPECT_TRUE(problem_of(row));  // a = b = 0
  row.b = 1e-4;
  EXPECT_FALSE(problem_of(row));
  row.a = -1e-9;
  EXPECT_TRUE(problem_of(row));
}

TEST(Rows, CollectivesKnowTheirRanks) {
  CollectiveRow row{.device = "h20",
                    .ranks = 8,
                    .per_node = 8,
                    .bytes = 1024,
                    .time_s = 1e-5};
  EXPECT_FALSE(problem_of(row));
  row.per_node = 9;
  EXPECT_TRUE(problem_of(row));
  row.per_node = 8;
  row.ranks = 1;
  EXPECT_TRUE(problem_of(row));
}

RC_GTEST_PROP(RowsProperty, NumbersSurviveText, (double value)) {
  RC_PRE(std::isfinite(value));
  double back = 0;
  RC_ASSERT(from_text(to_text(value), back));
  RC_ASSERT(back == value);
}

RC_GTEST_PROP(RowsProperty, AnyTextIsReadOrRefused, (std::string text)) {
  std::array<std::int64_t, 6> dims{};
  double number = 0;
  int whole = 0;
  bool yes = false;
  from_text(text, dims);
  from_text(text, number);
  from_text(text, whole);
  from_text(text, yes);
}

TEST(Rows, DimensionsReadBack) {
  std::array<std::int64_t, 6> dims{};
  EXPECT_TRUE(from_text("1x2x3", dims));
  EXPECT_EQ(to_text(dims), "1x2x3");
  for (const char* bad : {"", "x", "1x", "1x0", "1x-2", "1x2x3x4x5x6x7", "1 x2",
                          "99999999999999999999"}) {
    EXPECT_FALSE(from_text(bad, dims)) << bad;
  }
}

// 4096^3 products are 137.4 GFLOP: a T4 of 65 TFLOP/s needs 2.1 ms, with the
// margin of 1.25 at least 1.69 ms.
TEST(Plausible, NoDeviceIsFasterThanItsPeak) {
  const auto t4 = kind("t4");
  OperatorRow row{.device = "t4",
                  .op = kernels::gemm(4096, 4096, 4096, kernels::DType::fp16),
                  .time_s = 60e-6};
  ASSERT_TRUE(problem_on(row, t4));
  EXPECT_NE(problem_on(row, t4)->find("2.29e+03 TFLOP/s"), std::string::npos);
  row.time_s = 1.68e-3;
  EXPECT_TRUE(problem_on(row, t4));
  row.time_s = 1.70e-3;
  EXPECT_FALSE(problem_on(row, t4));
  EXPECT_FALSE(problem_on(row, clusters::DeviceKind{}));
  // TF32 of an A100, given as fp32: 0.9 ms are 152 of 156 TFLOP/s.
  row.op.dtype = kernels::DType::fp32;
  row.time_s = 0.9e-3;
  EXPECT_FALSE(problem_on(row, kind("a100-sxm-80")));
  EXPECT_TRUE(problem_on(row, kind("v100-sxm-16")));
  // A GeForce sums fp16 in fp16 at twice the rate: 1.4 ms are 98 TFLOP/s.
  row.op.dtype = kernels::DType::fp16;
  row.time_s = 1.4e-3;
  EXPECT_FALSE(problem_on(row, kind("rtx-3090")));
  row.op.dtype = kernels::DType::bf16;
  EXPECT_TRUE(problem_on(row, kind("rtx-3090")));
}

// 8 GB are read and written in 1 ms: 16 TB/s of an H100's 3.35. 32 MB in 4 us
// as fast may have been in the cache.
TEST(Plausible, MemoryBeyondTheCachesHasItsBandwidth) {
  const auto h100 = kind("h100-sxm");
  const auto copy = [](std::int64_t elements, double time_s) {
    return OperatorRow{
        .device = "h100-sxm",
        .op = kernels::rows_by_columns(kernels::OpKind::copy, elements, 1,
                                       kernels::DType::bf16),
        .time_s = time_s};
  };
  EXPECT_TRUE(problem_on(copy(4'000'000'000, 1e-3), h100));
  EXPECT_FALSE(problem_on(copy(4'000'000'000, 5e-3), h100));
  EXPECT_FALSE(problem_on(copy(16'000'000, 4e-6), h100));
}

// A layer of Llama 7B: 202 M weights, 4096 tokens, forward 1.66 TFLOP.
TEST(Plausible, LayersHaveTheirProducts) {
  LayerRow row{.device = "h100-sxm",
               .key = {.hidden = 4096,
                       .heads = 32,
                       .kv_heads = 32,
                       .head_dim = 128,
                       .ffn = 11008,
                       .gated = true,
                       .seq_len = 4096},
               .time_s = 1.2e-3};
  EXPECT_TRUE(problem_on(row, kind("h100-sxm")));
  row.time_s = 1.4e-3;
  EXPECT_FALSE(problem_on(row, kind("h100-sxm")));
  row.time_s = 1.2e-3;
  row.key.tp = 2;
  EXPECT_FALSE(problem_on(row, kind("h100-sxm")));
}

TEST(Devices, ArchitectureBoardAndAliases) {
  EXPECT_EQ(architecture_of("a100-sxm-80"), "ampere");
  EXPECT_EQ(architecture_of("a10"), "ampere");
  EXPECT_EQ(architecture_of("h20"), "hopper");
  EXPECT_EQ(architecture_of("h200"), "hopper");
  EXPECT_EQ(architecture_of("mystery"), "");
  EXPECT_EQ(board_of("a100-sxm-40"), board_of("a100-sxm-80"));
  EXPECT_NE(board_of("a100-pcie-80"), board_of("a100-sxm-80"));
  EXPECT_EQ(board_of("h100-sxm"), "h100-sxm");
  EXPECT_EQ(device_alias("T4 (g4dn.12xlarge)"), "t4");
  EXPECT_FALSE(device_alias("TPU"));
}

TEST(Devices, AliasesNameShippedKinds) {
  const auto shipped = value_of(clusters::shipped_kinds());
  for (const char* foreign :
       {"a100", "A100-80", "h100", "b200", "A800", "A10", "T4", "V100-16",
        "GH-96", "RTX-3090", "RTX-2080", "Titan-RTX", "a100_pcie", "A40"}) {
    const auto name = device_alias(foreign);
    ASSERT_TRUE(name) << foreign;
    EXPECT_NE(shipped.find(*name), nullptr) << *name;
  }
}

}  // namespace
}  // namespace troupe::profiles
