#include "cli/profile_database.h"

#include <fmt/format.h>

#include <cstdio>
#include <filesystem>

#include "base/file.h"
#include "base/text.h"
#include "profiles/ingest.h"

namespace troupe::cli {
namespace {

std::filesystem::path path_of(const std::string& given) {
  return given.empty() ? home_root() / "profiles.db"
                       : std::filesystem::path(given);
}

Result<profiles::Database> default_profiles() {
  const std::filesystem::path path = path_of("");
  TRY(profiles::Database db, profiles::open_or_create(path));
  TRY(const auto sources, db.sources());
  if (!sources.empty()) return db;
  fmt::print(stderr,
             "making the profile database {} from the shipped measurements\n",
             path.string());
  TRY(const profiles::IngestReport report, profiles::ingest_shipped(db));
  fmt::print(stderr, "{}\n", counted(report.inserted, "row"));
  return db;
}

}  // namespace

Result<profiles::Database> profiles_to_write(const std::string& given) {
  if (given.empty()) return default_profiles();
  const std::filesystem::path path(given);
  std::error_code ignored;
  if (path != ":memory:" && path.has_parent_path() &&
      !std::filesystem::is_directory(path.parent_path(), ignored)) {
    return fail(Fault::io, fmt::format("--profiles {}: there is no folder {}",
                                       given, path.parent_path().string()));
  }
  return profiles::open_or_create(path);
}

Result<profiles::Database> profiles_to_read(const std::string& given) {
  return given.empty() ? default_profiles() : existing_profiles(given);
}

Result<profiles::Database> existing_profiles(const std::string& given) {
  const std::filesystem::path path = path_of(given);
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    return fail(
        Fault::input,
        fmt::format("no profile database {}; make it with: troupe "
                    "ingest --shipped{}{}",
                    path.string(), given.empty() ? "" : " --profiles ", given));
  }
  return profiles::open_or_create(path);
}

}  // namespace troupe::cli
