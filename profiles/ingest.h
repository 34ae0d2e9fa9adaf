// Getting measurements into a database: our own formats and those of other
// projects, told apart by their content.
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "profiles/database.h"

namespace troupe::profiles {

/// What one ingest did. Rows that say nothing new count as unchanged.
struct IngestReport {
  int inserted = 0;
  int unchanged = 0;
  int rejected = 0;
  std::vector<std::string> rejections;  ///< "file:line: reason", the first 50
  std::string note = {};                ///< of the file as a whole
};

/// What became of one of several files.
struct FileReport {
  std::string file;
  IngestReport report;
  std::optional<Error> error;  ///< nothing of the file is stored then

  /// Unreadable, or nothing of it could be used.
  bool failed() const {
    return error || (report.rejected > 0 && report.inserted == 0 &&
                     report.unchanged == 0);
  }
};

enum class Format : std::uint8_t {
  automatic,
  own_csv,
  own_json,
  scheme_pool,     ///< Hydraulis, HSPMD: strategies with a, b, c
  layer_profiles,  ///< FASOP, AMP
  vidur_compute,
  vidur_network,
  vtrain_allreduce,
  simumax,
  sailor_layers,
  kineto,            ///< PyTorch profiler, also gzipped
  nsys,              ///< SQLite export of Nsight Systems
  nccl_tests,        ///< what all_reduce_perf and its like print
  galvatron,         ///< times of collectives or of layers
  sailor_operators,  ///< by Aceso's profiler
  sailor_collectives,
  sailor_messages,
};
std::string_view name_of(Format format);
std::optional<Format> parse_format(std::string_view name);
/// All that `parse_format` knows.
std::vector<std::string> format_names();

/// What a foreign file does not say itself.
struct IngestOptions {
  Format format = Format::automatic;
  std::string device = {};  ///< a device kind; overrides the file's own
  std::string source = {};  ///< name of the source; else made from the file
  /// Of nccl-tests: all ranks, where the file lists none; those of one node,
  /// where it lists none or its hosts share a name. 0 leaves it to the file.
  int ranks = 0;
  int per_node = 0;
};

/// Reads a file into the database, in one transaction. A source without a
/// date gets that of the file's last change; bytes that are stored already
/// stay with their source.
///
/// Errors: input for a file of no known format or one that cannot be read as
///         a whole; io from the database. Nothing is stored then. Single bad
///         rows are refused with a reason and counted.
Result<IngestReport> ingest(Database& database,
                            const std::filesystem::path& path,
                            const IngestOptions& options = {});

/// Reads several files, each in a transaction of its own; a file that fails
/// does not keep the others from being read.
///
/// Errors: interrupted.
Result<std::vector<FileReport>> ingest_files(
    Database& database, std::span<const std::filesystem::path> paths,
    const IngestOptions& options = {});

/// All shipped measurements (profiles/data), in one transaction.
Result<IngestReport> ingest_shipped(Database& database);

}  // namespace troupe::profiles
