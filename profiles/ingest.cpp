#include "profiles/ingest.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/file.h"
#include "clusters/kinds.h"
#include "profiles/any_format.h"
#include "profiles/dates.h"

namespace troupe::profiles {
namespace {

Result<std::vector<DeviceName>> devices_of(const Database& database) {
  TRY(std::vector<DeviceName> known, database.devices());
  TRY(const clusters::KindTable shipped, clusters::shipped_kinds());
  for (const std::string& name : shipped.names()) known.push_back({name, ""});
  return known;
}

Result<IngestReport> store(Database& database, const Gather& gather) {
  TRY(const Written written, database.store(gather.sections));
  IngestReport report{.inserted = written.inserted,
                      .unchanged = written.unchanged,
                      .rejected = gather.rejected + written.conflicts,
                      .rejections = gather.first,
                      .note = gather.note};
  for (const std::string& conflict : written.first_conflicts) {
    if (report.rejections.size() >= Gather::kMostShown) break;
    report.rejections.push_back(conflict);
  }
  return report;
}

/// The bytes may be known under another name: their rows then belong to the
/// source that has them.
Result<void> recognise(const Database& database, Gather& gather) {
  TRY(const std::vector<StoredSource> sources, database.sources());
  Source& source = gather.sections.front().source;
  for (const StoredSource& stored : sources) {
    if (stored.source.name == source.name) return {};
  }
  for (const StoredSource& stored : sources) {
    if (stored.source.file_hash.find(gather.file_hash) == std::string::npos) {
      continue;
    }
    gather.note = fmt::format("the same bytes as {}, source '{}'",
                              stored.source.file, stored.source.name);
    source.name = stored.source.name;
    return {};
  }
  return {};
}

/// Fills in what the file does not say of its sources.
Result<void> complete(const Database& database,
                      const std::filesystem::path& path,
                      const IngestOptions& options, Gather& gather) {
  const std::string date = date_of(path);
  for (Section& section : gather.sections) {
    if (section.source.date.empty()) section.source.date = date;
  }
  if (gather.sections.size() != 1) return {};
  if (options.source.empty()) return recognise(database, gather);
  gather.sections.front().source.name = options.source;
  return {};
}

}  // namespace

Result<IngestReport> ingest(Database& database,
                            const std::filesystem::path& path,
                            const IngestOptions& options) {
  TRY(const std::vector<DeviceName> known, devices_of(database));
  Gather gather(known);
  TRY_DO(read_any(path, options, gather));
  TRY_DO(complete(database, path, options, gather));
  return store(database, gather);
}

Result<std::vector<FileReport>> ingest_files(
    Database& database, std::span<const std::filesystem::path> paths,
    const IngestOptions& options) {
  std::vector<FileReport> reports;
  for (const std::filesystem::path& path : paths) {
    FileReport& one = reports.emplace_back();
    one.file = path.string();
    auto report = ingest(database, path, options);
    if (report) {
      one.report = *std::move(report);
      continue;
    }
    one.error = report.error();
    if (one.error->fault == Fault::interrupted) return fail(*one.error);
  }
  return reports;
}

Result<IngestReport> ingest_shipped(Database& database) {
  const std::filesystem::path folder = data_root() / "profiles" / "data";
  std::error_code error;
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (entry.path().extension() == ".csv") files.push_back(entry.path());
  }
  if (error) {
    return fail(Fault::input,
                fmt::format("{}: {}", folder.string(), error.message()));
  }
  std::ranges::sort(files);
  TRY(const std::vector<DeviceName> known, devices_of(database));
  Gather gather(known);
  for (const auto& file : files) TRY_DO(read_any(file, {}, gather));
  return store(database, gather);
}

}  // namespace troupe::profiles
