#include <gtest/gtest.h>

#include <chrono>

#include "profiles/export.h"
#include "tests/profiles/support.h"

namespace troupe::profiles {
namespace {

TEST(Shipped, EveryRowIsTakenAndASecondTimeNothingChanges) {
  Database db = empty_database();
  const IngestReport first = value_of(ingest_shipped(db));
  EXPECT_GT(first.inserted, 5000);
  EXPECT_EQ(first.rejected, 0) << first.rejections.front();
  EXPECT_EQ(first.unchanged, 0);
  const IngestReport second = value_of(ingest_shipped(db));
  EXPECT_EQ(second.inserted, 0);
  EXPECT_EQ(second.unchanged, first.inserted);
}

TEST(Shipped, EverySourceSaysWhereItComesFrom) {
  const auto sources = value_of(shipped_database().sources());
  EXPECT_GT(sources.size(), 20U);
  for (const StoredSource& s : sources) {
    EXPECT_FALSE(s.source.licence.empty()) << s.source.name;
    EXPECT_FALSE(s.source.citation.empty()) << s.source.name;
    EXPECT_FALSE(s.source.date.empty()) << s.source.name;
    EXPECT_FALSE(s.source.libraries.empty()) << s.source.name;
  }
}

TEST(Shipped, DevicesAreShippedKinds) {
  const auto kinds = value_of(clusters::shipped_kinds());
  for (const DeviceName& device : value_of(shipped_database().devices())) {
    EXPECT_NE(kinds.find(device.name), nullptr) << device.name;
    EXPECT_FALSE(device.architecture.empty()) << device.name;
  }
}

TEST(Shipped, ExportReadsBackIntoAnotherDatabase) {
  const Scratch scratch;
  const std::string text = value_of(export_csv(shipped_database(), {}));
  Database other = empty_database();
  const IngestReport report =
      value_of(ingest(other, scratch.write("all.csv", text)));
  EXPECT_EQ(report.rejected, 0);
  EXPECT_EQ(value_of(export_csv(other, {})), text);
}

TEST(Shipped, ListAndFilteredShow) {
  const Json list = value_of(list_sources(shipped_database()));
  EXPECT_GT(list["sources"].size(), 20U);
  const Json one =
      value_of(show(shipped_database(), {.device = "h20", .table = "stages"}));
  ASSERT_EQ(one["sources"].size(), 1U);
  EXPECT_EQ(one["sources"][0]["stages"].size(), 8U);
  const auto typo = show(shipped_database(), {.device = "h2O"});
  ASSERT_FALSE(typo);
  EXPECT_EQ(typo.error().fault, Fault::input);
}

}  // namespace
}  // namespace troupe::profiles
