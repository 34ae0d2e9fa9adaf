#include "profiles/ingest.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/file.h"
#include "base/text.h"
#include "clusters/kinds.h"
#include "profiles/any_format.h"
#include "profiles/dates.h"
#include "profiles/trace_samples.h"

namespace troupe::profiles {
namespace {

Result<Gather> gather_for(const Database& database) {
  TRY(const std::vector<DeviceName> known, database.devices());
  TRY(const clusters::KindTable shipped, clusters::shipped_kinds());
  return Gather(known, shipped);
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
    if (!lists(stored.source.file_hash, source.file_hash)) continue;
    gather.note = fmt::format("the same bytes as {}, source '{}'",
                              stored.source.file, stored.source.name);
    source.name = stored.source.name;
    return {};
  }
  return {};
}

Result<IngestReport> finish(Database& database,
                            const std::filesystem::path& path,
                            const IngestOptions& options, Gather& gather) {
  if (gather.trace) {
    gather.trace->samples.into(gather, path.string());
    gather.trace.reset();
  }
  const std::string date = date_of(path);
  for (Section& section : gather.sections) {
    if (section.source.date.empty()) section.source.date = date;
  }
  if (gather.sections.size() == 1) {
    if (options.source.empty()) {
      TRY_DO(recognise(database, gather));
    } else {
      gather.sections.front().source.name = options.source;
    }
  }
  return store(database, gather);
}

/// One of several files, read but not stored.
struct ReadFile {
  std::size_t number = 0;  ///< of the files given
  std::filesystem::path path;
  Gather gather;
};

/// Files of one run, by rank; empty when one of its ranks occurs twice.
bool in_order(std::vector<ReadFile>& files) {
  std::ranges::stable_sort(
      files, {}, [](const ReadFile& f) { return f.gather.trace->rank; });
  return std::ranges::adjacent_find(files, {}, [](const ReadFile& f) {
           return f.gather.trace->rank;
         }) == files.end();
}

/// The files of several ranks as one, kept in the first.
void merge_ranks(std::vector<ReadFile>& files) {
  Gather& whole = files.front().gather;
  Source& source = whole.sections.front().source;
  std::vector<std::string> ranks;
  for (ReadFile& file : files) {
    Gather& gather = file.gather;
    ranks.push_back(std::to_string(gather.trace->rank));
    if (&gather == &whole) continue;
    whole.trace->samples.add(gather.trace->samples);
    whole.rejected += gather.rejected;
    whole.first.insert(whole.first.end(), gather.first.begin(),
                       gather.first.end());
    source.file += "+" + gather.sections.front().source.file;
    source.file_hash += "+" + gather.sections.front().source.file_hash;
  }
  whole.note =
      fmt::format("ranks {} of {} merged", join(ranks), whole.trace->world);
  source.name =
      fmt::format("pytorch profiler: {} and {} more ({})",
                  files.front().path.filename().string(), files.size() - 1,
                  content_hash(source.file_hash).substr(0, 8));
  source.note =
      "medians of kernel times of several ranks; of collectives the shortest "
      "among the ranks, which waits for no other";
}

void put(FileReport& report, Result<IngestReport> done) {
  if (done) {
    report.report = *std::move(done);
  } else {
    report.error = done.error();
  }
}

/// Stores the traces of ranks, those of one run as one.
void store_ranks(Database& database, const IngestOptions& options,
                 std::vector<ReadFile> read, std::vector<FileReport>& reports) {
  std::map<std::string, std::vector<ReadFile>> runs;
  for (ReadFile& file : read) {
    runs[file.gather.trace->run].push_back(std::move(file));
  }
  for (auto& [run, files] : runs) {
    const bool together = files.size() > 1 && in_order(files);
    if (together) merge_ranks(files);
    for (ReadFile& file : files) {
      FileReport& report = reports[file.number];
      if (together && &file != &files.front()) {
        report.report.note =
            fmt::format("merged with {}", files.front().path.string());
        continue;
      }
      put(report, finish(database, file.path, options, file.gather));
      if (!together && files.size() > 1) {
        report.report.note =
            "not merged with the other files: a rank occurs twice";
      }
    }
  }
}

}  // namespace

Result<IngestReport> ingest(Database& database,
                            const std::filesystem::path& path,
                            const IngestOptions& options) {
  TRY(Gather gather, gather_for(database));
  TRY_DO(read_any(path, options, gather));
  return finish(database, path, options, gather);
}

Result<std::vector<FileReport>> ingest_files(
    Database& database, std::span<const std::filesystem::path> paths,
    const IngestOptions& options) {
  std::vector<FileReport> reports(paths.size());
  std::vector<ReadFile> ranks;
  for (std::size_t i = 0; i < paths.size(); ++i) {
    reports[i].file = paths[i].string();
    TRY(Gather gather, gather_for(database));
    if (const auto read = read_any(paths[i], options, gather); !read) {
      reports[i].error = read.error();
    } else if (gather.trace) {
      ranks.push_back({i, paths[i], std::move(gather)});
    } else {
      put(reports[i], finish(database, paths[i], options, gather));
    }
    const auto& error = reports[i].error;
    if (error && error->fault == Fault::interrupted) return fail(*error);
  }
  store_ranks(database, options, std::move(ranks), reports);
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
  TRY(Gather gather, gather_for(database));
  for (const auto& file : files) TRY_DO(read_any(file, {}, gather));
  return store(database, gather);
}

}  // namespace troupe::profiles
