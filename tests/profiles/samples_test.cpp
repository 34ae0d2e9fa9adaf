// Every reader of a planner's files on some lines of a real one
// (samples/README.md): a checkout alone tests them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "profiles/export.h"
#include "tests/profiles/support.h"

namespace troupe::profiles {
namespace {

using testing::HasSubstr;

struct Sample {
  const char* file;
  const char* device;  ///< where the file names none
  int inserted;
  int rejected;
  const char* row;  ///< one of those exported
};

class Samples : public testing::TestWithParam<Sample> {};

TEST_P(Samples, RealLinesBecomeRows) {
  const Sample& given = GetParam();
  Database db = empty_database();
  const IngestReport report =
      value_of(ingest(db, sample(given.file), {.device = given.device}));
  EXPECT_EQ(report.inserted, given.inserted);
  EXPECT_EQ(report.rejected, given.rejected);
  EXPECT_THAT(value_of(export_csv(db, {})), HasSubstr(given.row));
}

INSTANTIATE_TEST_SUITE_P(
    All, Samples,
    testing::Values(
        // 399.732659 us a token, 81.193 ms.
        Sample{"hspmd_pool.json", "", 2, 0,
               "h20,llama-32b,6656,60,30592,64,64,104,17920,1,bf16,4,1,1,0,0,"
               "1.0145478600000001e-08,0.000399732659,0.08119308035714358,"},
        // The median of 24 encoder layers.
        Sample{"fasop/layer_profiles.json", "", 3, 0,
               "a100-sxm-40,layer,0,1024,32,32,128,3072,0,0,1,1,512,fp16,0,0,"
               "0,0.001170739,"},
        Sample{"vidur/a100_Llama-2-7b-hf_linear-ops.csv", "", 9, 0,
               "a100-sxm-80,gemm,fp16,"},
        Sample{"vidur/a100_dgx_all_reduce.csv", "", 2, 0,
               "a100-sxm-80,all_reduce,8,8,67108864,0.000675,"},
        // In place: the second pair of columns, 92,150 ns.
        Sample{"vtrain/a100_ar_gpus8.csv", "", 2, 0,
               "a100-sxm-40,all_reduce,8,8,1048576,9.215e-05,"},
        // 2 x 4096 x 5120 x 1536 / (312 TFLOP/s x 0.787667) = 262.152 us.
        Sample{"simumax/a100_pcie.json", "", 1, 2,
               "a100-pcie-80,gemm,bf16,1x4096x1536x5120,0,0,0,0.000262152,"},
        Sample{"sailor/OPT-350/V100-16/profile.json", "", 6, 0,
               "v100-sxm-16,layer,1,1024,16,16,64,4096,0,0,1,1,2048,fp32,0,0,"
               "0,0.017197,"},
        Sample{"sailor/op-profiles/V100-16/profiled-data-fp16/"
               "OPT-350_mbs1_tp1_algo0.csv",
               "", 3, 1,
               "v100-sxm-16,gemm,fp16,1x2048x4096x1024,0,0,0,"
               "0.000209308,"},
        Sample{"sailor/op-profiles/V100-16/profiled-data-fp16/"
               "prim_OPT-350_all_reduce_4gpus.csv",
               "", 2, 0, "v100-sxm-16,all_reduce,4,4,4194304,0.000423,"},
        // 1 MiB at 13.83 GB/s.
        Sample{"sailor/op-profiles/V100-16/profiled-data-fp16/"
               "p2p_intra_node.csv",
               "", 11, 0, "v100-sxm-16,send_receive,2,2,1048576,7.58189e-05,"},
        Sample{"galvatron/sp_time_1nodes_8gpus_per_node.json", "a100-sxm-80", 2,
               0, "a100-sxm-80,all_reduce,8,8,1073741824,0.0081409,"},
        // (78.4306 - 45.4359) ms / 2 layers.
        Sample{"galvatron/computation_profiling_bf16_llama2-7b_all.json",
               "a100-sxm-80", 1, 0,
               "a100-sxm-80,layer,0,4096,32,32,128,11008,1,0,1,4,2048,bf16,0,"
               "0,0,0.0164974,"}));

}  // namespace
}  // namespace troupe::profiles
