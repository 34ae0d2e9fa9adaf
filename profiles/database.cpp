#include "profiles/database.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <fmt/format.h>
#include <sqlite3.h>

#include <array>
#include <chrono>
#include <cstring>
#include <fstream>
#include <map>
#include <optional>
#include <thread>

#include "base/progress.h"
#include "profiles/devices.h"
#include "profiles/row_text.h"
#include "profiles/sql.h"
#include "profiles/sql_rows.h"

namespace troupe::profiles {
namespace {

constexpr std::size_t kMostShownConflicts = 20;
constexpr int kBusyMilliseconds = 5000;

Error io_error(const std::string& path, const SQLite::Exception& e) {
  std::string message = fmt::format("{}: {}", path, e.what());
  // SQLITE_FULL, SQLITE_READONLY, SQLITE_CORRUPT, SQLITE_BUSY
  if (e.getErrorCode() == 13) message += "; free some space and try again";
  if (e.getErrorCode() == 8) message += "; give another path with --db";
  if (e.getErrorCode() == 11) message += "; the file is damaged";
  if (e.getErrorCode() == 5) message += "; another program is writing to it";
  return {Fault::io, std::move(message)};
}

/// Looks at the first bytes before SQLite does, for a clear answer.
Result<void> check_header(const std::filesystem::path& path) {
  std::error_code gone;
  const auto size = std::filesystem::file_size(path, gone);
  if (gone || size == 0) return {};
  std::array<unsigned char, 100> header{};
  std::ifstream file(path, std::ios::binary);
  file.read(reinterpret_cast<char*>(header.data()), header.size());
  if (!file && !file.eof()) {
    return fail(Fault::io, path.string() + ": cannot be read");
  }
  const bool whole = file.gcount() == 100;
  if (!whole || std::memcmp(header.data(), "SQLite format 3", 16) != 0) {
    return fail(Fault::input, path.string() +
                                  ": is not a profile database (no SQLite "
                                  "file); give another path");
  }
  const auto wal = std::filesystem::file_size(path.string() + "-wal", gone);
  if (!gone && wal > 0) return {};  // the log may hold the missing pages
  std::uint64_t page = (header[16] << 8U) | header[17];
  if (page == 1) page = 65536;
  std::uint64_t pages = 0;
  for (std::size_t i = 28; i < 32; ++i) pages = (pages << 8U) | header[i];
  if (size < page * pages) {
    return fail(Fault::input,
                fmt::format("{}: is truncated ({} of {} bytes); restore it or "
                            "remove it to start a new one",
                            path.string(), size, page * pages));
  }
  return {};
}

}  // namespace

struct Database::Impl {
  std::string path;
  mutable SQLite::Database db;

  explicit Impl(const std::string& file)
      : path(file),
        db(file, SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE,
           kBusyMilliseconds) {}

  int pragma(const char* name) {
    return db.execAndGet(std::string("PRAGMA ") + name).getInt();
  }

  /// Nothing stored: a new file, or one that another program made empty.
  bool empty() {
    return db.execAndGet("SELECT count(*) FROM sqlite_master").getInt() == 0;
  }

  Result<void> migrate() {
    const int version = pragma("user_version");
    const int application = pragma("application_id");
    if (application != sql::kApplicationId && !(version == 0 && empty())) {
      return fail(Fault::input,
                  path + ": is an SQLite database, but not of profiles");
    }
    if (version > sql::kVersion) {
      return fail(Fault::input,
                  fmt::format("{}: has version {}, this program knows up to "
                              "{}; use a newer program or another file",
                              path, version, sql::kVersion));
    }
    if (version == sql::kVersion) return {};
    // Another program may migrate at the same time: the lock comes first.
    SQLite::Transaction whole(db, SQLite::TransactionBehavior::IMMEDIATE);
    for (int v = pragma("user_version"); v < sql::kVersion; ++v) {
      db.exec(text_of(sql::kMigrations[static_cast<std::size_t>(v)]));
    }
    db.exec(fmt::format("PRAGMA user_version = {}", sql::kVersion));
    db.exec(fmt::format("PRAGMA application_id = {}", sql::kApplicationId));
    whole.commit();
    return {};
  }

  void add_devices(const Section& section) {
    std::map<std::string, std::string> devices;
    const auto see = [&](const auto& rows) {
      for (const auto& row : rows) devices.try_emplace(row.device);
    };
    see(section.operators);
    see(section.layers);
    see(section.stages);
    see(section.collectives);
    see(section.copies);
    for (auto& [name, architecture] : devices) {
      architecture = architecture_of(name);
    }
    for (const DeviceName& device : section.devices) {
      devices[device.name] = device.architecture;
    }
    SQLite::Statement add(db, text_of(sql::kAddDevice));
    for (const auto& [name, architecture] : devices) {
      add.reset();
      add.bind(1, name);
      add.bind(2, architecture);
      add.exec();
    }
  }

  std::int64_t add_source(const Source& source) {
    SQLite::Statement add(db, text_of(sql::kAddSource));
    int i = 1;
    fields(source, [&](std::string_view, const std::string& value, Need) {
      add.bind(i++, value);
    });
    add.exec();
    SQLite::Statement find(db, text_of(sql::kSourceId));
    find.bind(1, source.name);
    find.executeStep();
    return find.getColumn(0).getInt64();
  }

  /// A source of several files names them all, each with its hash, and has
  /// the newest date and note.
  void refresh_source(std::int64_t id, const Source& source) {
    SQLite::Statement stored(db, text_of(sql::kFilesOfSource));
    stored.bind(1, id);
    stored.executeStep();
    std::string file = stored.getColumn(0).getString();
    std::string hash = stored.getColumn(1).getString();
    const std::string date =
        std::max(stored.getColumn(2).getString(), source.date);
    if (!source.file_hash.empty() && !lists(hash, source.file_hash)) {
      const char* comma = file.empty() ? "" : "; ";
      file += comma + source.file;
      hash += comma + source.file_hash;
    }
    SQLite::Statement refresh(db, text_of(sql::kRefreshSource));
    refresh.bind(1, file);
    refresh.bind(2, hash);
    refresh.bind(3, date);
    refresh.bind(4, source.note);
    refresh.bind(5, id);
    refresh.exec();
  }

  bool give_up = true;  ///< when interrupted

  /// False when interrupted.
  template <typename Row>
  bool add_rows(std::int64_t source, const Section& section,
                const std::vector<Row>& rows, Written& written) {
    if (rows.empty()) return true;
    SQLite::Statement insert(db, text_of(table_of<Row>().insert));
    SQLite::Statement same(db, text_of(table_of<Row>().same));
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (give_up && i % 256 == 0 && interrupted()) return false;
      bind_row(insert, source, rows[i]);
      if (insert.exec() == 1) {
        ++written.inserted;
        continue;
      }
      bind_row(same, source, rows[i]);
      if (same.executeStep()) {
        ++written.unchanged;
        continue;
      }
      ++written.conflicts;
      if (written.first_conflicts.size() < kMostShownConflicts) {
        written.first_conflicts.push_back(
            conflict(source, section.source, rows[i]));
      }
    }
    return true;
  }

  template <typename Row>
  std::string conflict(std::int64_t id, const Source& source, const Row& row) {
    SQLite::Statement files(db, text_of(sql::kFilesOfSource));
    files.bind(1, id);
    files.executeStep();
    const std::string stored_in = files.getColumn(0).getString();
    const auto stored = stored_twin(id, row);
    return fmt::format(
        "{}: {}: {} here, but source '{}' holds {}{}; give the new "
        "measurement another source name",
        source.file, key_text(row), value_text(row), source.name,
        stored ? value_text(*stored) : "another",
        stored_in.empty() ? "" : " from " + stored_in);
  }

  /// The stored row with the key of `row`.
  template <typename Row>
  std::optional<Row> stored_twin(std::int64_t id, const Row& row) {
    SQLite::Statement query(db, text_of(table_of<Row>().select) +
                                    text_of(sql::kWhereSourceAndDevice));
    query.bind(1, id);
    query.bind(2, row.device);
    while (query.executeStep()) {
      Row stored;
      int i = 1;
      fields(stored, [&](std::string_view, auto& value, Need) {
        read_value(query.getColumn(i++), value);
      });
      if (key_text(stored) == key_text(row)) return stored;
    }
    return {};
  }
};

Database::Database(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Database::Database(Database&&) noexcept = default;
Database& Database::operator=(Database&&) noexcept = default;
Database::~Database() = default;
const std::string& Database::path() const { return impl_->path; }

Result<Database> open_or_create(const std::filesystem::path& path) {
  const bool memory = path == ":memory:";
  std::error_code error;
  if (!memory) {
    if (std::filesystem::is_directory(path, error)) {
      return fail(Fault::input, path.string() + ": is a folder");
    }
    TRY_DO(check_header(path));
    if (path.has_parent_path()) {
      std::filesystem::create_directories(path.parent_path(), error);
      if (error) {
        return fail(Fault::io,
                    fmt::format("{}: cannot be created: {}",
                                path.parent_path().string(), error.message()));
      }
    }
  }
  // Switching a fresh file to WAL does not wait for another process that is
  // just doing the same; so this does.
  const auto deadline =
      std::chrono::steady_clock::now() + std::chrono::seconds(5);
  for (;;) {
    try {
      auto impl = std::make_unique<Database::Impl>(path.string());
      impl->db.exec(text_of(sql::kOpen));
      TRY_DO(impl->migrate());
      return Database(std::move(impl));
    } catch (const SQLite::Exception& e) {
      const bool busy = (e.getErrorCode() & 0xFF) == SQLITE_BUSY;
      if (!busy || std::chrono::steady_clock::now() > deadline) {
        return fail(io_error(path.string(), e));
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }
}

Result<Written> Database::store(const std::vector<Section>& sections,
                                OnInterrupt on_interrupt) {
  impl_->give_up = on_interrupt == OnInterrupt::give_up;
  try {
    Written written;
    SQLite::Transaction whole(impl_->db,
                              SQLite::TransactionBehavior::IMMEDIATE);
    for (const Section& section : sections) {
      impl_->add_devices(section);
      const std::int64_t source = impl_->add_source(section.source);
      const int before = written.inserted;
      const bool done =
          impl_->add_rows(source, section, section.operators, written) &&
          impl_->add_rows(source, section, section.layers, written) &&
          impl_->add_rows(source, section, section.stages, written) &&
          impl_->add_rows(source, section, section.collectives, written) &&
          impl_->add_rows(source, section, section.copies, written);
      if (!done) return fail(Fault::interrupted, "interrupted; nothing stored");
      SQLite::Statement drop(impl_->db, text_of(sql::kDropEmptySource));
      drop.bind(1, source);
      drop.exec();
      if (written.inserted == before) continue;
      impl_->refresh_source(source, section.source);
    }
    whole.commit();
    return written;
  } catch (const SQLite::Exception& e) {
    return fail(io_error(impl_->path, e));
  }
}

Result<std::vector<StoredSource>> Database::sources() const {
  try {
    std::vector<StoredSource> all;
    SQLite::Statement query(impl_->db, text_of(sql::kSources));
    while (query.executeStep()) {
      StoredSource& s = all.emplace_back();
      s.id = query.getColumn(0).getInt64();
      int i = 1;
      fields(s.source, [&](std::string_view, std::string& value, Need) {
        read_value(query.getColumn(i++), value);
      });
    }
    return all;
  } catch (const SQLite::Exception& e) {
    return fail(io_error(impl_->path, e));
  }
}

Result<std::vector<DeviceName>> Database::devices() const {
  try {
    std::vector<DeviceName> all;
    SQLite::Statement query(impl_->db, text_of(sql::kDevices));
    while (query.executeStep()) {
      all.push_back(
          {query.getColumn(0).getString(), query.getColumn(1).getString()});
    }
    return all;
  } catch (const SQLite::Exception& e) {
    return fail(io_error(impl_->path, e));
  }
}

Result<std::vector<RowCount>> Database::counts() const {
  try {
    std::vector<RowCount> all;
    SQLite::Statement query(impl_->db, text_of(sql::kCounts));
    while (query.executeStep()) {
      all.push_back(
          {query.getColumn(0).getInt64(), query.getColumn(1).getString(),
           query.getColumn(2).getString(), query.getColumn(3).getInt64()});
    }
    return all;
  } catch (const SQLite::Exception& e) {
    return fail(io_error(impl_->path, e));
  }
}

namespace {

/// Reads one row of a result, from the column after `first`.
template <typename Row>
Result<void> read_row(SQLite::Statement& query, int first, Row& row,
                      const std::string& path) {
  int i = first;
  std::string_view bad;
  fields(row, [&](std::string_view name, auto& value, Need) {
    if (!read_value(query.getColumn(i++), value)) bad = name;
  });
  if (bad.empty() && !problem_of(row)) return {};
  return fail(Fault::input,
              fmt::format("{}: table {} holds a row with a wrong {}", path,
                          kTable<Row>, bad.empty() ? "value" : bad));
}

}  // namespace

template <typename Row>
Result<std::vector<Stored<Row>>> Database::select(
    std::string_view device, std::string_view source) const {
  try {
    std::vector<Stored<Row>> rows;
    const std::size_t where =
        (device.empty() ? 0U : 1U) + (source.empty() ? 0U : 2U);
    SQLite::Statement query(impl_->db, text_of(table_of<Row>().select) +
                                           text_of(sql::kWhere[where]));
    if (!device.empty()) query.bind("?1", std::string(device));
    if (!source.empty()) query.bind("?2", std::string(source));
    while (query.executeStep()) {
      Stored<Row>& stored = rows.emplace_back();
      stored.source = query.getColumn(0).getInt64();
      TRY_DO(read_row(query, 1, stored.row, impl_->path));
    }
    return rows;
  } catch (const SQLite::Exception& e) {
    return fail(io_error(impl_->path, e));
  }
}

Result<std::vector<OperatorRow>> Database::operators_of(
    std::string_view device, kernels::OpKind op) const {
  try {
    std::vector<OperatorRow> rows;
    SQLite::Statement query(impl_->db, text_of(sql::kOperators.select) +
                                           text_of(sql::kWhereDeviceAndOp));
    query.bind("?1", std::string(device));
    query.bind("?2", to_text(op));
    while (query.executeStep()) {
      TRY_DO(read_row(query, 1, rows.emplace_back(), impl_->path));
    }
    return rows;
  } catch (const SQLite::Exception& e) {
    return fail(io_error(impl_->path, e));
  }
}

Result<std::vector<OperatorCount>> Database::operator_counts() const {
  try {
    std::vector<OperatorCount> all;
    SQLite::Statement query(impl_->db, text_of(sql::kOperatorCounts));
    while (query.executeStep()) {
      OperatorCount count{
          query.getColumn(0).getString(), {}, query.getColumn(2).getInt64()};
      if (read_value(query.getColumn(1), count.op)) all.push_back(count);
    }
    return all;
  } catch (const SQLite::Exception& e) {
    return fail(io_error(impl_->path, e));
  }
}

template <typename Row>
Result<std::vector<std::string>> Database::measured() const {
  try {
    std::vector<std::string> names;
    SQLite::Statement query(impl_->db, text_of(table_of<Row>().measured));
    while (query.executeStep()) names.push_back(query.getColumn(0).getString());
    return names;
  } catch (const SQLite::Exception& e) {
    return fail(io_error(impl_->path, e));
  }
}

template Result<std::vector<Stored<OperatorRow>>> Database::select(
    std::string_view, std::string_view) const;
template Result<std::vector<Stored<LayerRow>>> Database::select(
    std::string_view, std::string_view) const;
template Result<std::vector<Stored<StageRow>>> Database::select(
    std::string_view, std::string_view) const;
template Result<std::vector<Stored<CollectiveRow>>> Database::select(
    std::string_view, std::string_view) const;
template Result<std::vector<Stored<CopyRow>>> Database::select(
    std::string_view, std::string_view) const;
template Result<std::vector<std::string>> Database::measured<OperatorRow>()
    const;
template Result<std::vector<std::string>> Database::measured<LayerRow>() const;
template Result<std::vector<std::string>> Database::measured<StageRow>() const;
template Result<std::vector<std::string>> Database::measured<CollectiveRow>()
    const;
template Result<std::vector<std::string>> Database::measured<CopyRow>() const;

}  // namespace troupe::profiles
