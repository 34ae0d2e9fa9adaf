// The runs that were kept: one SQLite file, written by any number of
// processes, one at a time. Not for use by several threads at once; let each
// open its own Store.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "results/run.h"
#include "results/timeline.h"

namespace troupe::results {

struct StoreOptions {
  /// Make the file and its folder when they are missing; else that is an
  /// error, as it should be for a command that only reads.
  bool create = true;
  int busy_ms = 5000;  ///< how long to wait for another writer
};

/// What a list shows of a run.
struct StoredRun {
  std::string id, created, performance, name, model, cluster, schedule;
  int gpus = 0;
  Time step_time;
  double tokens_per_s = 0;
  double mfu = 0;
  bool out_of_memory = false;
};

/// Empty members select everything.
struct RunFilter {
  std::string text = {};         ///< within name, model or cluster, any case
  std::string performance = {};  ///< "simulated", "emulated", "executed"
  std::string hash = {};         ///< of the schedule or of any input
  int most = 1000;               ///< the newest ones
};

class Store {
 public:
  /// Opens and, when it is older, migrates the store.
  ///
  /// Errors: io, with the path and the way out, when the file is damaged, no
  ///         run store, of a newer version, locked for longer than `busy_ms`,
  ///         or cannot be created or written.
  static Result<Store> open(const std::filesystem::path& path,
                            const StoreOptions& options = {});

  Store(Store&&) noexcept;
  Store& operator=(Store&&) noexcept;
  ~Store();

  /// Keeps a run, with its timeline where there is one; sets its `id` ("r1",
  /// "r2", ... never used twice) and `created`, and notes the working folder.
  /// Returns the id.
  ///
  /// Errors: io, when the disk is full or the store locked; nothing is kept
  ///         then.
  Result<std::string> add(RunResult& run, const Timeline& timeline = {});

  /// Newest first.
  Result<std::vector<StoredRun>> list(const RunFilter& filter = {}) const;

  /// The run called `id`, or the newest one for "last".
  ///
  /// Errors: input, when there is none.
  Result<RunResult> get(const std::string& id) const;

  /// The timeline of a run; nothing when none was kept.
  ///
  /// Errors: input, when there is no such run; io, when it is damaged.
  Result<std::optional<Timeline>> timeline(const std::string& id) const;

  /// The folder in which a run was kept, where relative paths of its command
  /// begin; empty when it is not known.
  ///
  /// Errors: input, when there is no such run.
  Result<std::string> folder(const std::string& id) const;

  /// Errors: input, when there is none.
  Result<void> remove(const std::string& id);

 private:
  struct Connection;
  explicit Store(std::unique_ptr<Connection> connection);
  Result<std::int64_t> number_of(const std::string& id) const;

  std::unique_ptr<Connection> connection_;
};

}  // namespace troupe::results
