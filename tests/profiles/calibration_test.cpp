#include "profiles/calibration.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "profiles/cost_model.h"
#include "tests/profiles/support.h"

namespace troupe::profiles {
namespace {

using kernels::DType;
using kernels::OpKind;

/// Rows that follow the model exactly.
std::vector<OperatorRow> ideal_rows(const Curves& curves,
                                    const clusters::DeviceKind& kind) {
  std::vector<OperatorRow> rows;
  for (std::int64_t m = 16; m <= 8192; m *= 2) {
    for (std::int64_t n = 512; n <= 16384; n *= 2) {
      OperatorRow row = gemm_row(kind.name, m, n, 4096, 0);
      row.time_s = roofline(row.op, kind, curves);
      rows.push_back(row);
    }
  }
  return rows;
}

TEST(Calibration, FindsTheParametersThatMadeTheRows) {
  const clusters::DeviceKind h100 = kind("h100-sxm");
  Curves truth;
  truth.gemm = {.efficiency = 0.62,
                .k0 = 40,
                .overhead = 6e-6,
                .memory = 0.7,
                .error = 0};
  const GemmFit fit = fit_gemm(ideal_rows(truth, h100), h100);
  EXPECT_LT(fit.error, 0.01);
  EXPECT_NEAR(fit.efficiency, 0.62, 0.02);
  EXPECT_NEAR(fit.memory, 0.7, 0.05);
  EXPECT_NEAR(fit.overhead, 6e-6, 1e-6);
}

TEST(Calibration, FewRowsFitNothing) {
  const clusters::DeviceKind h100 = kind("h100-sxm");
  const std::vector<OperatorRow> few(kLeastRows - 1,
                                     gemm_row("h100-sxm", 8, 8, 8, 1));
  EXPECT_EQ(fit_gemm(few, h100).efficiency, GemmFit{}.efficiency);
}

/// Median relative error of the fitted roofline over measured rows.
double median_error(const char* device, OpKind op, std::int64_t least) {
  const clusters::DeviceKind measured = kind(device);
  const Curves curves = value_of(curves_of(shipped_database(), measured));
  std::vector<double> errors;
  for (const OperatorRow& row :
       value_of(shipped_database().operators_of(device, op))) {
    if (op == OpKind::gemm &&
        *std::min_element(row.op.dim.begin() + 1, row.op.dim.begin() + 4) <
            least) {
      continue;
    }
    errors.push_back(
        std::abs(roofline(row.op, measured, curves) / row.time_s - 1));
  }
  EXPECT_GT(errors.size(), 7U);
  std::ranges::sort(errors);
  return errors[errors.size() / 2];
}

// The promise of profiles/README.md: half of the measured products are
// predicted within 8 %, attention within 10 %.
TEST(Calibration, MeasuredProductsAreWithinThePromise) {
  for (const char* device :
       {"a100-sxm-80", "h100-sxm", "a100-pcie-80", "b200"}) {
    EXPECT_LT(median_error(device, OpKind::gemm, 512), 0.08) << device;
  }
  for (const char* device : {"a100-pcie-80", "b200"}) {
    EXPECT_LT(median_error(device, OpKind::attention_forward, 0), 0.1);
    EXPECT_LT(median_error(device, OpKind::attention_backward, 0), 0.1);
  }
}

TEST(Calibration, ABorrowedCurveSaysFromWhom) {
  const Curves curves = value_of(curves_of(shipped_database(), kind("a10")));
  bool named = false;
  for (const std::string& note : curves.notes) {
    named = named || (note.find("gemm") != std::string::npos &&
                      note.find("a100") != std::string::npos);
  }
  EXPECT_TRUE(named);
  // Not from Hopper or Blackwell, whose libraries and units differ.
  for (const std::string& note : curves.notes) {
    EXPECT_EQ(note.find("h100"), std::string::npos) << note;
  }
}

TEST(Calibration, EfficienciesStayWithinPhysics) {
  const auto kinds = value_of(clusters::shipped_kinds());
  for (const clusters::DeviceKind& any : kinds.kinds) {
    const Curves curves = value_of(curves_of(shipped_database(), any));
    for (const double share :
         {curves.gemm.efficiency, curves.gemm.memory, curves.forward.efficiency,
          curves.backward.efficiency}) {
      EXPECT_GT(share, 0) << any.name;
      EXPECT_LE(share, 1) << any.name;
    }
    for (const StreamFit& fit : curves.stream) EXPECT_LE(fit.memory, 1);
  }
}

// The paper of FlashAttention 2 gives its predecessor 25-40 % of an A100's
// peak, forward and backward together, itself 335 of 989 TFLOP/s of an H100.
// Long sequences leave nothing but the rate.
TEST(Calibration, OlderAttentionKernelsReachWhatTheirPaperSays) {
  const auto share = [](const char* device, kernels::AttentionKernel kernel) {
    const clusters::DeviceKind one = kind(device);
    const Curves curves = value_of(curves_of(shipped_database(), one));
    kernels::OpShape op{.kind = OpKind::attention_forward,
                        .causal = true,
                        .attention = kernel,
                        .dim = {8, 16384, 16384, 16, 16, 128}};
    double time = roofline(op, one, curves);
    double work = kernels::flops(op).v;
    op.kind = OpKind::attention_backward;
    time += roofline(op, one, curves);
    work += kernels::flops(op).v;
    return work / time / peak_of(one, DType::bf16);
  };
  using kernels::AttentionKernel;
  const double old = share("a100-sxm-80", AttentionKernel::flash1);
  EXPECT_GT(old, 0.25);
  EXPECT_LT(old, 0.40);
  EXPECT_NEAR(share("h100-sxm", AttentionKernel::flash2), 335.0 / 989, 0.03);
  for (const char* device : {"a100-sxm-80", "h100-sxm", "t4", "b200"}) {
    EXPECT_LE(share(device, AttentionKernel::flash1),
              share(device, AttentionKernel::flash2));
    EXPECT_LE(share(device, AttentionKernel::flash2),
              share(device, AttentionKernel::tuned));
  }
}

// 13 TFLOP/s and 69 % of 320 GB/s, whatever the lender's board reaches.
TEST(Calibration, APowerLimitBoundsWhatIsBorrowed) {
  const clusters::DeviceKind t4 = kind("t4");
  const Curves curves = value_of(curves_of(shipped_database(), t4));
  EXPECT_EQ(curves.gemm.efficiency, 0.2);
  for (const StreamFit& fit : curves.stream) EXPECT_LE(fit.memory, 0.69);
  bool said = false;
  for (const std::string& note : curves.notes) {
    said = said || note.find("70 W") != std::string::npos;
  }
  EXPECT_TRUE(said);
}

TEST(Calibration, PeaksFallBackToTheClosestType) {
  const clusters::DeviceKind v100 = kind("v100-sxm-16");
  EXPECT_EQ(peak_of(v100, DType::bf16), peak_of(v100, DType::fp16));
  EXPECT_GT(peak_of(clusters::DeviceKind{}, DType::bf16), 0);
}

// A stage fit that takes twice as long as predicted halves the efficiency of
// what is not bound by memory.
TEST(Calibration, StagesCorrectABorrowedCurve) {
  const clusters::DeviceKind h20 = kind("h20");
  StageRow row{.device = "h20",
               .model = "m",
               .hidden = 4096,
               .layers = 32,
               .vocab = 32000,
               .heads = 32,
               .kv_heads = 32,
               .head_dim = 128,
               .ffn = 11008,
               .gated = true,
               .b = 1e-3,
               .max_seq = 4096};
  Curves first;
  scale_to_stages(std::span(&row, 1), h20, first);
  row.b *= 2;
  Curves second;
  scale_to_stages(std::span(&row, 1), h20, second);
  EXPECT_LT(second.gemm.efficiency, first.gemm.efficiency);
  EXPECT_NEAR(second.gemm.efficiency / first.gemm.efficiency, 0.5, 0.05);
  EXPECT_FALSE(second.notes.empty());
}

}  // namespace
}  // namespace troupe::profiles
