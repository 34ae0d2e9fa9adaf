#include "profiles/own_format.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "profiles/export.h"
#include "tests/profiles/support.h"

namespace troupe::profiles {
namespace {

constexpr const char* kGood =
    "# troupe profiles 1\n"
    "## a comment\n"
    "# source: lab run\n"
    "# date: 2026-01\n"
    "# device: toy-gpu toyland\n"
    "# table: operators\n"
    "device,op,dtype,dims,time_s\n"
    "h100-sxm,gemm,bf16,1x64x64x64,1e-5\n"
    "toy-gpu,attention_forward,bf16,1x64x64x8x8x64,2e-5\n"
    "# table: collectives\n"
    "device,collective,ranks,per_node,bytes,time_s\n"
    "toy-gpu,all_reduce,8,8,1048576,1e-4\n"
    "# table: copies\n"
    "device,route,bytes,time_s\n"
    "toy-gpu,host_to_device,1048576,5e-5\n";

IngestReport ingest_text(Database& db, const std::string& text,
                         const char* name = "f.csv") {
  const Scratch scratch;
  return value_of(ingest(db, scratch.write(name, text)));
}

std::string error_of(const std::string& text, const char* name = "f.csv") {
  const Scratch scratch;
  Database db = empty_database();
  const auto report = ingest(db, scratch.write(name, text));
  EXPECT_FALSE(report) << text;
  EXPECT_TRUE(value_of(db.sources()).empty());
  return report ? "" : report.error().message;
}

TEST(OwnCsv, ReadsTablesAndDeclaredDevices) {
  Database db = empty_database();
  const IngestReport report = ingest_text(db, kGood);
  EXPECT_EQ(report.inserted, 4);
  EXPECT_EQ(report.rejected, 0);
  const auto rows = value_of(db.select<OperatorRow>("toy-gpu", "lab run"));
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0].row.op.dim[5], 64);
  const auto copies = value_of(db.select<CopyRow>("toy-gpu", ""));
  ASSERT_EQ(copies.size(), 1U);
  EXPECT_EQ(copies[0].row.route, CopyRoute::host_to_device);
}

TEST(OwnCsv, ExportReadsBackExactly) {
  Database db = empty_database();
  ingest_text(db, kGood);
  const std::string text = value_of(export_csv(db, {}));
  EXPECT_EQ(ingest_text(db, text).unchanged, 4);
  Database other = empty_database();
  EXPECT_EQ(ingest_text(other, text).inserted, 4);
  EXPECT_EQ(value_of(export_csv(other, {})), text);
  const std::string json = troupe::to_text(value_of(show(db, {})));
  Database third = empty_database();
  EXPECT_EQ(ingest_text(third, json, "f.json").inserted, 4);
  EXPECT_EQ(value_of(export_csv(third, {})), text);
}

TEST(OwnCsv, RefusesBadRowsWithLineAndReason) {
  Database db = empty_database();
  const std::string text =
      "# troupe profiles 1\n# source: s\n# table: operators\n"
      "device,op,dtype,dims,time_s\n"
      "h100-sxm,gemm,bf16,1x64x64x64,nan\n"
      "h100-sxm,gemm,bf16,1x64x64x64,-1e-5\n"
      "h100-sxm,gemm,bf16,1x64x64x64,0\n"
      "h100-sxn,gemm,bf16,1x64x64x64,1e-5\n"
      "h100-sxm,gemmm,bf16,1x64x64x64,1e-5\n"
      "h100-sxm,gemm,bf16,64x64,1e-5\n"
      "h100-sxm,gemm,bf16,1x64x64x99999999999999,1e-5\n"
      "h100-sxm,gemm,bf16\n"
      "h100-sxm,gemm,bf16,1x64x64x64,1e-5\n";
  const IngestReport report = ingest_text(db, text);
  EXPECT_EQ(report.inserted, 1);
  EXPECT_EQ(report.rejected, 8);
  ASSERT_EQ(report.rejections.size(), 8U);
  EXPECT_NE(report.rejections[0].find("f.csv:5: "), std::string::npos);
  EXPECT_NE(report.rejections[3].find("did you mean 'h100-sxm'"),
            std::string::npos);
  EXPECT_NE(report.rejections[4].find("op is 'gemmm'"), std::string::npos);
  EXPECT_NE(report.rejections[7].find("3 values for 5 columns"),
            std::string::npos);
}

TEST(OwnCsv, RefusesCopiesThatCannotBe) {
  Database db = empty_database();
  const IngestReport report =
      ingest_text(db,
                  "# troupe profiles 1\n# source: s\n# table: copies\n"
                  "device,route,bytes,time_s\n"
                  "h100-sxm,sideways,1024,1e-5\n"
                  "h100-sxm,device,0,1e-5\n"
                  "h100-sxm,device,1024,inf\n"
                  "h100-sxm,device,1000000000000,1e-3\n"
                  "h100-sxm,device,1024,1e-5\n");
  EXPECT_EQ(report.inserted, 1);
  EXPECT_EQ(report.rejected, 4);
}

TEST(OwnCsv, RejectionsAreCountedBeyondWhatIsShown) {
  Database db = empty_database();
  std::string text =
      "# troupe profiles 1\n# source: s\n# table: operators\n"
      "device,op,dtype,dims,time_s\n";
  for (int i = 0; i < 500; ++i) text += "nope,gemm,bf16,1x1x1x1,1\n";
  const IngestReport report = ingest_text(db, text);
  EXPECT_EQ(report.rejected, 500);
  EXPECT_EQ(report.rejections.size(), Gather::kMostShown);
}

TEST(OwnCsv, StructuralMistakesStopTheFile) {
  EXPECT_NE(error_of("# troupe profiles 9\n").find("version"),
            std::string::npos);
  EXPECT_NE(
      error_of("# troupe profiles 1\n# table: operators\n").find("source"),
      std::string::npos);
  EXPECT_NE(error_of("# troupe profiles 1\n# source: s\n# tabel: x\n")
                .find("did you mean 'table'"),
            std::string::npos);
  EXPECT_NE(error_of("# troupe profiles 1\n# source: s\n# table: opertors\n")
                .find("did you mean 'operators'"),
            std::string::npos);
  EXPECT_NE(error_of("# troupe profiles 1\n# source: s\n# table: operators\n"
                     "device,op,dtype,dims\n")
                .find("'time_s' is missing"),
            std::string::npos);
  EXPECT_NE(error_of("# troupe profiles 1\n# source: s\n# table: operators\n"
                     "device,op,dtype,dims,tim_s\n")
                .find("did you mean 'time_s'"),
            std::string::npos);
  EXPECT_NE(error_of("just some text\n").find("no known format"),
            std::string::npos);
  EXPECT_NE(error_of("").find("no known format"), std::string::npos);
}

TEST(OwnJson, ReportsPlaceOfEachBadRow) {
  Database db = empty_database();
  const IngestReport report =
      ingest_text(db,
                  R"({"format": "troupe profiles", "version": 1, "sources": [
        {"source": "s", "operators": [
          {"device": "h20", "op": "gemm", "dtype": "bf16",
           "dims": "1x8x8x8", "time_s": 1e-5},
          {"device": "h20", "op": "gemm", "dtype": "bf16",
           "dims": "1x8x8x8"},
          {"device": "h20", "op": "gemm", "dtype": "bf16",
           "dims": "1x8x8x9", "time_s": 1e-5, "tiem": 1},
          7]}]})",
                  "f.json");
  EXPECT_EQ(report.inserted, 1);
  ASSERT_EQ(report.rejected, 3);
  EXPECT_NE(report.rejections[0].find("/sources/0/operators/1: time_s"),
            std::string::npos);
}

TEST(OwnJson, RefusesOtherShapes) {
  for (const char* text :
       {"[]", "{}", "{\"format\": 3}", "{\"format\": \"troupe profiles\"}",
        "{\"format\": \"troupe profiles\", \"version\": 2, \"sources\": []}",
        "{\"format\": \"troupe profiles\", \"version\": 1, \"sources\": 4}",
        "{\"format\": \"troupe profiles\", \"version\": 1, \"sources\": [1]}",
        "{",
        "{\"format\": \"troupe profiles\", \"version\": 1, \"sources\": "
        "[{\"source\": \"s\", \"layers\": 3}]}"}) {
    EXPECT_NE(error_of(text, "f.json"), "") << text;
  }
}

TEST(Csv, SplitsQuotedCells) {
  std::vector<std::string> cells;
  EXPECT_TRUE(split_csv(R"(a,"b,""c",d)", cells));
  EXPECT_EQ(cells, (std::vector<std::string>{"a", "b,\"c", "d"}));
  EXPECT_FALSE(split_csv("a,\"b", cells));
}

OperatorRow random_row() {
  OperatorRow row;
  row.device = *rc::gen::element<std::string>("h100-sxm", "h20", "t4");
  row.op.kind =
      static_cast<kernels::OpKind>(*rc::gen::inRange(0, kernels::kOpKinds));
  row.op.causal = *rc::gen::arbitrary<bool>();
  row.op.gated = *rc::gen::arbitrary<bool>();
  for (int i = 0; i < kernels::dimensions(row.op.kind); ++i) {
    row.op.dim[static_cast<std::size_t>(i)] =
        *rc::gen::inRange<std::int64_t>(1, 64);
  }
  row.time_s = *rc::gen::inRange(1, 1000000) * 1.37e-6;
  row.spread = *rc::gen::inRange(0, 100) / 77.0;
  row.samples = *rc::gen::inRange(0, 100);
  return row;
}

RC_GTEST_PROP(OwnFormatProperty, AnyRowsSurviveBothFormats, ()) {
  std::vector<Section> sections = {section("s")};
  sections[0].operators =
      *rc::gen::container<std::vector<OperatorRow>>(rc::gen::exec(random_row));
  RC_PRE(!sections[0].operators.empty());
  const std::string text = write_own_csv(sections);
  const std::vector<DeviceName> known = {
      {"h100-sxm", ""}, {"h20", ""}, {"t4", ""}};
  Gather csv(known);
  RC_ASSERT(read_own_csv(text, "f", "h", csv));
  RC_ASSERT(csv.rejected == 0);
  RC_ASSERT(write_own_csv(csv.sections) == text);
  Gather json(known);
  RC_ASSERT(read_own_json(write_own_json(sections), "f", "h", json));
  RC_ASSERT(json.rejected == 0);
  RC_ASSERT(write_own_csv(json.sections) == text);
}

RC_GTEST_PROP(OwnFormatProperty, DamagedTextIsReadOrRefused, ()) {
  std::string text = kGood;
  for (int i = *rc::gen::inRange(1, 12); i > 0; --i) {
    const auto at = *rc::gen::inRange<std::size_t>(0, text.size());
    text[at] = static_cast<char>(*rc::gen::inRange(-128, 128));
  }
  Gather gather(std::vector<DeviceName>{{"h100-sxm", ""}});
  const auto read = read_own_csv(text, "f", "h", gather);
  if (!read) RC_ASSERT(!read.error().message.empty());
  for (const Section& s : gather.sections) {
    for (const OperatorRow& row : s.operators) RC_ASSERT(!problem_of(row));
  }
}

}  // namespace
}  // namespace troupe::profiles
