#include "profiles/ingest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "profiles/export.h"
#include "profiles/own_format.h"
#include "tests/profiles/support.h"

namespace troupe::profiles {
namespace {

constexpr const char* kPool = R"({
  "strategies": [
    {"tp": 4, "pp": 1, "a": 1e-5, "b": 0.4, "c": 80},
    {"tp": 4, "pp": 2, "a": 5e-6, "b": 0.2, "c": 40},
    {"tp": 2, "pp": 2, "a": 0, "b": 0.4, "c": 40},
    {"tp": 8, "pp": 1, "a": 4e-5, "b": 0.2, "c": 70},
    {"tp": 8, "pp": 2, "a": "x", "b": 0.1, "c": 70},
    {"tp": 1, "pp": 4, "a": 1e-5, "b": 0.4, "c": 70}],
  "memory_regression": {"A": {"tp1": 36, "tp2": 36, "tp4": 37, "tp8": 42},
    "B": 201, "alpha": 0.75, "gap": {"node": 5242880000},
    "safe_bound": 6979321856},
  "model_config": {"H": 6656, "L": 60, "V": 30592},
  "cluster_config": {"gpu_memory_bound": 102625181696}})";

// State bytes that ZeRO cannot shard for (4,1): 60 x 6656^2 / 4 x 201 x 0.25
// = 33.39e9, output and input matrix 6656 x 30592 / 4 x 32 x 0.25 = 0.41e9;
// left of 102.6e9: 56.6e9, per token 60 x 6656 / 4 x 37 = 3694080 bytes:
// 15322 tokens, 15232 in steps of 128.
TEST(SchemePool, BecomesStageRowsInSeconds) {
  const Scratch scratch;
  Database db = empty_database();
  const auto file = scratch.write("pool.json", kPool);
  const IngestReport report = value_of(ingest(db, file));
  EXPECT_EQ(report.inserted, 3);
  const auto rows = value_of(db.select<StageRow>("h20", ""));
  ASSERT_EQ(rows.size(), 3U);
  const StageRow& row = rows[0].row;
  EXPECT_EQ(row.tp, 4);
  EXPECT_DOUBLE_EQ(row.a, 1e-8);
  EXPECT_DOUBLE_EQ(row.b, 4e-4);
  EXPECT_DOUBLE_EQ(row.c, 0.08);
  EXPECT_EQ(row.ffn, 17920);
  EXPECT_EQ(row.max_seq, 15232);
}

// a x tp x pp: 4e-5, 4e-5, -, 3.2e-4, -, 4e-5: the fourth is 8 times the
// median; the third has no quadratic term; the fifth is no number.
TEST(SchemePool, RefusesOutliersWithReasons) {
  const Scratch scratch;
  Database db = empty_database();
  const IngestReport report =
      value_of(ingest(db, scratch.write("pool.json", kPool)));
  EXPECT_EQ(report.rejected, 3);
  EXPECT_THAT(
      report.rejections,
      testing::UnorderedElementsAre(
          testing::HasSubstr("/strategies/2: tp 2 pp 2: a is not"),
          testing::HasSubstr("outlier"), testing::HasSubstr("/strategies/4")));
}

TEST(SchemePool, TheDeviceIsKnownOrAskedFor) {
  const Scratch scratch;
  std::string text = kPool;
  text.replace(text.find("102625181696"), 12, "11000000000");
  const auto file = scratch.write("pool.json", text);
  Database db = empty_database();
  const auto unknown = ingest(db, file);
  ASSERT_FALSE(unknown);
  EXPECT_THAT(unknown.error().message, testing::HasSubstr("--device"));
  text.replace(text.find("11000000000"), 11, "150000000000");
  const auto larger = scratch.write("pool.json", text);
  EXPECT_GT(value_of(ingest(db, larger, {.device = "h200"})).inserted, 0);
  EXPECT_EQ(value_of(ingest(db, larger, {.device = "h2000"})).inserted, 0);
}

TEST(SchemePool, UnknownModelIsRefused) {
  const Scratch scratch;
  std::string text = kPool;
  text.replace(text.find("6656"), 4, "6000");
  Database db = empty_database();
  const auto report = ingest(db, scratch.write("pool.json", text));
  ASSERT_FALSE(report);
  EXPECT_THAT(report.error().message, testing::HasSubstr("no known model"));
}

constexpr const char* kProfiles = R"({"layer_profiles": [
  {"model": "bert", "gpu": "A100", "tp": 1, "date": "2023-01", "unit": "s",
   "direction": "forward", "values": [9, 9], "note": "",
   "layer_types": ["embedding", "transformer"]},
  {"model": "bert", "gpu": "A100", "tp": 1, "date": "head", "unit": "s",
   "direction": "forward", "note": "",
   "values": [0.0002, 0.5, 0.0015, 0.0014, 0.001],
   "layer_types": ["embedding", "transformer", "transformer", "transformer",
                   "post_process"]},
  {"model": "bert", "gpu": "A100", "tp": 2, "date": "head", "unit": "s",
   "values": [0.01, 0.02], "layer_types": ["embedding", "transformer"],
   "note": "superseded: ten times too large"},
  {"model": "bert", "gpu": "A100", "tp": 4, "date": "head", "unit": "ms",
   "values": [1], "layer_types": ["transformer"]},
  {"model": "gpt9", "gpu": "A100", "tp": 4, "values": [1],
   "layer_types": ["transformer"]}]})";

constexpr const char* kScaling = R"({"table": [
  {"model": "bert", "gpu": "A100", "layer": "transformer",
   "steps": [[7, 1.0], [8, 1.25]]},
  {"model": "bert", "gpu": "A10|A100", "layer": "post_process",
   "rule": "factor = mbs"}]})";

// The median of 0.5, 0.0015, 0.0014 is 0.0015: the cold start is no matter.
// The factor 1.25 at micro-batch 8 gives 0.001875.
TEST(LayerProfiles, TakesTheHeadAndMeasuredFactors) {
  const Scratch scratch;
  scratch.write("micro_batch_scaling.json", kScaling);
  Database db = empty_database();
  const IngestReport report =
      value_of(ingest(db, scratch.write("layer_profiles.json", kProfiles)));
  EXPECT_EQ(report.inserted, 4);
  EXPECT_EQ(report.rejected, 4);
  EXPECT_THAT(report.rejections,
              testing::Contains(testing::HasSubstr("ten times too large")));
  for (const auto& stored : value_of(db.select<LayerRow>("a100-sxm-40", ""))) {
    const LayerRow& row = stored.row;
    if (row.key.part != Part::layer) continue;
    EXPECT_EQ(row.scaled, row.key.micro_batch == 8);
    EXPECT_DOUBLE_EQ(row.time_s, row.scaled ? 0.001875 : 0.0015);
    EXPECT_EQ(row.key.hidden, 1024);
    EXPECT_EQ(row.key.seq_len, 512);
  }
}

TEST(VtrainTable, TakesTheInPlaceTimeInNanoseconds) {
  const Scratch scratch;
  Database db = empty_database();
  const auto file = scratch.write(
      "v100_ar_gpus4.csv",
      "size(B),count,type,time(ns),busbw(GB/s),time(ns),busbw(GB/s)\n"
      "1048576,262144,float,51400,30.60,52740,29.82\n"
      "2097152,524288,float,0,0,0,0\n"
      "oops\n");
  const IngestReport report = value_of(ingest(db, file));
  EXPECT_EQ(report.inserted, 1);
  EXPECT_EQ(report.rejected, 2);
  const auto rows = value_of(db.select<CollectiveRow>("v100-sxm-16", ""));
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0].row.ranks, 4);
  EXPECT_DOUBLE_EQ(rows[0].row.time_s, 52740e-9);
}

// Efficiency 0.5 of 312 TFLOP/s on 2 x 1024^3 FLOPs: 13.7659 us. Attention
// counts the whole square: 4 x 1024^2 x 8 x 128 / 156e12 = 27.5318 us.
TEST(SimuMax, TurnsEfficienciesIntoTimes) {
  const Scratch scratch;
  Database db = empty_database();
  const auto file = scratch.write("s.json", R"({"sys_name": "a100_pcie_bf16",
    "networks": {}, "accelerator": {"op": {
      "matmul": {"tflops": 312, "accurate_efficient_factor": {
        "b=1, m=1024, k=1024, n=1024, layout=TN, accumulate=False, out_dtype=bf16": 0.5,
        "b=1, m=1024, k=1024, n=2048, layout=NT, accumulate=True, out_dtype=fp32": 0.5,
        "b=1, m=1024, k=0, n=2048, layout=NT": 0.5,
        "b=1, m=1024, k=4, n=2048, layout=NT": -0.5}},
      "sdp_fwd": {"tflops": 312, "accurate_efficient_factor": {
        "batch=1, seq_len=1024, head_num=8, kv_head_num=8, qk_head_dim=128, v_head_dim=128, qkv_contiguous=True": 0.5,
        "batch=1, seq_len=1024, head_num=8, kv_head_num=8, qk_head_dim=192, v_head_dim=128, qkv_contiguous=True": 0.5}}}}})");
  const IngestReport report = value_of(ingest(db, file));
  EXPECT_EQ(report.inserted, 2);
  EXPECT_EQ(report.rejected, 4);
  const auto gemm =
      value_of(db.operators_of("a100-pcie-80", kernels::OpKind::gemm));
  ASSERT_EQ(gemm.size(), 1U);
  EXPECT_NEAR(gemm[0].time_s, 13.7659e-6, 1e-10);
  const auto attention = value_of(
      db.operators_of("a100-pcie-80", kernels::OpKind::attention_forward));
  ASSERT_EQ(attention.size(), 1U);
  EXPECT_TRUE(attention[0].op.causal);
  EXPECT_NEAR(attention[0].time_s, 27.5318e-6, 1e-10);
}

TEST(Ingest, HostileFilesAreErrorsAndStoreNothing) {
  const Scratch scratch;
  Database db = empty_database();
  for (const char* text :
       {"{\"strategies\": 3, \"memory_regression\": {}}",
        "{\"strategies\": [], \"memory_regression\": []}",
        "{\"layer_profiles\": {}}", "{\"1\": 3}",
        "{\"accelerator\": [], \"networks\": {}}",
        "{\"accelerator\": {\"op\": 1}, \"networks\": 0}",
        "{\"accelerator\": 7, \"networks\": 0, \"sys_name\": 4}",
        "{\"1\": {\"1\": {\"0\": [1]}}}", "[[[[", "null", "{\"a\": 1e999}"}) {
    const auto report = ingest(db, scratch.write("x.json", text));
    EXPECT_EQ(report ? report->inserted : 0, 0) << text;
  }
  for (const auto& path : {scratch / "missing.csv", scratch / ""}) {
    const auto report = ingest(db, path);
    ASSERT_FALSE(report);
    EXPECT_EQ(report.error().fault, Fault::input);
  }
  EXPECT_TRUE(value_of(db.sources()).empty());
}

/// Every format on a file of every other.
TEST(Ingest, AForcedFormatOnAnotherFileDoesNotCrash) {
  const Scratch scratch;
  const std::vector<std::filesystem::path> files = {
      scratch.write("a.json", kPool),
      scratch.write("b.json", kProfiles),
      scratch.write("c.json", "{\"a\": {\"b\": 1}, \"c\": [1, 2]}"),
      scratch.write("x_gpus4.csv", "a,b\n1,2\n"),
      scratch.write("OPT-350/V100-16/p.json", "{\"1\": 3, \"2\": [1]}"),
      scratch.write("e.csv", "")};
  for (int f = 0; f <= static_cast<int>(Format::sailor_messages); ++f) {
    for (const auto& file : files) {
      Database db = empty_database();
      const auto report =
          ingest(db, file, {.format = static_cast<Format>(f), .device = "t4"});
      EXPECT_TRUE(report || !report.error().message.empty());
    }
  }
}

TEST(Ingest, FormatNamesReadBack) {
  for (const auto format :
       {Format::automatic, Format::own_csv, Format::scheme_pool,
        Format::vidur_network, Format::sailor_layers}) {
    EXPECT_EQ(parse_format(name_of(format)), format);
  }
  EXPECT_FALSE(parse_format("excel"));
}

/// Files of the reference systems, each twice: the second time nothing is
/// new, and nothing is refused that was taken the first time.
class SharedFile : public testing::TestWithParam<const char*> {};

TEST_P(SharedFile, IsReadAndIdempotent) {
  const auto path = shared(GetParam());
  SKIP_WITHOUT(path);
  Database db = empty_database();
  const IngestReport first = value_of(ingest(db, path));
  EXPECT_GT(first.inserted, 0);
  EXPECT_EQ(first.unchanged, 0);
  const std::string before = value_of(export_csv(db, {}));
  const IngestReport second = value_of(ingest(db, path));
  EXPECT_EQ(second.inserted, 0);
  EXPECT_EQ(second.unchanged, first.inserted);
  EXPECT_EQ(second.rejected, first.rejected);
  EXPECT_EQ(value_of(export_csv(db, {})), before);
}

INSTANTIATE_TEST_SUITE_P(
    All, SharedFile,
    testing::Values(
        "seeds-data/hydraulis/parallel_scheme_space.json",
        "seeds-data/hydraulis/parallel_scheme_space_7b.json",
        "seeds-data/hydraulis/parallel_scheme_space_13b.json",
        "seeds-data/hydraulis/parallel_scheme_space_32b.json",
        "seeds-data/hspmd/strategy_pool_32b_h20.json",
        "seeds-data/fasop/layer_profiles.json",
        "peer-data/vidur/compute/h100_Llama-2-7b-hf_linear-ops.csv",
        "peer-data/vidur/network/a100_dgx_all_reduce.csv",
        "peer-data/vidur/network/h100_dgx_send_recv.csv",
        "peer-data/vtrain/nccl-allreduce/a100_ar_gpus8.csv",
        "peer-data/simumax/a100_pcie.json",
        "peer-data/simumax/b200_bf16_ceperm.json",
        "peer-data/sailor/layer-profiles/OPT-350/V100-16/profile.json"));

}  // namespace
}  // namespace troupe::profiles
