#include <SQLiteCpp/SQLiteCpp.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "profiles/nvtx_text.h"
#include "tests/profiles/support.h"

namespace troupe::profiles {
namespace {

using kernels::DType;
using kernels::OpKind;
using testing::Contains;
using testing::HasSubstr;

/// Process 5, thread 9, as nsys writes them.
constexpr std::int64_t kThread = (std::int64_t{1} << 56) | (5 << 24) | 9;
constexpr std::int64_t kProcess = (std::int64_t{1} << 56) | (5 << 24);

/// The tables of a newer version, or of one without processes and payloads.
void make_tables(SQLite::Database& db, bool newer) {
  db.exec(
      "CREATE TABLE StringIds (id INTEGER PRIMARY KEY, value TEXT NOT NULL);"
      "CREATE TABLE TARGET_INFO_GPU (id INTEGER, name TEXT);"
      "INSERT INTO TARGET_INFO_GPU VALUES (0, 'NVIDIA H100 80GB HBM3');"
      "CREATE TABLE CUPTI_ACTIVITY_KIND_RUNTIME (start INTEGER, end INTEGER, "
      "globalTid INTEGER, correlationId INTEGER, nameId INTEGER);"
      "CREATE TABLE CUPTI_ACTIVITY_KIND_MEMCPY (start INTEGER, end INTEGER, "
      "deviceId INTEGER, bytes INTEGER, copyKind INTEGER);");
  db.exec(newer ? "CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start INTEGER, end "
                  "INTEGER, deviceId INTEGER, correlationId INTEGER, globalPid "
                  "INTEGER, demangledName INTEGER, shortName INTEGER)"
                : "CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start INTEGER, end "
                  "INTEGER, deviceId INTEGER, correlationId INTEGER, "
                  "shortName INTEGER)");
  db.exec(newer ? "CREATE TABLE NVTX_EVENTS (start INTEGER, end INTEGER, "
                  "eventType INTEGER, text TEXT, textId INTEGER, globalTid "
                  "INTEGER, jsonText TEXT)"
                : "CREATE TABLE NVTX_EVENTS (start INTEGER, end INTEGER, "
                  "eventType INTEGER, text TEXT, globalTid INTEGER)");
}

class NsysExport {
 public:
  explicit NsysExport(const std::filesystem::path& path, bool newer = true)
      : db_(path.string(), SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE),
        newer_(newer) {
    make_tables(db_, newer);
  }

  void range(const std::string& text, int start, int end,
             const std::string& json = "") {
    SQLite::Statement add(
        db_, newer_ ? "INSERT INTO NVTX_EVENTS VALUES (?, ?, 59, ?, NULL, ?, ?)"
                    : "INSERT INTO NVTX_EVENTS VALUES (?, ?, 59, ?, ?)");
    add.bind(1, start);
    add.bind(2, end);
    add.bind(3, text);
    add.bind(4, kThread);
    if (newer_) add.bind(5, json);
    add.exec();
  }
  /// Launched at a time, running for some ns.
  void kernel(const std::string& name, int launched, int ns) {
    const int id = ++count_;
    db_.exec(fmt::format("INSERT INTO StringIds VALUES ({}, '{}')", id, name));
    db_.exec(fmt::format(
        "INSERT INTO CUPTI_ACTIVITY_KIND_RUNTIME VALUES ({}, {}, {}, {}, 0)",
        launched, launched + 1, kThread, id));
    const std::string pid = newer_ ? fmt::format("{}, {},", kProcess, id) : "";
    db_.exec(
        fmt::format("INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES "
                    "(100000, {}, 0, {}, {} {})",
                    100000 + ns, id, pid, id));
  }
  void copy(int kind, int bytes, int ns) {
    db_.exec(
        fmt::format("INSERT INTO CUPTI_ACTIVITY_KIND_MEMCPY VALUES (0, "
                    "{}, 0, {}, {})",
                    ns, bytes, kind));
  }
  SQLite::Database& db() { return db_; }

 private:
  SQLite::Database db_;
  bool newer_;
  int count_ = 0;
};

// PyTorch's range has no number format: the kernel's name has.
TEST(Nsys, KernelsByTheRangesOfPyTorchAndOurOwn) {
  for (const bool newer : {true, false}) {
    const Scratch scratch;
    {
      NsysExport db(scratch / "run.sqlite", newer);
      db.range("aten::mm, seq = 7, sizes = [[64, 128], [128, 32]]", 100, 200);
      db.kernel("ampere_bf16_s16816gemm_bf16_64x64", 110, 5000);
      db.kernel("splitKreduce_kernel", 120, 1000);
      db.range("op=norm_forward dtype=fp16 dims=16x64", 300, 400);
      db.kernel("my_norm", 310, 3000);
      db.range("forward", 500, 600);
      db.kernel("other", 510, 2000);
    }
    Database db = empty_database();
    const IngestReport report = value_of(ingest(db, scratch / "run.sqlite"));
    EXPECT_EQ(report.inserted, 2);
    EXPECT_EQ(report.rejected, 1);
    EXPECT_THAT(report.rejections, Contains(HasSubstr("forward: no such")));
    const auto gemm = value_of(db.operators_of("h100-sxm", OpKind::gemm));
    ASSERT_EQ(gemm.size(), 1U);
    EXPECT_EQ(gemm[0].op, kernels::gemm(64, 32, 128, DType::bf16));
    EXPECT_DOUBLE_EQ(gemm[0].time_s, 6e-6);
    const auto norm =
        value_of(db.operators_of("h100-sxm", OpKind::norm_forward));
    ASSERT_EQ(norm.size(), 1U);
    EXPECT_EQ(norm[0].op.dtype, DType::fp16);
    const IngestReport again = value_of(ingest(db, scratch / "run.sqlite"));
    EXPECT_EQ(again.inserted, 0);
    EXPECT_EQ(again.unchanged, 2);
  }
}

// Two ranks of one communicator, both in this export. NCCL's size of a gather
// is one rank's share: 2 x 1 MiB are gathered.
TEST(Nsys, CollectivesByTheMessageOfNccl) {
  const Scratch scratch;
  const std::string group = "\"NCCL communicator ID\": 77";
  {
    NsysExport db(scratch / "run.sqlite");
    for (const int rank : {0, 1}) {
      db.range("ncclCommInitRank", 1, 2,
               fmt::format("{{{}, \"No. of ranks\": 2, \"NCCL rank\": {}}}",
                           group, rank));
    }
    db.range("ncclAllGather", 100, 200,
             "{" + group + ", \"Message size [bytes]\": 1048576}");
    db.kernel("ncclDevKernel_AllGather_RING_LL", 110, 40000);
    db.range("ncclAllReduce", 300, 400, "{\"Message size [bytes]\": 64}");
    db.kernel("ncclDevKernel_AllReduce_Sum_f32", 310, 40000);
  }
  Database db = empty_database();
  const IngestReport report = value_of(ingest(db, scratch / "run.sqlite"));
  EXPECT_EQ(report.rejected, 1);
  const auto rows = value_of(db.select<CollectiveRow>("h100-sxm", ""));
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0].row.collective, clusters::Collective::all_gather);
  EXPECT_EQ(rows[0].row.bytes, 2097152);
  EXPECT_EQ(rows[0].row.ranks, 2);
  EXPECT_DOUBLE_EQ(rows[0].row.time_s, 40e-6);
}

TEST(Nsys, CopiesWithinAndBetweenDevices) {
  const Scratch scratch;
  {
    NsysExport db(scratch / "run.sqlite");
    db.copy(8, 2000000, 3000);
    db.copy(8, 2000000, 5000);
    db.copy(10, 4000000, 20000);
    db.copy(1, 1000000, 50000);
    db.copy(8, 1000, -5);
  }
  Database db = empty_database();
  const IngestReport report = value_of(ingest(db, scratch / "run.sqlite"));
  EXPECT_EQ(report.inserted, 2);
  EXPECT_THAT(report.rejections, Contains(HasSubstr("do not say whether")));
  EXPECT_THAT(report.rejections, Contains(HasSubstr("emit_nvtx(record_shapes"
                                                    "=True)")));
  EXPECT_THAT(report.rejections, Contains(HasSubstr("end before they start")));
  const auto copy = value_of(db.operators_of("h100-sxm", OpKind::copy));
  ASSERT_EQ(copy.size(), 1U);
  EXPECT_EQ(copy[0].op.dim[0], 1000000);  // of two bytes each
  EXPECT_DOUBLE_EQ(copy[0].time_s, 4e-6);
  const auto peer = value_of(db.select<CollectiveRow>("h100-sxm", ""));
  ASSERT_EQ(peer.size(), 1U);
  EXPECT_EQ(peer[0].row.collective, clusters::Collective::send_receive);
}

// The kinds of memory: pinned (2) is a row, pageable (1) is refused.
TEST(Nsys, CopiesWithThePinnedHostAndWhereTheyComeFrom) {
  const Scratch scratch;
  {
    NsysExport made(scratch / "run.sqlite");
    made.db().exec(
        "DROP TABLE CUPTI_ACTIVITY_KIND_MEMCPY;"
        "CREATE TABLE CUPTI_ACTIVITY_KIND_MEMCPY (start INTEGER, end INTEGER, "
        "deviceId INTEGER, bytes INTEGER, copyKind INTEGER, srcKind INTEGER, "
        "dstKind INTEGER);"
        "INSERT INTO CUPTI_ACTIVITY_KIND_MEMCPY VALUES "
        "(0, 26000, 0, 1048576, 1, 2, 3), (0, 27000, 0, 1048576, 2, 3, 2), "
        "(0, 90000, 0, 1048576, 1, 1, 3);"
        "CREATE TABLE TARGET_INFO_SESSION_START_TIME (utcEpochNs INTEGER);"
        "INSERT INTO TARGET_INFO_SESSION_START_TIME VALUES "
        "(1700000000000000000);"
        "CREATE TABLE TARGET_INFO_SYSTEM_ENV (name TEXT, value TEXT);"
        "INSERT INTO TARGET_INFO_SYSTEM_ENV VALUES ('Hostname', 'secret'), "
        "('CUDA Driver Version', '12.4')");
  }
  Database db = empty_database();
  const IngestReport report = value_of(ingest(db, scratch / "run.sqlite"));
  EXPECT_EQ(report.inserted, 2);
  EXPECT_THAT(report.rejections, Contains(HasSubstr("pageable")));
  const auto rows = value_of(db.select<CopyRow>("h100-sxm", ""));
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0].row.route, CopyRoute::device_to_host);
  EXPECT_EQ(rows[1].row.route, CopyRoute::host_to_device);
  EXPECT_DOUBLE_EQ(rows[1].row.time_s, 26e-6);
  const Source source = value_of(db.sources())[0].source;
  EXPECT_EQ(source.date, "2023-11-14T22:13:20Z");
  EXPECT_EQ(source.libraries, "CUDA Driver Version 12.4");
}

TEST(Nsys, OtherDatabasesAreErrorsAndStayAsTheyAre) {
  const Scratch scratch;
  Database db = empty_database();
  {
    SQLite::Database other((scratch / "other.sqlite").string(),
                           SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE);
    // A view of that name must not be run.
    other.exec(
        "CREATE VIEW CUPTI_ACTIVITY_KIND_KERNEL AS WITH RECURSIVE n(x) AS "
        "(SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n");
  }
  {
    // Columns of the wrong types, and none of those that are needed.
    SQLite::Database odd((scratch / "odd.sqlite").string(),
                         SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE);
    odd.exec(
        "CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start TEXT, name BLOB);"
        "INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES ('x', x'00ff')");
  }
  value_of(open_or_create(scratch / "ours.db"));
  for (const char* name : {"other.sqlite", "ours.db"}) {
    const auto report = ingest(db, scratch / name);
    ASSERT_FALSE(report) << name;
    EXPECT_THAT(report.error().message,
                HasSubstr(std::string_view(name) == "ours.db"
                              ? "troupe profiles export --profiles"
                              : "Nsight Systems"));
  }
  const auto report = ingest(db, scratch.write("run.nsys-rep", "NVTX"));
  ASSERT_FALSE(report);
  EXPECT_THAT(report.error().message, HasSubstr("nsys export --type sqlite"));
  EXPECT_EQ(value_of(ingest(db, scratch / "odd.sqlite")).inserted, 0);
  std::string text = value_of(read_file(scratch / "odd.sqlite"));
  for (std::size_t i = 100; i < text.size(); i += 7) text[i] = '\xee';
  EXPECT_FALSE(ingest(db, scratch.write("bad.sqlite", text)));
  EXPECT_FALSE(ingest(db, scratch.write("cut.sqlite", text.substr(0, 60))));
  EXPECT_TRUE(value_of(db.sources()).empty());
}

TEST(NvtxText, Calls) {
  const TorchCall call = read_nvtx_call(
      "aten::addmm, op_id = 4, sizes = [[32], [16, 64], [64, 32], [], []]");
  EXPECT_EQ(call.name, "aten::addmm");
  ASSERT_EQ(call.sizes.size(), 5U);
  EXPECT_EQ(call.sizes[1], (std::vector<std::int64_t>{16, 64}));
  EXPECT_EQ(read_nvtx_call("aten::gelu, seq = 3").name, "aten::gelu");
  for (const char* text :
       {"aten::mm, sizes = [[1, 2", "aten::mm, sizes = [[x]]",
        "aten::mm, sizes = [[[1]]]", "aten::mm, sizes = ]",
        "aten::mm, sizes = [[99999999999999999999]]"}) {
    EXPECT_TRUE(read_nvtx_call(text).sizes.empty()) << text;
  }
  EXPECT_FALSE(read_nvtx_operator("op=gemm dims=1x2x3x4"));
  EXPECT_FALSE(read_nvtx_operator("op=gemm dtype=bf16 dims=0x1"));
  EXPECT_FALSE(read_nccl_payload("[1, 2]"));
}

}  // namespace
}  // namespace troupe::profiles
