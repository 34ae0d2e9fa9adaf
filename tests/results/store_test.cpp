#include "results/store.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "base/file.h"
#include "results/store_sql.h"
#include "tests/results/sample.h"

namespace troupe::results {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;

RunResult small_run() {
  return sample_run({.pipelines = 2, .stages = 2, .micro_batches = 2});
}

std::string message_of(const Result<Store>& opened) {
  return opened ? "opened" : opened.error().message;
}

TEST(RunStore, GivesBackWhatWasAdded) {
  const TemporaryFolder folder;
  RunResult run = small_run();
  {
    Store store = *Store::open(folder.file("runs.db"));
    EXPECT_EQ(store.add(run).value(), "r1");
  }
  EXPECT_EQ(run.id, "r1");
  EXPECT_THAT(run.created,
              MatchesRegex("2[0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z"));
  const Store store = *Store::open(folder.file("runs.db"));
  EXPECT_EQ(store.get("r1").value(), run);
  EXPECT_EQ(store.get("last").value(), run);
}

TEST(RunStore, MakesTheFolderItLivesIn) {
  const TemporaryFolder folder;
  EXPECT_EQ(message_of(Store::open(folder.file("a/b/runs.db"))), "opened");
}

TEST(RunStore, NeverUsesAnIdTwice) {
  const TemporaryFolder folder;
  Store store = *Store::open(folder.file("runs.db"));
  RunResult run = small_run();
  EXPECT_EQ(store.add(run).value(), "r1");
  EXPECT_EQ(store.add(run).value(), "r2");
  EXPECT_TRUE(store.remove("r2").has_value());
  EXPECT_EQ(store.add(run).value(), "r3");
  EXPECT_EQ(store.get("last")->id, "r3");
}

TEST(RunStore, ListsTheNewestFirstAndFilters) {
  const TemporaryFolder folder;
  Store store = *Store::open(folder.file("runs.db"));
  RunResult run = small_run();
  for (const char* model : {"Llama-7B", "gpt2-xl", "llama-70b"}) {
    run.model = model;
    run.inputs["model"] = std::string("hash of ") + model;
    ASSERT_TRUE(store.add(run).has_value());
  }
  run.performance = "executed";
  ASSERT_TRUE(store.add(run).has_value());

  const auto ids = [&](const RunFilter& filter) {
    std::string out;
    const auto rows = store.list(filter);
    for (const StoredRun& row : rows.value()) out += row.id + " ";
    return out;
  };
  EXPECT_EQ(ids({}), "r4 r3 r2 r1 ");
  EXPECT_EQ(ids({.text = "LLAMA"}), "r4 r3 r1 ");
  EXPECT_EQ(ids({.performance = "simulated"}), "r3 r2 r1 ");
  EXPECT_EQ(ids({.hash = "hash of gpt2-xl"}), "r2 ");
  EXPECT_EQ(ids({.hash = run.schedule, .most = 2}), "r4 r3 ");
  EXPECT_EQ(ids({.text = "' OR 1=1 --"}), "");
  const StoredRun row = store.list()->front();
  EXPECT_EQ(row.step_time, run.step_time);
  EXPECT_EQ(row.gpus, run.gpus);
  EXPECT_EQ(row.mfu, run.mfu);
}

TEST(RunStore, RemovingForgetsTheInputsToo) {
  const TemporaryFolder folder;
  Store store = *Store::open(folder.file("runs.db"));
  RunResult run = small_run();
  ASSERT_TRUE(store.add(run).has_value());
  ASSERT_TRUE(store.remove("r1").has_value());
  SQLite::Database db(folder.file("runs.db"));
  EXPECT_EQ(db.execAndGet("SELECT count(*) FROM run_inputs").getInt(), 0);
}

TEST(RunStore, UnknownIdsAreTheUsersMistake) {
  const TemporaryFolder folder;
  Store store = *Store::open(folder.file("runs.db"));
  EXPECT_THAT(store.get("last").error().message, HasSubstr("holds no runs"));
  for (const std::string id :
       {"r1", "r999999999999", "", "r", "1", "r-1", "r1; DROP TABLE runs",
        "\x1B[31m", "r99999999999999999999999"}) {
    const auto got = store.get(id);
    ASSERT_FALSE(got.has_value()) << id;
    EXPECT_EQ(got.error().fault, Fault::input) << id;
    EXPECT_THAT(got.error().message, HasSubstr("no run '"));
    EXPECT_FALSE(store.remove(id).has_value()) << id;
  }
}

TEST(RunStore, HostileNamesAreOnlyText) {
  const TemporaryFolder folder;
  Store store = *Store::open(folder.file("runs.db"));
  RunResult run = small_run();
  run.model = "'); DROP TABLE runs; --";
  run.name = "\xFF\xFE broken";
  run.mfu = std::nan("");
  ASSERT_TRUE(store.add(run).has_value());
  EXPECT_EQ(store.get("r1")->model, run.model);
  EXPECT_EQ(store.list()->front().model, run.model);
  EXPECT_EQ(store.list()->front().mfu, 0);
}

TEST(RunStore, MissingFileIsAnErrorForReaders) {
  const TemporaryFolder folder;
  const auto opened = Store::open(folder.file("no.db"), {.create = false});
  EXPECT_THAT(message_of(opened), HasSubstr("there is no run store"));
  EXPECT_FALSE(std::filesystem::exists(folder.file("no.db")));
}

TEST(RunStore, RefusesWhatIsNotARunStore) {
  const TemporaryFolder folder;
  std::ofstream(folder.file("text.db")) << "this is not a database at all, "
                                           "but long enough to look at it";
  EXPECT_THAT(message_of(Store::open(folder.file("text.db"))),
              HasSubstr("damaged or not an SQLite file"));
  SQLite::Database(folder.file("other.db"),
                   SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE)
      .exec("CREATE TABLE theirs (x)");
  EXPECT_THAT(message_of(Store::open(folder.file("other.db"))),
              HasSubstr("of another program"));
  EXPECT_THAT(message_of(Store::open(folder.path())),
              HasSubstr("cannot open run store"));
  EXPECT_THAT(message_of(Store::open("/dev/null/x/runs.db")),
              HasSubstr("cannot create folder"));
}

TEST(RunStore, RefusesANewerVersion) {
  const TemporaryFolder folder;
  ASSERT_TRUE(Store::open(folder.file("runs.db")).has_value());
  SQLite::Database(folder.file("runs.db"), SQLite::OPEN_READWRITE)
      .exec("PRAGMA user_version = 99");
  EXPECT_THAT(message_of(Store::open(folder.file("runs.db"))),
              HasSubstr("has version 99, this program knows up to 4"));
}

// Pages in the middle overwritten with noise: every answer is an error or a
// run, never a crash.
TEST(RunStore, DamageIsReported) {
  const TemporaryFolder folder;
  {
    Store store = *Store::open(folder.file("runs.db"));
    RunResult run = sample_run({.pipelines = 4});
    for (int i = 0; i < 4; ++i) ASSERT_TRUE(store.add(run).has_value());
  }
  const auto size = std::filesystem::file_size(folder.file("runs.db"));
  {
    std::fstream file(folder.file("runs.db"),
                      std::ios::in | std::ios::out | std::ios::binary);
    for (std::uintmax_t at = 4096; at < size; at += 512) {
      file.seekp(static_cast<std::streamoff>(at));
      file << "noise noise noise noise noise noise";
    }
  }
  const auto store = Store::open(folder.file("runs.db"));
  const auto got = store ? store->get("r1") : fail(store.error());
  ASSERT_FALSE(got.has_value());
  EXPECT_THAT(got.error().message, HasSubstr(folder.file("runs.db")));
}

TEST(RunStore, ABodyOfAnotherShapeIsReported) {
  const TemporaryFolder folder;
  Store store = *Store::open(folder.file("runs.db"));
  RunResult run = small_run();
  for (const char* body : {"", "{", "{}", "[1]", "nul"}) {
    ASSERT_TRUE(store.add(run).has_value());
    SQLite::Database db(folder.file("runs.db"), SQLite::OPEN_READWRITE);
    SQLite::Statement change(db, "UPDATE runs SET body = ?");
    change.bind(1, body);
    change.exec();
    const auto got = store.get(run.id);
    ASSERT_FALSE(got.has_value()) << body;
    EXPECT_THAT(got.error().message, HasSubstr("run " + run.id));
  }
}

// A store as version 1 made it, from the migrations' own first entry.
TEST(RunStore, MigratesAnOlderStoreWithItsRuns) {
  const TemporaryFolder folder;
  RunResult run = small_run();
  {
    SQLite::Database db(folder.file("runs.db"),
                        SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE);
    db.exec(std::string(sql::kMigrations[0]));
    db.exec("PRAGMA application_id = " + std::to_string(sql::kApplication));
    db.exec("PRAGMA user_version = 1");
    SQLite::Statement add(db,
                          "INSERT INTO runs (created, performance, name, "
                          "model, cluster, schedule, gpus, step_ps, "
                          "tokens_per_s, mfu, out_of_memory, body) "
                          "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
    for (int i = 1; i <= 6; ++i) add.bind(i, "x");
    for (int i = 7; i <= 11; ++i) add.bind(i, 1);
    add.bind(12, to_json(run).dump());
    add.exec();
  }
  const Store store = *Store::open(folder.file("runs.db"));
  const auto found = store.list({.hash = run.inputs["strategy"]});
  ASSERT_EQ(found->size(), 1u);
  EXPECT_EQ(found->front().id, "r1");
  EXPECT_EQ(store.get("r1")->stages, run.stages);
  SQLite::Database db(folder.file("runs.db"));
  EXPECT_EQ(db.execAndGet("PRAGMA user_version").getInt(), 4);
  EXPECT_EQ(store.folder("r1").value(), "");
}

TEST(RunStore, KnowsTheFolderOfARun) {
  const TemporaryFolder folder;
  Store store = *Store::open(folder.file("runs.db"));
  RunResult run = small_run();
  ASSERT_TRUE(store.add(run).has_value());
  EXPECT_EQ(store.folder(run.id).value(),
            std::filesystem::current_path().string());
  EXPECT_FALSE(store.folder("r9").has_value());
}

TEST(RunStore, SaysWhenAnotherHoldsTheLock) {
  const TemporaryFolder folder;
  Store store = *Store::open(folder.file("runs.db"), {.busy_ms = 50});
  SQLite::Database other(folder.file("runs.db"), SQLite::OPEN_READWRITE);
  other.exec("BEGIN IMMEDIATE");
  RunResult run = small_run();
  const auto added = store.add(run);
  ASSERT_FALSE(added.has_value());
  EXPECT_THAT(added.error().message, HasSubstr("locked by another program"));
  EXPECT_EQ(run.id, "");
  EXPECT_TRUE(store.list().has_value()) << "reading goes on in WAL mode";
  other.exec("ROLLBACK");
  EXPECT_TRUE(store.add(run).has_value());
}

/// Runs `body` in another process; true when it returned true there.
template <typename Body>
pid_t in_process(Body body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body() ? 0 : 1);
  return child;
}
bool succeeded(pid_t child) {
  int status = -1;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// All start on a store that does not exist: making, migrating and writing
// race.
TEST(RunStore, WritersInSeveralProcessesAllSucceed) {
  const TemporaryFolder folder;
  constexpr int kProcesses = 4;
  constexpr int kRuns = 25;
  std::vector<pid_t> children;
  for (int p = 0; p < kProcesses; ++p) {
    children.push_back(in_process([&] {
      RunResult run = small_run();
      for (int i = 0; i < kRuns; ++i) {
        auto store = Store::open(folder.file("runs.db"));
        if (!store || !store->add(run)) return false;
      }
      return true;
    }));
  }
  for (const pid_t child : children) EXPECT_TRUE(succeeded(child));
  const Store store = *Store::open(folder.file("runs.db"));
  const auto rows = store.list();
  std::set<std::string> ids;
  for (const StoredRun& row : *rows) ids.insert(row.id);
  EXPECT_EQ(ids.size(), static_cast<std::size_t>(kProcesses * kRuns));
}

TEST(RunStore, WritersInSeveralThreadsAllSucceed) {
  const TemporaryFolder folder;
  std::vector<int> added(4, 0);
  {
    std::vector<std::jthread> threads;
    for (int& count : added) {
      threads.emplace_back([&count, &folder] {
        auto store = Store::open(folder.file("runs.db"));
        RunResult run = small_run();
        for (int i = 0; store && i < 25; ++i) count += store->add(run) ? 1 : 0;
      });
    }
  }
  EXPECT_EQ(added, std::vector<int>(4, 25));
  EXPECT_EQ(Store::open(folder.file("runs.db"))->list()->size(), 100u);
}

// A disk that refuses to grow is played by a limit on the size of files, in
// a process of its own.
TEST(RunStore, AFullDiskKeepsTheOldRuns) {
  const TemporaryFolder folder;
  RunResult run = small_run();
  {
    Store store = *Store::open(folder.file("runs.db"));
    ASSERT_TRUE(store.add(run).has_value());
  }
  const pid_t child = in_process([&] {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1 << 16, 1 << 16};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    auto store = Store::open(folder.file("runs.db"));
    if (!store) return false;
    RunResult big = sample_run();  // about 200 kB
    const auto added = store->add(big);
    return !added && added.error().fault == Fault::io &&
           added.error().message.find("disk") != std::string::npos;
  });
  EXPECT_TRUE(succeeded(child));
  const Store store = *Store::open(folder.file("runs.db"));
  EXPECT_EQ(store.list()->size(), 1u);
  EXPECT_EQ(store.get("r1").value(), run);
}

TEST(RunStore, AFolderThatCannotBeWrittenIsReported) {
  if (::geteuid() == 0) {
    GTEST_SKIP() << "the superuser may write everywhere";
  }
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder.file("closed"));
  std::filesystem::permissions(
      folder.file("closed"),
      std::filesystem::perms::owner_read | std::filesystem::perms::owner_exec);
  EXPECT_THAT(message_of(Store::open(folder.file("closed/runs.db"))),
              HasSubstr("cannot open run store"));
}

}  // namespace
}  // namespace troupe::results
