#include <fnmatch.h>
#include <gtest/gtest.h>

#include <chrono>
#include <set>

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

/// The patterns in the first column of the table of profiles/data/README.md,
/// and the second column of each.
std::vector<std::pair<std::string, std::string>> shipped_table() {
  std::vector<std::pair<std::string, std::string>> table;
  std::ifstream readme(TROUPE_SOURCE_DIR "/profiles/data/README.md");
  for (std::string line; std::getline(readme, line);) {
    if (!line.starts_with("| `")) continue;
    const auto middle = line.find(" | ", 2);
    const std::string said = line.substr(middle + 3);
    const std::string files = line.substr(0, middle);
    for (std::size_t at = files.find('`'); at != std::string::npos;) {
      const std::size_t end = files.find('`', at + 1);
      table.emplace_back(files.substr(at + 1, end - at - 1), said);
      at = files.find('`', end + 1);
    }
  }
  return table;
}

// Every file of the seeds and peers is shipped or left out with a reason, and
// every line of the table speaks of some file.
TEST(Shipped, TheTableNamesEveryFileOfTheSeedsAndPeers) {
  SKIP_WITHOUT(shared("peer-data"));
  SKIP_WITHOUT(shared("seeds-data"));
  const auto table = shipped_table();
  std::set<std::string> used;
  for (const char* root : {"peer-data", "seeds-data"}) {
    for (const auto& entry :
         std::filesystem::recursive_directory_iterator(shared(root))) {
      if (!entry.is_regular_file()) continue;
      const std::string name =
          (std::filesystem::path(root) /
           std::filesystem::relative(entry.path(), shared(root)))
              .string();
      bool known = false;
      for (const auto& [pattern, said] : table) {
        if (fnmatch(pattern.c_str(), name.c_str(), 0) != 0) continue;
        known = true;
        used.insert(pattern);
      }
      EXPECT_TRUE(known) << name;
    }
  }
  for (const auto& [pattern, said] : table) {
    EXPECT_TRUE(used.contains(pattern)) << pattern << " is no file";
  }
}

TEST(Shipped, TheTableNamesFilesThatAreThere) {
  const auto table = shipped_table();
  EXPECT_GT(table.size(), 20U);
  std::set<std::string> named;
  for (const auto& [pattern, said] : table) {
    const auto end = said.find(".csv");
    if (said.starts_with("no: ") || end == std::string::npos) continue;
    named.insert(said.substr(0, end + 4));
  }
  std::set<std::string> there;
  for (const auto& entry : std::filesystem::directory_iterator(
           TROUPE_SOURCE_DIR "/profiles/data")) {
    if (entry.path().extension() == ".csv") {
      there.insert(entry.path().filename().string());
    }
  }
  EXPECT_EQ(named, there);
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
