#include "profiles/database.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <csignal>

#include "profiles/sql.h"
#include "tests/profiles/support.h"

namespace troupe::profiles {
namespace {

std::vector<Section> many_rows(int count) {
  std::vector<Section> sections = {section("many")};
  for (int i = 1; i <= count; ++i) {
    sections[0].operators.push_back(gemm_row("h100-sxm", i, 64, 64, 1e-5));
  }
  return sections;
}

std::size_t operators_in(const Database& database) {
  return value_of(database.select<OperatorRow>("", "")).size();
}

TEST(Database, StoresOnceAndReportsTheRestUnchanged) {
  Database db = empty_database();
  const auto rows = many_rows(10);
  EXPECT_EQ(value_of(db.store(rows)).inserted, 10);
  const Written again = value_of(db.store(rows));
  EXPECT_EQ(again.inserted, 0);
  EXPECT_EQ(again.unchanged, 10);
  EXPECT_EQ(operators_in(db), 10U);
}

TEST(Database, KeepsTheStoredValueWhenASourceContradictsItself) {
  Database db = empty_database();
  auto rows = many_rows(1);
  value_of(db.store(rows));
  rows[0].operators[0].time_s *= 2;
  const Written written = value_of(db.store(rows));
  EXPECT_EQ(written.conflicts, 1);
  ASSERT_EQ(written.first_conflicts.size(), 1U);
  EXPECT_NE(written.first_conflicts[0].find("another source name"),
            std::string::npos);
  EXPECT_EQ(value_of(db.select<OperatorRow>("", ""))[0].row.time_s, 1e-5);
}

TEST(Database, SurvivesClosing) {
  const Scratch scratch;
  const auto file = scratch / "deep/inside/profiles.db";
  {
    Database db = value_of(open_or_create(file));
    value_of(db.store(many_rows(3)));
  }
  EXPECT_EQ(operators_in(value_of(open_or_create(file))), 3U);
}

// A time of zero breaks the table's own CHECK: the transaction must not
// leave the 5 rows before it.
TEST(Database, AFailureInTheMiddleLeavesNothing) {
  Database db = empty_database();
  auto rows = many_rows(6);
  rows[0].operators[5].time_s = 0;
  const auto written = db.store(rows);
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().fault, Fault::io);
  EXPECT_EQ(operators_in(db), 0U);
  EXPECT_TRUE(value_of(db.sources()).empty());
}

TEST(Database, AKilledWriterLeavesAllOrNothing) {
  const Scratch scratch;
  const auto file = scratch / "profiles.db";
  value_of(open_or_create(file));
  const auto rows = many_rows(100000);
  for (const int microseconds : {2000, 20000, 60000}) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      auto db = open_or_create(file);
      if (db) (void)db->store(rows);
      _exit(0);
    }
    usleep(static_cast<useconds_t>(microseconds));
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    const std::size_t left = operators_in(value_of(open_or_create(file)));
    EXPECT_TRUE(left == 0 || left == rows[0].operators.size()) << left;
  }
}

// The kernel refuses to let the file grow, as on a full disk.
TEST(Database, AFullDiskIsAClearErrorAndLeavesNothing) {
  const Scratch scratch;
  const auto file = scratch / "profiles.db";
  value_of(open_or_create(file));
  const auto rows = many_rows(50000);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{.rlim_cur = 400000, .rlim_max = 400000};
    setrlimit(RLIMIT_FSIZE, &limit);
    auto db = open_or_create(file);
    if (!db) _exit(10);
    const auto written = db->store(rows);
    if (written) _exit(11);
    if (written.error().fault != Fault::io) _exit(12);
    if (written.error().message.find("profiles.db") == std::string::npos) {
      _exit(13);
    }
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(operators_in(value_of(open_or_create(file))), 0U);
}

TEST(Database, RefusesWhatIsNoDatabase) {
  const Scratch scratch;
  const auto text = scratch.write("a.db", std::string(5000, 'x'));
  const auto brief = scratch.write("b.db", "SQLite format 3");
  for (const auto& file : {text, brief}) {
    const auto db = open_or_create(file);
    ASSERT_FALSE(db);
    EXPECT_EQ(db.error().fault, Fault::input);
    EXPECT_NE(db.error().message.find("not a profile database"),
              std::string::npos);
  }
  EXPECT_FALSE(open_or_create(scratch / ""));
  const auto under_file = open_or_create(text / "x.db");
  ASSERT_FALSE(under_file);
  EXPECT_EQ(under_file.error().fault, Fault::io);
}

TEST(Database, AnEmptyFileBecomesADatabase) {
  const Scratch scratch;
  Database db = value_of(open_or_create(scratch.write("new.db", "")));
  EXPECT_EQ(value_of(db.store(many_rows(2))).inserted, 2);
}

TEST(Database, RefusesAForeignSqliteFile) {
  const Scratch scratch;
  const auto file = scratch / "other.db";
  SQLite::Database(file.string(), SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE)
      .exec("CREATE TABLE t (x)");
  const auto db = open_or_create(file);
  ASSERT_FALSE(db);
  EXPECT_NE(db.error().message.find("not of profiles"), std::string::npos);
}

TEST(Database, RefusesANewerVersion) {
  const Scratch scratch;
  const auto file = scratch / "new.db";
  value_of(open_or_create(file));
  SQLite::Database(file.string(), SQLite::OPEN_READWRITE)
      .exec("PRAGMA user_version = 99");
  const auto db = open_or_create(file);
  ASSERT_FALSE(db);
  EXPECT_EQ(db.error().fault, Fault::input);
  EXPECT_NE(db.error().message.find("version 99"), std::string::npos);
}

TEST(Database, MigratesVersionOneAndKeepsItsRows) {
  const Scratch scratch;
  const auto file = scratch / "old.db";
  {
    SQLite::Database old(file.string(),
                         SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE);
    old.exec(std::string(sql::kMigrations[0]));
    old.exec("PRAGMA user_version = 1");
    old.exec("PRAGMA application_id = " + std::to_string(sql::kApplicationId));
    old.exec("INSERT INTO sources VALUES (1,'s','','','','','','','','')");
    old.exec("INSERT INTO devices VALUES ('t4','turing')");
    old.exec(
        "INSERT INTO layers VALUES (1,1,'t4','layer',0,1024,16,16,64,4096,0,"
        "0,1,1,512,'fp16',0.004,0,1)");
  }
  const Database db = value_of(open_or_create(file));
  const auto rows = value_of(db.select<LayerRow>("t4", "s"));
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0].row.key.ffn, 4096);
  EXPECT_FALSE(rows[0].row.key.cross);
  EXPECT_EQ(rows[0].row.time_s, 0.004);
}

TEST(Database, MigratesVersionTwoAndGainsCopies) {
  const Scratch scratch;
  const auto file = scratch / "old.db";
  {
    SQLite::Database old(file.string(),
                         SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE);
    old.exec(std::string(sql::kMigrations[0]));
    old.exec(std::string(sql::kMigrations[1]));
    old.exec("PRAGMA user_version = 2");
    old.exec("PRAGMA application_id = " + std::to_string(sql::kApplicationId));
    old.exec("INSERT INTO sources VALUES (1,'s','','','','','','','','')");
    old.exec("INSERT INTO devices VALUES ('t4','turing')");
    old.exec(
        "INSERT INTO collectives VALUES (1,1,'t4','all_reduce',2,2,1024,"
        "0.001,0,1)");
  }
  Database db = value_of(open_or_create(file));
  EXPECT_EQ(value_of(db.select<CollectiveRow>("t4", "s")).size(), 1U);
  EXPECT_TRUE(value_of(db.select<CopyRow>("", "")).empty());
  Section section;
  section.source.name = "s";
  section.copies = {{.device = "t4",
                     .route = CopyRoute::host_to_device,
                     .bytes = 4096,
                     .time_s = 1e-5,
                     .spread = 0.01,
                     .samples = 3}};
  EXPECT_EQ(value_of(db.store({section})).inserted, 1);
  EXPECT_EQ(value_of(db.store({section})).unchanged, 1);
  section.copies[0].time_s = 2e-5;
  EXPECT_EQ(value_of(db.store({section})).conflicts, 1);
}

TEST(Database, MigratesVersionThreeAndGainsWindows) {
  const Scratch scratch;
  const auto file = scratch / "old.db";
  {
    SQLite::Database old(file.string(),
                         SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE);
    for (int v = 0; v < 3; ++v) {
      old.exec(std::string(sql::kMigrations[static_cast<std::size_t>(v)]));
    }
    old.exec("PRAGMA user_version = 3");
    old.exec("PRAGMA application_id = " + std::to_string(sql::kApplicationId));
    old.exec("INSERT INTO sources VALUES (1,'s','','','','','','','','')");
    old.exec("INSERT INTO devices VALUES ('t4','turing')");
    old.exec(
        "INSERT INTO operators VALUES (1,1,'t4','attention_forward','bf16',"
        "'1x8192x8192x32x8x128',1,0,0.01,0,1)");
    old.exec(
        "INSERT INTO layers VALUES (1,1,'t4','layer',0,1024,16,16,64,4096,0,"
        "0,1,1,512,'fp16',0,0,0.004,0,1)");
  }
  Database db = value_of(open_or_create(file));
  const auto rows = value_of(db.select<OperatorRow>("t4", "s"));
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0].row.op.window, 0);
  EXPECT_EQ(value_of(db.select<LayerRow>("t4", "s"))[0].row.key.window, 0);
  // The same shape with a window is another operator.
  Section section;
  section.source.name = "s";
  section.operators = {rows[0].row};
  section.operators[0].op.window = 4096;
  section.operators[0].time_s = 0.008;
  EXPECT_EQ(value_of(db.store({section})).inserted, 1);
  EXPECT_EQ(value_of(db.store({section})).unchanged, 1);
}

TEST(Database, TruncatedAndDamagedFilesAreErrorsNotCrashes) {
  const Scratch scratch;
  const auto file = scratch / "p.db";
  {
    Database db = value_of(open_or_create(file));
    value_of(db.store(many_rows(3000)));
  }
  std::ifstream in(file, std::ios::binary);
  const std::string whole((std::istreambuf_iterator<char>(in)), {});
  ASSERT_GT(whole.size(), 50000U);
  const auto cut =
      open_or_create(scratch.write("cut.db", whole.substr(0, 40000)));
  ASSERT_FALSE(cut);
  EXPECT_NE(cut.error().message.find("truncated"), std::string::npos);
  for (std::size_t at = 5000; at < whole.size(); at += 7001) {
    std::string damaged = whole;
    for (std::size_t i = at; i < at + 300 && i < damaged.size(); ++i) {
      damaged[i] = static_cast<char>(i * 37);
    }
    const auto db = open_or_create(
        scratch.write("d" + std::to_string(at) + ".db", damaged));
    if (!db) continue;
    // Every row that is still given is a valid one.
    const auto rows = db->select<OperatorRow>("", "");
    if (!rows) continue;
    for (const auto& stored : *rows) EXPECT_FALSE(problem_of(stored.row));
  }
}

TEST(Database, SelectsByDeviceAndSource) {
  Database db = empty_database();
  std::vector<Section> sections = {section("a"), section("b")};
  sections[0].operators = {gemm_row("t4", 8, 8, 8, 1e-5),
                           gemm_row("h20", 8, 8, 8, 1e-5)};
  sections[1].operators = {gemm_row("t4", 8, 8, 8, 2e-5)};
  value_of(db.store(sections));
  EXPECT_EQ(value_of(db.select<OperatorRow>("t4", "")).size(), 2U);
  EXPECT_EQ(value_of(db.select<OperatorRow>("", "a")).size(), 2U);
  EXPECT_EQ(value_of(db.select<OperatorRow>("t4", "b")).size(), 1U);
  EXPECT_EQ(value_of(db.select<OperatorRow>("t4", "c")).size(), 0U);
  EXPECT_EQ(value_of(db.operators_of("t4", kernels::OpKind::gemm)).size(), 2U);
}

}  // namespace
}  // namespace troupe::profiles
