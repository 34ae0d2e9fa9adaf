#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include "base/file.h"
#include "profiles/trace_rows.h"
#include "tests/profiles/support.h"

namespace troupe::profiles {
namespace {

using kernels::DType;
using kernels::OpKind;
using testing::Contains;
using testing::HasSubstr;

/// The only operator row of a device.
OperatorRow only_row(const Database& db, OpKind kind) {
  const auto rows = value_of(db.operators_of("h200", kind));
  EXPECT_EQ(rows.size(), 1U);
  return rows.empty() ? OperatorRow{} : rows[0];
}

std::string gzipped(const std::string& text) {
  std::string out(compressBound(text.size()) + 64, '\0');
  z_stream s{};
  deflateInit2(&s, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string in = text;
  s.next_in = reinterpret_cast<Bytef*>(in.data());
  s.avail_in = static_cast<uInt>(in.size());
  s.next_out = reinterpret_cast<Bytef*>(out.data());
  s.avail_out = static_cast<uInt>(out.size());
  deflate(&s, Z_FINISH);
  out.resize(s.total_out);
  deflateEnd(&s);
  return out;
}

// A(2048, 2048) B(2048, 256) in 45 us on the tensor cores: "s1688" is TF32.
TEST(Kineto, AProductByItsLaunch) {
  Database db = empty_database();
  const IngestReport report =
      value_of(ingest(db, sample("kineto_mm.json"), {.device = "h200"}));
  EXPECT_EQ(report.inserted, 1);
  EXPECT_EQ(report.rejected, 0);
  const OperatorRow row = only_row(db, OpKind::gemm);
  EXPECT_EQ(row.op, kernels::gemm(2048, 256, 2048, DType::tf32));
  EXPECT_DOUBLE_EQ(row.time_s, 45e-6);
  EXPECT_EQ(row.samples, 1);
}

// Three calls: one without a recorded launch (found by its external id), one
// whole, one whose innermost call is not in the excerpt. 85.232206, 54.177121
// and 56.606268 ms: the median is the last.
TEST(Kineto, AttentionByLaunchAndByExternalId) {
  Database db = empty_database();
  const IngestReport report =
      value_of(ingest(db, sample("kineto_attention.json"), {.device = "h200"}));
  EXPECT_EQ(report.inserted, 1);
  const OperatorRow row = only_row(db, OpKind::attention_forward);
  EXPECT_EQ(row.op.dim,
            (std::array<std::int64_t, 6>{1, 32768, 32768, 32, 32, 128}));
  EXPECT_FALSE(row.op.causal);
  EXPECT_EQ(row.op.dtype, DType::bf16);
  EXPECT_DOUBLE_EQ(row.time_s, 56606.268e-6);
  EXPECT_EQ(row.samples, 3);
}

// Two kernels a call: 1084 + 5, 1085 + 4, 1084 + 4 us. The first call of the
// excerpt has no kernels in it.
TEST(Kineto, KernelsOfOneCallAreAdded) {
  Database db = empty_database();
  const IngestReport report =
      value_of(ingest(db, sample("kineto_gemm_rocm.json"), {.device = "h200"}));
  EXPECT_EQ(report.inserted, 1);
  const OperatorRow row = only_row(db, OpKind::gemm);
  EXPECT_EQ(row.op, kernels::gemm(256, 512, 131072, DType::bf16));
  EXPECT_DOUBLE_EQ(row.time_s, 1089e-6);
  EXPECT_EQ(row.samples, 3);
  EXPECT_DOUBLE_EQ(row.spread, 0.000433);  // 0.4714 of 1088.67
}

// What it is of is not said: the rows are refused, with the way out.
TEST(Kineto, AnUnknownDeviceIsAsked) {
  Database db = empty_database();
  for (const char* name : {"kineto_mm.json", "kineto_attention.json"}) {
    const auto report = value_of(ingest(db, sample(name)));
    EXPECT_EQ(report.inserted, 0);
    ASSERT_EQ(report.rejected, 1);
    EXPECT_THAT(report.rejections[0], HasSubstr("--device"));
    EXPECT_THAT(report.rejections[0], HasSubstr("h100-sxm"));
  }
  EXPECT_TRUE(value_of(db.sources()).empty());
}

TEST(Kineto, GzippedIsTheSameAndASecondTimeUnchanged) {
  const Scratch scratch;
  const std::string text = value_of(read_file(sample("kineto_mm.json")));
  const auto file = scratch.write("rank0.pt.trace.json.gz", gzipped(text));
  Database db = empty_database();
  EXPECT_EQ(value_of(ingest(db, file, {.device = "h200"})).inserted, 1);
  const IngestReport again = value_of(ingest(db, file, {.device = "h200"}));
  EXPECT_EQ(again.inserted, 0);
  EXPECT_EQ(again.unchanged, 1);
}

TEST(Kineto, ATruncatedOrDamagedGzipIsAnError) {
  const Scratch scratch;
  Database db = empty_database();
  const std::string whole =
      gzipped(value_of(read_file(sample("kineto_attention.json"))));
  std::string damaged = whole;
  damaged[whole.size() / 2] ^= 0x55;
  for (const std::string& bytes :
       {whole.substr(0, whole.size() / 2), whole.substr(0, 3), damaged}) {
    const auto report =
        ingest(db, scratch.write("t.json.gz", bytes), {.device = "h200"});
    ASSERT_FALSE(report);
    EXPECT_EQ(report.error().fault, Fault::input);
    EXPECT_THAT(report.error().message, HasSubstr("gzip"));
  }
  EXPECT_TRUE(value_of(db.sources()).empty());
}

/// A trace of one node of two H100s, with these events.
std::string trace_of(const std::string& events, const char* world = "2") {
  std::string text = R"({"deviceProperties": [
    {"id": 0, "name": "NVIDIA H100 80GB HBM3"},
    {"id": 1, "name": "NVIDIA H100 80GB HBM3"}],
    "distributedInfo": {"backend": "nccl", "rank": 0, "world_size": )";
  return text + world + "}, \"traceEvents\": [" + events + "]}";
}

constexpr const char* kReduce = R"({"ph": "X", "cat": "kernel",
  "name": "ncclDevKernel_AllReduce_Sum_bf16_RING_LL",
                     "pid" : 0, "tid" : 9, "ts" : 10, "dur" : 250.5, "args" : {
                       "device" : 0,
                       "Collective name" : "allreduce",
                       "In msg nelems" : 1048576,
                       "Out msg nelems" : 1048576,
                       "Group size" : 2,
                       "dtype" : "BFloat16",
                       "In split size" : "[]",
                       "Process Group Ranks" : "[0, 1]"
                     }
})";

// 1 Mi elements of 2 bytes over both GPUs of the node.
TEST(Kineto, ACollectiveByWhatItsKernelSays) {
  const Scratch scratch;
  Database db = empty_database();
  const IngestReport report =
      value_of(ingest(db, scratch.write("t.json", trace_of(kReduce))));
  EXPECT_EQ(report.inserted, 1);
  const auto rows = value_of(db.select<CollectiveRow>("h100-sxm", ""));
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0].row.bytes, 2097152);
  EXPECT_EQ(rows[0].row.ranks, 2);
  EXPECT_EQ(rows[0].row.per_node, 2);
  EXPECT_DOUBLE_EQ(rows[0].row.time_s, 250.5e-6);
}

// Of sixteen ranks on nodes of two, {1, 3} lie on two nodes.
TEST(Kineto, TheRanksOfAGroupSayHowManyShareANode) {
  const Scratch scratch;
  std::string text = trace_of(kReduce, "16");
  text.replace(text.find("\"[0, 1]\""), 8, "\"[1, 3]\"");
  Database db = empty_database();
  value_of(ingest(db, scratch.write("t.json", text)));
  const auto rows = value_of(db.select<CollectiveRow>("h100-sxm", ""));
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0].row.per_node, 1);
}

std::string op(int id, const char* name, const char* sizes, const char* types,
               double start, double micros, const char* values = "[]") {
  return fmt::format(
      R"({{"ph": "X", "cat": "cpu_op", "name": "{}", "pid": 1, "tid": 1,
      "ts": {}, "dur": {}, "args": {{"External id": {}, "Input Dims": {},
      "Input type": {}, "Concrete Inputs": {}}}}},)",
      name, start, micros, id, sizes, types, values);
}
std::string kernel(int id, double micros, double launched,
                   const char* name = "void kernel<float>") {
  return fmt::format(
      R"({{"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel",
      "pid": 1, "tid": 1, "ts": {}, "dur": 1, "args": {{"correlation": {}}}}},
      {{"ph": "X", "cat": "kernel", "name": "{}", "pid": 0, "tid": 7, "ts": 0,
      "dur": {}, "args": {{"device": 0, "correlation": {}}}}},)",
      launched, id, name, micros, id);
}

// Each call at 100 i; one kernel (or two) of i us.
TEST(Kineto, OperatorsOfATrainingStep) {
  const std::string half = R"(["c10::BFloat16", "c10::BFloat16"])";
  std::string events;
  // The wrapper names fp32 weights; what it calls is the product in bf16.
  events += op(1, "aten::linear", "[[2, 8, 64], [32, 64]]",
               R"(["float", "float"])", 100, 50);
  events +=
      op(2, "aten::addmm", "[[32], [16, 64], [64, 32]]",
         R"(["c10::BFloat16", "c10::BFloat16", "c10::BFloat16"])", 110, 30);
  events += kernel(1, 3, 120);
  events += op(3, "aten::native_layer_norm", "[[2, 8, 64], [], [64], [64]]",
               half.c_str(), 200, 50);
  events += kernel(2, 4, 210);
  events += op(4, "aten::gelu", "[[16, 256]]", half.c_str(), 300, 50);
  events += kernel(3, 5, 310);
  events +=
      op(5, "aten::_log_softmax", "[[16, 1000], []]", R"(["float"])", 400, 50);
  events += kernel(4, 6, 410);
  events += op(6, "aten::nll_loss_forward", "[[16, 1000], [16]]",
               R"(["float", "long int"])", 500, 50);
  events += kernel(5, 2, 510);
  events += op(7, "aten::_fused_adamw_", "[[[64, 64], [32]], [[64, 64], [32]]]",
               R"(["TensorList", "TensorList"])", 600, 50);
  events += kernel(6, 7, 610);
  events += op(8, "aten::mul", "[[16, 64], [16, 64]]", half.c_str(), 700, 50);
  events += kernel(7, 8, 710);
  events += op(9, "aten::add_", "[[16, 64], [16, 64]]",
               R"(["float", "c10::BFloat16"])", 800, 50);
  events += kernel(8, 9, 810);
  events += op(10, "aten::embedding_dense_backward", "[[2, 8, 64], [2, 8]]",
               half.c_str(), 900, 50, R"(["", "", "1000"])");
  events += kernel(9, 10, 910);
  events += kernel(99, 1.5, 5000);
  events.erase(events.find_last_of(','));
  const Scratch scratch;
  Database db = empty_database();
  const IngestReport report =
      value_of(ingest(db, scratch.write("t.json", trace_of(events))));
  EXPECT_EQ(report.inserted, 7);
  EXPECT_EQ(report.rejected, 2);
  EXPECT_THAT(report.rejections, Contains(HasSubstr("aten::mul: no such")));
  EXPECT_THAT(report.rejections,
              Contains(HasSubstr("1 kernels, 0.0015 ms: no recorded call")));
  const auto row = [&](OpKind kind) {
    const auto rows = value_of(db.operators_of("h100-sxm", kind));
    EXPECT_EQ(rows.size(), 1U) << name_of(kind);
    return rows.empty() ? OperatorRow{} : rows[0];
  };
  EXPECT_EQ(row(OpKind::gemm).op, kernels::gemm(16, 32, 64, DType::bf16));
  EXPECT_EQ(row(OpKind::norm_forward).op.dim[0], 16);
  EXPECT_DOUBLE_EQ(row(OpKind::activation_forward).time_s, 5e-6);
  // Soft-max and loss together are the cross entropy.
  EXPECT_DOUBLE_EQ(row(OpKind::cross_entropy_forward).time_s, 8e-6);
  EXPECT_EQ(row(OpKind::optimizer).op.dim[0], 64 * 64 + 32);
  EXPECT_EQ(row(OpKind::gradient_accumulate).op.dim[0], 16 * 64);
  EXPECT_EQ(row(OpKind::embedding_backward).op.dim,
            (std::array<std::int64_t, 6>{16, 64, 1000}));
}

// Many kernels of one step are one update of all parameters.
TEST(Kineto, AnOptimizerStepOfManyKernels) {
  std::string events = R"({"ph": "X", "cat": "user_annotation",
    "name": "Optimizer.step#AdamW.step", "pid": 1, "tid": 1, "ts": 0,
    "dur": 100, "args": {}},)";
  events +=
      op(1, "aten::_foreach_mul_", "[[[64, 64]]]", R"(["TensorList"])", 10, 10);
  events += kernel(1, 3, 12);
  events += op(2, "aten::_foreach_addcdiv_", "[[[64, 64], [32]], [[64, 64]]]",
               R"(["TensorList", "TensorList"])", 30, 10);
  events += kernel(2, 4, 32);
  events.erase(events.find_last_of(','));
  const Scratch scratch;
  Database db = empty_database();
  value_of(ingest(db, scratch.write("t.json", trace_of(events))));
  const auto rows = value_of(db.operators_of("h100-sxm", OpKind::optimizer));
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0].op.dim[0], 64 * 64 + 32);
  EXPECT_DOUBLE_EQ(rows[0].time_s, 7e-6);
}

/// A product of 64 x 64 x 64 on a device, launched by a process.
std::string product_of(int process, int device, int id, double micros) {
  return fmt::format(
      R"({{"ph": "X", "cat": "cpu_op", "name": "aten::mm", "pid": {0},
      "tid": 1, "ts": {4}, "dur": 50, "args": {{"External id": {2},
      "Input Dims": [[64, 64], [64, 64]],
      "Input type": ["c10::BFloat16", "c10::BFloat16"]}}}},
      {{"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel",
      "pid": {0}, "tid": 1, "ts": {5}, "dur": 5,
      "args": {{"correlation": {2}}}}},
      {{"ph": "X", "cat": "kernel", "name": "gemm", "pid": {1}, "tid": 7,
      "ts": 200, "dur": {3}, "args": {{"device": {1}, "correlation": {2}}}}},)",
      process, device, id, micros, 1000 * id, 1000 * id + 10);
}
std::string trace_without_last_comma(std::string events) {
  events.erase(events.find_last_of(','));
  return trace_of(events, "1");
}

// Both processes have a call of number 1: whose kernel is whose is told only
// where another kernel of the device leaves no doubt.
TEST(Kineto, ProcessesOfAMergedTraceAreKeptApart) {
  const Scratch scratch;
  Database db = empty_database();
  const std::string both =
      product_of(100, 0, 1, 10) + product_of(200, 1, 1, 30);
  const IngestReport doubtful = value_of(
      ingest(db, scratch.write("a.json", trace_without_last_comma(both))));
  EXPECT_EQ(doubtful.inserted, 0);
  EXPECT_THAT(doubtful.rejections, Contains(HasSubstr("2 kernels, 0.04 ms: "
                                                      "which process")));
  const std::string certain =
      both + product_of(100, 0, 2, 20) + product_of(200, 1, 3, 40);
  value_of(
      ingest(db, scratch.write("b.json", trace_without_last_comma(certain))));
  const auto rows = value_of(db.operators_of("h100-sxm", OpKind::gemm));
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_DOUBLE_EQ(rows[0].time_s, 25e-6);  // of 10, 20, 30 and 40 us
  EXPECT_EQ(rows[0].samples, 4);
}

/// A rank of a run of two with two all-reduces of these times and a product.
std::string rank_of_two(int rank, double first, double second, double product,
                        const char* began = "1700000000000000000") {
  std::string reduces;
  double ts = 10;
  for (const double micros : {first, second}) {
    std::string one = kReduce;
    one.replace(one.find("\"ts\" : 10"), 9, fmt::format("\"ts\" : {}", ts));
    one.replace(one.find("250.5"), 5, fmt::format("{}", micros));
    reduces += one + ",";
    ts += 1000;
  }
  std::string text = trace_of(reduces + product_of(7, 0, 1, product) + "0");
  text.replace(text.find("\"rank\": 0"), 9, fmt::format("\"rank\": {}", rank));
  return text.insert(1, fmt::format("\"baseTimeNanoseconds\": {}, "
                                    "\"cuda_runtime_version\": 12040, ",
                                    began));
}

// Rank 1 comes late to the first all-reduce, rank 0 to the second: 90 and 80
// us are what they take themselves.
TEST(Kineto, RanksOfOneRunAreMerged) {
  const Scratch scratch;
  const std::vector<std::filesystem::path> files = {
      scratch.write("rank1.json", rank_of_two(1, 90, 500, 20)),
      scratch.write("rank0.json", rank_of_two(0, 400, 80, 10))};
  Database db = empty_database();
  const auto reports = value_of(ingest_files(db, files));
  ASSERT_EQ(reports.size(), 2U);
  EXPECT_EQ(reports[1].report.inserted, 2);
  EXPECT_THAT(reports[1].report.note, HasSubstr("ranks 0, 1 of 2 merged"));
  EXPECT_THAT(reports[0].report.note, HasSubstr("merged with"));
  EXPECT_FALSE(reports[0].failed());
  const auto reduce = value_of(db.select<CollectiveRow>("h100-sxm", ""));
  ASSERT_EQ(reduce.size(), 1U);
  EXPECT_DOUBLE_EQ(reduce[0].row.time_s, 85e-6);
  EXPECT_EQ(reduce[0].row.samples, 2);
  const auto gemm = value_of(db.operators_of("h100-sxm", OpKind::gemm));
  ASSERT_EQ(gemm.size(), 1U);
  EXPECT_DOUBLE_EQ(gemm[0].time_s, 15e-6);
  EXPECT_EQ(gemm[0].samples, 2);
  const auto sources = value_of(db.sources());
  ASSERT_EQ(sources.size(), 1U);
  EXPECT_EQ(sources[0].source.date, "2023-11-14T22:13:20Z");
  EXPECT_EQ(sources[0].source.libraries, "CUDA 12.4");
  const auto again = value_of(ingest_files(db, files));
  EXPECT_EQ(again[1].report.inserted, 0);
  EXPECT_EQ(again[1].report.unchanged, 2);
}

TEST(Kineto, TwoTracesOfOneRankAreNoRunAndStayApart) {
  const Scratch scratch;
  const std::vector<std::filesystem::path> files = {
      scratch.write("a.json", rank_of_two(0, 90, 500, 20)),
      scratch.write("b.json", rank_of_two(0, 400, 80, 10))};
  Database db = empty_database();
  const auto reports = value_of(ingest_files(db, files));
  EXPECT_EQ(reports[0].report.inserted, 2);
  EXPECT_EQ(reports[1].report.inserted, 2);
  EXPECT_THAT(reports[0].report.note, HasSubstr("not merged"));
  EXPECT_EQ(value_of(db.sources()).size(), 2U);
}

TEST(Kineto, CopiesWithPinnedHostMemoryAreRows) {
  const auto copy = [](const char* name) {
    return fmt::format(R"({{"ph": "X", "cat": "gpu_memcpy", "name": "{}",
      "ts": 1, "dur": 26, "args": {{"device": 0, "bytes": 1048576}}}},)",
                       name);
  };
  const Scratch scratch;
  Database db = empty_database();
  const IngestReport report = value_of(ingest(
      db, scratch.write("t.json", trace_without_last_comma(
                                      copy("Memcpy HtoD (Pinned -> Device)") +
                                      copy("Memcpy DtoH (Device -> Pinned)") +
                                      copy("Memcpy HtoD (Pageable -> Device)") +
                                      copy("Memcpy HtoD (Host -> Device)")))));
  EXPECT_EQ(report.inserted, 2);
  EXPECT_THAT(report.rejections, Contains(HasSubstr("pageable")));
  EXPECT_THAT(report.rejections, Contains(HasSubstr("do not say")));
  const auto rows = value_of(db.select<CopyRow>("h100-sxm", ""));
  ASSERT_EQ(rows.size(), 2U);
  for (const auto& [source, row] : rows) {
    EXPECT_EQ(row.bytes, 1 << 20);
    EXPECT_DOUBLE_EQ(row.time_s, 26e-6);
  }
}

TEST(Kineto, WithoutSizesTheReasonIsTheSizes) {
  std::string events;
  int id = 0;
  for (const char* name :
       {"aten::_scaled_dot_product_flash_attention", "aten::native_layer_norm",
        "aten::silu", "aten::mm"}) {
    ++id;
    events += fmt::format(R"({{"ph": "X", "cat": "cpu_op", "name": "{}",
      "pid": 1, "tid": 1, "ts": {}, "dur": 50, "args": {{"External id": {}}}}},)",
                          name, 100 * id, id);
    events += kernel(id, 3, 100 * id + 10, "some_kernel");
  }
  const Scratch scratch;
  Database db = empty_database();
  const IngestReport report = value_of(
      ingest(db, scratch.write("t.json", trace_without_last_comma(events))));
  EXPECT_EQ(report.inserted, 0);
  ASSERT_EQ(report.rejections.size(), 4U);
  for (const std::string& rejection : report.rejections) {
    EXPECT_THAT(rejection, HasSubstr("record_shapes=True"));
  }
}

TEST(Kineto, HostileTracesAreErrorsOrRefusals) {
  const Scratch scratch;
  std::string deep = "{\"traceEvents\": ";
  for (int i = 0; i < 10000; ++i) deep += '[';
  const std::string bad_kernel = R"({"ph": "X", "cat": "kernel", "name": "k",
    "ts": 1, "dur": -5})";
  for (const std::string& text :
       {std::string("{\"traceEvents\": []}"),
        std::string("{\"traceEvents\": 7}"),
        std::string("{\"traceEvents\": [1, null, {}, [[]]]}"),
        std::string("{\"traceEvents\": [{\"ph\": 3, \"cat\": {}}]}"),
        std::string("{\"traceEvents\": [{\"ph\": \"X\", \"dur\": NaN}]}"),
        std::string("{\"traceEvents\": [{\"ph\": \"X\""), deep,
        trace_of(bad_kernel)}) {
    Database db = empty_database();
    const auto report =
        ingest(db, scratch.write("t.json", text), {.device = "h200"});
    ASSERT_FALSE(report) << text.substr(0, 80);
    EXPECT_EQ(report.error().fault, Fault::input);
    EXPECT_TRUE(value_of(db.sources()).empty());
  }
  // Sizes that are no sizes; a message beyond reason.
  std::string odd = op(1, "aten::mm", R"([[1e300, -4], [{"a": 1}, null]])",
                       R"([5, "c10::BFloat16"])", 100, 50);
  odd += kernel(1, 3, 120);
  std::string huge = kReduce;
  huge.replace(huge.find("1048576"), 7, "9223372036854775807");
  Database db = empty_database();
  const IngestReport report =
      value_of(ingest(db, scratch.write("t.json", trace_of(odd + huge))));
  EXPECT_EQ(report.inserted, 0);
  EXPECT_EQ(report.rejected, 2);
}

TEST(TorchNames, OfCollectives) {
  using clusters::Collective;
  EXPECT_EQ(collective_named("_allgather_base"), Collective::all_gather);
  EXPECT_EQ(collective_named("reduce_scatter_tensor_coalesced"),
            Collective::reduce_scatter);
  EXPECT_EQ(collective_named("ncclAllReduce"), Collective::all_reduce);
  EXPECT_EQ(collective_named("all_to_allv"), Collective::all_to_all);
  EXPECT_EQ(collective_named("send"), Collective::send_receive);
  EXPECT_FALSE(collective_named("barrier"));
}

TEST(TorchNames, NumberFormatsOfKernels) {
  EXPECT_EQ(kernel_dtype("ampere_bf16_s16816gemm_bf16_128x128"), DType::bf16);
  EXPECT_EQ(kernel_dtype("ampere_fp16_s16816gemm_fp16_256x128"), DType::fp16);
  EXPECT_EQ(kernel_dtype("ampere_sgemm_128x64_nn"), DType::fp32);
  EXPECT_EQ(kernel_dtype("sm80_xmma_gemm_f32f32_tf32f32_f32_tn"), DType::tf32);
  EXPECT_EQ(kernel_dtype("vectorized_elementwise_kernel<4, "
                         "CUDAFunctor_add<c10::BFloat16>, std::array<char*>>"),
            DType::bf16);
  EXPECT_FALSE(kernel_dtype("memset"));
}

}  // namespace
}  // namespace troupe::profiles
