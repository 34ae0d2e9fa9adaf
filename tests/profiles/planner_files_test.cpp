// nccl-tests, and the profile files of planners and simulators.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "profiles/described.h"
#include "tests/profiles/support.h"

namespace troupe::profiles {
namespace {

using clusters::Collective;
using testing::Contains;
using testing::HasSubstr;

TEST(NcclTests, TwoNodesOfEight) {
  Database db = empty_database();
  const IngestReport report =
      value_of(ingest(db, sample("nccl_tests_a100.txt")));
  EXPECT_EQ(report.inserted, 1);
  EXPECT_EQ(report.rejected, 0);
  const auto rows = value_of(db.select<CollectiveRow>("a100-sxm-40", ""));
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0].row.ranks, 16);
  EXPECT_EQ(rows[0].row.per_node, 8);
  EXPECT_EQ(rows[0].row.bytes, 10737418240);
  EXPECT_DOUBLE_EQ(rows[0].row.time_s, 0.091945);  // in place
}

TEST(NcclTests, TheNewerHeaderAndTheVersion) {
  Database db = empty_database();
  const auto path = sample("nccl_tests_gh200.txt");
  EXPECT_EQ(value_of(ingest(db, path)).inserted, 4);
  EXPECT_EQ(value_of(ingest(db, path)).unchanged, 4);
  for (const auto& stored :
       value_of(db.select<CollectiveRow>("gh200-96", ""))) {
    EXPECT_EQ(stored.row.ranks, 2);
    EXPECT_EQ(stored.row.per_node, 1);
  }
  EXPECT_EQ(value_of(db.sources())[0].source.libraries, "NCCL 23007");
}

/// A run of two GPUs of one node with these lines below the header.
std::string run_of(std::string_view lines, std::string_view program) {
  std::string text = "# nThread 1 nGpus 2 minBytes 8 maxBytes 8\n";
  for (const char* rank : {"0", "1"}) {
    text += std::string("#  Rank  ") + rank +
            " Group  0 Pid  1 on host device  0 [0x01] Tesla "
            "V100-SXM2-16GB\n";
  }
  text +=
      "# size count type redop root time algbw busbw #wrong time algbw busbw "
      "#wrong\n";
  return std::string(program) + "\n" + text + std::string(lines);
}

// 2.5 and 3.5 us of one size are two measurements; 9 wrong results, a line cut
// short and a time of 0 are none.
TEST(NcclTests, WrongResultsAndBrokenLinesAreRefused) {
  const Scratch scratch;
  Database db = empty_database();
  const IngestReport report = value_of(ingest(
      db, scratch.write("log.txt",
                        run_of("64 16 float sum -1 9 1 1 0 2.5 1 1 0\n"
                               "64 16 float sum -1 9 1 1 0 3.5 1 1 0\n"
                               "128 32 float sum -1 9 1 1 9 2.5 1 1 0\n"
                               "128 32 float sum -1\n"
                               "256 64 float sum -1 0 0 0 0 0 0 0 0\n"
                               "512 64 float sum -1 7 0 0 0 N/A N/A N/A N/A\n",
                               "[1,0]<stdout>: ./build/alltoall_perf -b 8"))));
  EXPECT_EQ(report.inserted, 2);
  EXPECT_EQ(report.rejected, 3);
  EXPECT_THAT(report.rejections, Contains(HasSubstr("9 wrong results")));
  const auto rows = value_of(db.select<CollectiveRow>("v100-sxm-16", ""));
  ASSERT_EQ(rows.size(), 2U);
  for (const auto& stored : rows) {
    EXPECT_EQ(stored.row.collective, Collective::all_to_all);
    // Out of place where there is no other.
    EXPECT_DOUBLE_EQ(stored.row.time_s, stored.row.bytes == 64 ? 3e-6 : 7e-6);
  }
}

// Logs are often cut down to command, header and table.
TEST(NcclTests, RanksComeFromTheCommandOrTheOptionsWhereNoneAreListed) {
  const Scratch scratch;
  const std::string table =
      "# size count type redop root time algbw busbw #wrong time algbw busbw "
      "#wrong\n"
      "64 16 float sum -1 9 1 1 0 2.5 1 1 0\n";
  const std::string header = "# nThread 1 nGpus 4 minBytes 8 maxBytes 8\n";
  const std::string command =
      "$ mpirun -np 6 --map-by ppr:2:node ./all_reduce_perf -b 8 -n 20 -g 4\n";
  const auto row = [&](const std::string& text, IngestOptions how) {
    Database db = empty_database();
    how.device = "h100-sxm";
    const IngestReport report =
        value_of(ingest(db, scratch.write("all_reduce_perf.log", text), how));
    if (report.inserted == 0) return report.rejections.at(0);
    const auto rows = value_of(db.select<CollectiveRow>("h100-sxm", ""));
    return fmt::format("{}/{}", rows[0].row.ranks, rows[0].row.per_node);
  };
  // Six processes of four GPUs.
  EXPECT_EQ(row(command + header + table, {.per_node = 8}), "24/8");
  EXPECT_EQ(row(header + table, {.ranks = 16, .per_node = 8}), "16/8");
  EXPECT_THAT(row(header + table, {.per_node = 8}), HasSubstr("--ranks"));
  EXPECT_THAT(row(command + header + table, {}), HasSubstr("--per-node"));
  EXPECT_THAT(row(command + header + table, {.per_node = 7}),
              HasSubstr("24 ranks do not make nodes of 7"));
  EXPECT_THAT(row(header + table, {.ranks = 4, .per_node = 8}),
              HasSubstr("4 ranks do not make nodes of 8"));
}

TEST(NcclTests, NodesOfOneNameAreToldApartByTheOption) {
  const Scratch scratch;
  const auto path = scratch.write(
      "log.txt",
      run_of("64 16 float sum -1 9 1 1 0 2.5 1 1 0\n", "all_reduce_perf"));
  Database db = empty_database();
  EXPECT_EQ(value_of(ingest(db, path, {.per_node = 1})).inserted, 1);
  const auto rows = value_of(db.select<CollectiveRow>("v100-sxm-16", ""));
  EXPECT_EQ(rows.at(0).row.ranks, 2);
  EXPECT_EQ(rows.at(0).row.per_node, 1);
  const IngestReport other =
      value_of(ingest(db, path, {.ranks = 4, .per_node = 1}));
  EXPECT_THAT(other.rejections.at(0), HasSubstr("2 ranks are listed"));
  const auto csv = scratch.write("a.csv", "# troupe profiles 1\n");
  const auto wrong = ingest(db, csv, {.per_node = 8});
  ASSERT_FALSE(wrong);
  EXPECT_THAT(wrong.error().message, HasSubstr("this is csv"));
}

TEST(NcclTests, RunsThatSayTooLittleAreRefused) {
  const Scratch scratch;
  const std::string line = "64 16 float sum -1 9 1 1 0 2.5 1 1 0\n";
  const std::string whole = run_of(line, "all_reduce_perf");
  const auto reason = [&](std::string text, const char* name = "log.txt") {
    Database db = empty_database();
    const IngestReport report = value_of(ingest(db, scratch.write(name, text)));
    EXPECT_EQ(report.inserted, 0);
    return report.rejections.empty() ? std::string() : report.rejections[0];
  };
  EXPECT_THAT(reason(run_of(line, "")), HasSubstr("which collective"));
  EXPECT_THAT(reason(run_of(line, "reduce_perf")), HasSubstr("no such"));
  std::string other = whole;
  other.replace(other.find("Rank  1"), 7, "Rank  0");
  EXPECT_THAT(reason(other), HasSubstr("without MPI"));
  other = whole;
  other.replace(other.find("V100-SXM2-16GB"), 14, "V100-SXM2-32GB");
  EXPECT_THAT(reason(other), HasSubstr("several device kinds"));
  // The name of the file may say the program.
  Database db = empty_database();
  EXPECT_EQ(value_of(ingest(db, scratch.write("all_gather_perf.log",
                                              run_of(line, ""))))
                .inserted,
            1);
}

// Two layers in 100 ms, four in 180 ms: one takes 40 ms.
TEST(Galvatron, ALayerIsADifference) {
  const Scratch scratch;
  Database db = empty_database();
  const auto file = scratch.write(
      "computation_profiling_bf16_llama2-7b_all.json",
      R"({"layernum[2]_bsz8_seq2048": 100.0, "layernum[4]_bsz8_seq2048": 180.0,
          "layernum[2]_bsz4_seq2048": 7.0, "layertype_0_bsz8_seq2048": 0.5})");
  EXPECT_FALSE(ingest(db, file));  // no device in it
  const IngestReport report =
      value_of(ingest(db, file, {.device = "a100-sxm-80"}));
  EXPECT_EQ(report.inserted, 1);
  EXPECT_EQ(report.rejected, 2);
  const auto rows = value_of(db.select<LayerRow>("a100-sxm-80", ""));
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_DOUBLE_EQ(rows[0].row.time_s, 40e-3);
  EXPECT_EQ(rows[0].row.key.ffn, 11008);
  EXPECT_EQ(rows[0].row.key.micro_batch, 8);
  EXPECT_FALSE(rows[0].row.key.backward);
}

TEST(Galvatron, CollectivesBySize) {
  const Scratch scratch;
  Database db = empty_database();
  const auto file = scratch.write(
      "sp_time_2nodes_8gpus_per_node.json",
      R"({"allreduce_size_16_4MB_time": 0.5, "all2all_size_4_1MB_time": 0.25,
          "allreduce_size_4_2MB_time": "x"})");
  const IngestReport report =
      value_of(ingest(db, file, {.device = "a100-sxm-80"}));
  EXPECT_EQ(report.inserted, 2);
  EXPECT_EQ(report.rejected, 1);
  for (const auto& s : value_of(db.select<CollectiveRow>("", ""))) {
    const bool reduce = s.row.collective == Collective::all_reduce;
    EXPECT_EQ(s.row.per_node, reduce ? 8 : 4);
    EXPECT_EQ(s.row.bytes, (reduce ? 4 : 1) << 20);
  }
}

// mbs 2 of 2048 tokens, hidden 1024.
TEST(SailorOperators, ProductsWithoutTensorParallelism) {
  const Scratch scratch;
  const std::string text =
      "op_name,forward-compute,backward-compute\n"
      "enc-attention-qkv,386.131,385.296\n"
      "enc-attention-dense,120.699,121.766\n"
      "enc-MLP-gelu,93.669,186.074\nbroken\n";
  const std::string folder = "V100-16/profiled-data-fp16/OPT-350_mbs2_";
  Database db = empty_database();
  const IngestReport report =
      value_of(ingest(db, scratch.write(folder + "tp1_algo0.csv", text)));
  EXPECT_EQ(report.inserted, 1);
  EXPECT_EQ(report.rejected, 3);
  const auto rows =
      value_of(db.operators_of("v100-sxm-16", kernels::OpKind::gemm));
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0].op, kernels::gemm(4096, 1024, 1024, kernels::DType::fp16));
  EXPECT_DOUBLE_EQ(rows[0].time_s, 120.699e-6);
  EXPECT_EQ(value_of(ingest(db, scratch.write(folder + "tp2_algo0.csv", text)))
                .inserted,
            0);
}

// 8 MB are one rank's share of what is gathered, but the whole of what is
// reduced. A time of 1e9 is a run that failed.
TEST(SailorOperators, Collectives) {
  const Scratch scratch;
  const std::string text = "data_size(MB),time(ms)\n8,0.5\n16,1000000000.000\n";
  const std::string folder = "GH-96/profiled-data-fp16/prim_OPT-350_";
  Database db = empty_database();
  for (const char* name : {"all_gather_4gpus.csv", "all_reduce_4gpus.csv"}) {
    const IngestReport report =
        value_of(ingest(db, scratch.write(folder + name, text)));
    EXPECT_EQ(report.inserted, 1);
    EXPECT_EQ(report.rejected, 1);
  }
  for (const auto& s : value_of(db.select<CollectiveRow>("gh200-96", ""))) {
    const bool gather = s.row.collective == Collective::all_gather;
    EXPECT_EQ(s.row.bytes, (gather ? 32 : 8) << 20);
    EXPECT_EQ(s.row.ranks, 4);
  }
  const auto file =
      scratch.write("GH-96/x/p2p_inter_node.csv", "1,2\n10.48576,20.97152\n");
  EXPECT_EQ(value_of(ingest(db, file)).inserted, 2);  // 2^20 B at 10.5 GB/s
}

/// Files of peers that hold no measurement: an error that says what they are.
TEST(Described, SaysWhatItIsAndStoresNothing) {
  const std::pair<const char*, const char*> files[] = {
      {"peer-data/calculon/systems/h100_80g_nvl8.json", "Calculon system"},
      {"peer-data/calculon/models/gpt3-13B.json", "Calculon model"},
      {"peer-data/astra-sim/HGX-H100-validated.json", "ASTRA-sim"},
      {"peer-data/astra-sim/HGX-H100-validated.yml", "ASTRA-sim"},
      {"peer-data/galvatron/overlap_coefficient.json", "overlap"},
      {"peer-data/galvatron/p2p_bandwidth_1nodes_8gpus_per_node.json",
       "without the size"},
      {"peer-data/galvatron/memory_profiling_bf16_llama2-7b_all.json",
       "memory"},
      {"peer-data/simai/nic_ratio.csv", "nominal"},
      {"peer-data/simai/aiob-A100-example.txt", "sizes are not known"},
      {"peer-data/simai/workload_analytical.txt", "generated"},
      {"peer-data/simai/busbw.yaml", "without the size"},
      {"peer-data/sailor/network/intra_node_bandwidths.json", "fitted"},
      {"peer-data/sailor/network/network_coeffs_all_homo.json", "fitted"},
      {"peer-data/sailor/network/multizone_bandwidths.json", "fitted"},
      {"peer-data/sailor/gpu_trace_scaled.csv", "available GPUs"}};
  Database db = empty_database();
  for (const auto& [name, words] : files) {
    const auto path = shared(name);
    SKIP_WITHOUT(path);
    const auto report = ingest(db, path);
    ASSERT_FALSE(report) << name;
    EXPECT_EQ(report.error().fault, Fault::input);
    EXPECT_THAT(report.error().message, HasSubstr(words)) << name;
  }
  EXPECT_TRUE(value_of(db.sources()).empty());
}

/// The measured ones, with a device where they name none.
TEST(PeerFiles, AreReadTwiceWithTheSameRows) {
  const std::pair<const char*, const char*> files[] = {
      {"peer-data/galvatron/sp_time_1nodes_8gpus_per_node.json", "a100-sxm-80"},
      {"peer-data/galvatron/computation_profiling_bf16_llama2-7b_all.json",
       "a100-sxm-80"},
      {"peer-data/sailor/op-profiles/V100-16/profiled-data-fp16/"
       "OPT-30_mbs1_tp1_algo0.csv",
       ""},
      {"peer-data/sailor/op-profiles/GH-96/profiled-data-fp16/"
       "prim_OPT-350_all_to_all_4gpus.csv",
       ""},
      {"peer-data/sailor/op-profiles/A100-40/profiled-data-fp16/"
       "p2p_intra_node.csv",
       ""}};
  for (const auto& [name, device] : files) {
    const auto path = shared(name);
    SKIP_WITHOUT(path);
    Database db = empty_database();
    const IngestReport first = value_of(ingest(db, path, {.device = device}));
    EXPECT_GE(first.inserted, 3) << name;  // three products
    const IngestReport again = value_of(ingest(db, path, {.device = device}));
    EXPECT_EQ(again.inserted, 0);
    EXPECT_EQ(again.unchanged, first.inserted);
  }
}

}  // namespace
}  // namespace troupe::profiles
