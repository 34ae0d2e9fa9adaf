#include "results/store.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <SQLiteCpp/VariadicBind.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sqlite3.h>

#include <chrono>
#include <cmath>
#include <thread>

#include "base/text.h"
#include "results/store_sql.h"
#include "results/text.h"

namespace troupe::results {

namespace fs = std::filesystem;

struct Store::Connection {
  fs::path path;
  int busy_ms = 0;
  SQLite::Database db;
};

namespace {

/// Says what SQLite could not do in words that name the file and a way out.
Error explain(const SQLite::Exception& e, const fs::path& path, int busy_ms) {
  const std::string file = path.string();
  const auto io = [](std::string message) {
    return Error{Fault::io, std::move(message)};
  };
  switch (e.getErrorCode() & 0xFF) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return io(
          fmt::format("run store {} is locked by another program; gave "
                      "up after {:.1f} s; try again when it has ended",
                      file, busy_ms * 1e-3));
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
      return io(
          fmt::format("run store {} is damaged or not an SQLite file "
                      "({}); move it away and a new one is made",
                      file, e.what()));
    case SQLITE_FULL:
      return io(
          fmt::format("the disk is full; nothing was kept in run store "
                      "{}; free some space and try again",
                      file));
    case SQLITE_IOERR:
      return io(
          fmt::format("the disk failed under run store {} ({}); nothing "
                      "was kept; check its space and health",
                      file, e.what()));
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_CANTOPEN:
      return io(
          fmt::format("cannot open run store {} for writing ({}); check "
                      "the permissions of the file and its folder, or "
                      "use another path",
                      file, e.what()));
    default:
      return io(fmt::format("run store {}: {}", file, e.what()));
  }
}

std::string utc_now() {
  const auto now = std::chrono::system_clock::now();
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(now)));
}

int pragma(SQLite::Database& db, const char* name) {
  return db.execAndGet(fmt::format("PRAGMA {}", name)).getInt();
}

/// Whether the file is a run store of a version we know; an empty file is
/// one of version 0.
Result<void> recognise(SQLite::Database& db, const fs::path& path) {
  // One transaction: another process may be making the store right now.
  SQLite::Transaction snapshot(db);
  const int application = pragma(db, "application_id");
  const int version = pragma(db, "user_version");
  const bool empty = db.execAndGet(sql::kHasTables).getInt64() == 0;
  snapshot.commit();
  if (application != sql::kApplication && !(empty && application == 0)) {
    return fail(Fault::io,
                fmt::format("{} is an SQLite file of another program, not a "
                            "run store; use another path",
                            path.string()));
  }
  const int known = static_cast<int>(sql::kMigrations.size());
  if (version < 0 || version > known) {
    return fail(Fault::io,
                fmt::format("run store {} has version {}, this program knows "
                            "up to {}; use a newer one, or another path",
                            path.string(), version, known));
  }
  return {};
}

/// Brings the store to the newest version in one transaction, so that a
/// process that dies on the way leaves the old version.
void migrate(SQLite::Database& db) {
  const int known = static_cast<int>(sql::kMigrations.size());
  if (pragma(db, "user_version") == known) return;
  SQLite::Transaction transaction(db, SQLite::TransactionBehavior::IMMEDIATE);
  // Read again: another process may have migrated while this one waited.
  for (int v = pragma(db, "user_version"); v < known; ++v) {
    db.exec(std::string(sql::kMigrations[static_cast<std::size_t>(v)]));
  }
  db.exec(fmt::format("PRAGMA application_id = {}", sql::kApplication));
  db.exec(fmt::format("PRAGMA user_version = {}", known));
  transaction.commit();
}

/// Settings of a connection, then migration.
void prepare(SQLite::Database& db) {
  db.exec("PRAGMA trusted_schema = OFF");
  db.exec("PRAGMA foreign_keys = ON");
  // In WAL mode NORMAL cannot damage the file; a power cut may lose the last
  // runs, which can be simulated again.
  db.exec("PRAGMA synchronous = NORMAL");
  const bool is_wal = db.execAndGet("PRAGMA journal_mode").getString() == "wal";
  if (!is_wal) db.exec("PRAGMA journal_mode = WAL");
  migrate(db);
}

/// Calls `work` again while another process prepares the store: SQLite does
/// not wait by itself when the journal mode changes.
template <typename Work>
auto patiently(int busy_ms, Work work) {
  using Clock = std::chrono::steady_clock;
  const auto deadline = Clock::now() + std::chrono::milliseconds(busy_ms);
  for (;;) {
    try {
      return work();
    } catch (const SQLite::Exception& e) {
      const bool busy = (e.getErrorCode() & 0xFF) == SQLITE_BUSY;
      if (!busy || Clock::now() > deadline) throw;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

StoredRun read_row(SQLite::Statement& row) {
  int i = 0;
  StoredRun out;
  out.id = fmt::format("r{}", row.getColumn(i++).getInt64());
  for (std::string* text : {&out.created, &out.performance, &out.name,
                            &out.model, &out.cluster, &out.schedule}) {
    *text = row.getColumn(i++).getString();
  }
  out.gpus = row.getColumn(i++).getInt();
  out.step_time = {row.getColumn(i++).getInt64()};
  out.tokens_per_s = row.getColumn(i++).getDouble();
  out.mfu = row.getColumn(i++).getDouble();
  out.out_of_memory = row.getColumn(i++).getInt() != 0;
  return out;
}

/// Empty when the folder is gone.
std::string working_folder() {
  std::error_code error;
  const fs::path folder = fs::current_path(error);
  return error ? std::string() : valid_utf8(folder.string());
}

/// Inserts the run and its inputs; returns its number.
std::int64_t insert(SQLite::Database& db, const RunResult& run,
                    const Timeline& timeline, const std::string& created,
                    const std::string& body) {
  const auto finite = [](double v) { return std::isfinite(v) ? v : 0.0; };
  SQLite::Transaction transaction(db, SQLite::TransactionBehavior::IMMEDIATE);
  SQLite::Statement add(db, sql::kAdd);
  SQLite::bind(add, created, valid_utf8(run.performance), valid_utf8(run.name),
               valid_utf8(run.model), valid_utf8(run.cluster),
               valid_utf8(run.schedule), run.gpus, run.step_time.v,
               finite(run.tokens_per_s), finite(run.mfu),
               run.out_of_memory ? 1 : 0, body, working_folder());
  add.exec();
  const std::int64_t number = db.getLastInsertRowid();
  SQLite::Statement add_input(db, sql::kAddInput);
  for (const auto& [role, hash] : run.inputs) {
    add_input.reset();
    SQLite::bind(add_input, number, valid_utf8(role), valid_utf8(hash));
    add_input.exec();
  }
  if (!timeline.events.empty()) {
    const std::string bytes = packed(timeline);
    SQLite::Statement add_timeline(db, sql::kAddTimeline);
    add_timeline.bind(1, number);
    add_timeline.bind(2, bytes.data(), static_cast<int>(bytes.size()));
    add_timeline.exec();
  }
  transaction.commit();
  return number;
}

}  // namespace

Store::Store(std::unique_ptr<Connection> connection)
    : connection_(std::move(connection)) {}
Store::Store(Store&&) noexcept = default;
Store& Store::operator=(Store&&) noexcept = default;
Store::~Store() = default;

Result<Store> Store::open(const fs::path& path, const StoreOptions& options) {
  std::error_code error;
  if (!options.create && !fs::exists(path, error)) {
    return fail(Fault::io, fmt::format("there is no run store {}; it is made "
                                       "when a run is kept",
                                       path.string()));
  }
  if (options.create && path.has_parent_path()) {
    fs::create_directories(path.parent_path(), error);
    if (error) {
      return fail(Fault::io,
                  fmt::format("cannot create folder {}: {}",
                              path.parent_path().string(), error.message()));
    }
  }
  try {
    const int flags =
        SQLite::OPEN_READWRITE | (options.create ? SQLite::OPEN_CREATE : 0);
    auto connection = std::unique_ptr<Connection>(new Connection{
        path, options.busy_ms, {path.string(), flags, options.busy_ms}});
    const auto ready = [&]() -> Result<void> {
      TRY_DO(recognise(connection->db, path));
      prepare(connection->db);
      return {};
    };
    TRY_DO(patiently(options.busy_ms, ready));
    return Store(std::move(connection));
  } catch (const SQLite::Exception& e) {
    return fail(explain(e, path, options.busy_ms));
  }
}

Result<std::string> Store::add(RunResult& run, const Timeline& timeline) {
  try {
    Json json = to_json(run);
    json["id"] = json["created"] = "";
    const std::string created = utc_now();
    const std::int64_t number =
        insert(connection_->db, run, timeline, created, json.dump());
    run.id = fmt::format("r{}", number);
    run.created = created;
    return run.id;
  } catch (const SQLite::Exception& e) {
    return fail(explain(e, connection_->path, connection_->busy_ms));
  }
}

Result<std::vector<StoredRun>> Store::list(const RunFilter& filter) const {
  try {
    SQLite::Statement query(connection_->db, sql::kList);
    SQLite::bind(query, filter.text, filter.performance, filter.hash,
                 filter.most);
    std::vector<StoredRun> out;
    while (query.executeStep()) out.push_back(read_row(query));
    return out;
  } catch (const SQLite::Exception& e) {
    return fail(explain(e, connection_->path, connection_->busy_ms));
  }
}

Result<std::int64_t> Store::number_of(const std::string& id) const {
  const auto none = [&](std::string_view hint) {
    return fail(Fault::input, fmt::format("no run '{}' in {}{}", excerpt(id),
                                          connection_->path.string(), hint));
  };
  if (id == "last") {
    SQLite::Statement query(connection_->db, sql::kLast);
    if (!query.executeStep() || query.getColumn(0).isNull()) {
      return none(": it holds no runs");
    }
    return query.getColumn(0).getInt64();
  }
  const bool plain = id.size() >= 2 && id.size() <= 18 && id[0] == 'r' &&
                     id.find_first_not_of("0123456789", 1) == id.npos;
  if (!plain) return none("; runs are called r1, r2, ..., and the newest last");
  return std::stoll(id.substr(1));
}

Result<RunResult> Store::get(const std::string& id) const {
  try {
    TRY(const std::int64_t number, number_of(id));
    SQLite::Statement query(connection_->db, sql::kGet);
    query.bind(1, number);
    if (!query.executeStep()) {
      return fail(Fault::input, fmt::format("no run '{}' in {}", id,
                                            connection_->path.string()));
    }
    const std::string name =
        fmt::format("{}, run r{}", connection_->path.string(), number);
    TRY(const Json json, parse_json(query.getColumn(1).getString(), name));
    TRY(RunResult run, run_from_json(json, name));
    run.id = fmt::format("r{}", number);
    run.created = query.getColumn(0).getString();
    return run;
  } catch (const SQLite::Exception& e) {
    return fail(explain(e, connection_->path, connection_->busy_ms));
  }
}

Result<std::optional<Timeline>> Store::timeline(const std::string& id) const {
  try {
    TRY(const std::int64_t number, number_of(id));
    SQLite::Statement query(connection_->db, sql::kTimeline);
    query.bind(1, number);
    if (!query.executeStep()) return std::nullopt;
    TRY(Timeline out, unpacked(query.getColumn(0).getString()));
    return out;
  } catch (const SQLite::Exception& e) {
    return fail(explain(e, connection_->path, connection_->busy_ms));
  }
}

Result<std::string> Store::folder(const std::string& id) const {
  try {
    TRY(const std::int64_t number, number_of(id));
    SQLite::Statement query(connection_->db, sql::kFolder);
    query.bind(1, number);
    if (!query.executeStep()) {
      return fail(Fault::input, fmt::format("no run '{}' in {}", id,
                                            connection_->path.string()));
    }
    return query.getColumn(0).getString();
  } catch (const SQLite::Exception& e) {
    return fail(explain(e, connection_->path, connection_->busy_ms));
  }
}

Result<void> Store::remove(const std::string& id) {
  try {
    TRY(const std::int64_t number, number_of(id));
    SQLite::Statement query(connection_->db, sql::kRemove);
    query.bind(1, number);
    if (query.exec() == 0) {
      return fail(Fault::input, fmt::format("no run '{}' in {}", id,
                                            connection_->path.string()));
    }
    return {};
  } catch (const SQLite::Exception& e) {
    return fail(explain(e, connection_->path, connection_->busy_ms));
  }
}

}  // namespace troupe::results
