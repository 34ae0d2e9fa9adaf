// The SQLite file that measurements live in. One writer; exceptions of the
// SQLite wrapper end here.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "profiles/rows.h"

namespace troupe::profiles {

/// A row as it is stored: with the source it came from.
template <typename Row>
struct Stored {
  std::int64_t source = 0;
  Row row;
};

struct StoredSource {
  std::int64_t id = 0;
  Source source;
};

/// What `store` did. A conflict is a row whose key the same source holds
/// with other values; the stored one is kept.
struct Written {
  int inserted = 0;
  int unchanged = 0;
  int conflicts = 0;
  std::vector<std::string> first_conflicts;
};

/// How many rows a source has of a device in a table.
struct RowCount {
  std::int64_t source = 0;
  std::string table;
  std::string device;
  std::int64_t rows = 0;
};

/// How many rows a device has of an operator.
struct OperatorCount {
  std::string device;
  kernels::OpKind op{};
  std::int64_t rows = 0;
};

/// What storing does when the user interrupts: `finish` is for what was
/// measured before.
enum class OnInterrupt : std::uint8_t { give_up, finish };

/// An open database of the newest version.
class Database {
 public:
  Database(Database&&) noexcept;
  Database& operator=(Database&&) noexcept;
  ~Database();

  /// Stores the sections in one transaction: all or nothing.
  ///
  /// Errors: io with SQLite's reason; interrupted. Nothing is stored then.
  Result<Written> store(const std::vector<Section>& sections,
                        OnInterrupt on_interrupt = OnInterrupt::give_up);

  /// Sources, the newest date first.
  Result<std::vector<StoredSource>> sources() const;
  Result<std::vector<DeviceName>> devices() const;
  Result<std::vector<RowCount>> counts() const;

  /// Rows of a device and a source; empty names stand for all.
  template <typename Row>
  Result<std::vector<Stored<Row>>> select(std::string_view device,
                                          std::string_view source) const;
  /// Rows of a device and operator, and how many there are of which.
  Result<std::vector<OperatorRow>> operators_of(std::string_view device,
                                                kernels::OpKind op) const;
  Result<std::vector<OperatorCount>> operator_counts() const;
  /// Devices that have rows of this kind.
  template <typename Row>
  Result<std::vector<std::string>> measured() const;

  /// The file, or ":memory:".
  const std::string& path() const;

 private:
  friend Result<Database> open_or_create(const std::filesystem::path& path);
  struct Impl;
  explicit Database(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Opens a database, or creates it with its folder; ":memory:" is allowed.
/// An older version is migrated.
///
/// Errors: input for a file that is no profile database, is truncated or of
///         a newer version; io when it cannot be read, written or created.
Result<Database> open_or_create(const std::filesystem::path& path);

}  // namespace troupe::profiles
