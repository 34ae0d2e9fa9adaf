// What a database holds: lists for people, and files that `ingest` reads.
#pragma once

#include <string>

#include "base/json.h"
#include "base/result.h"
#include "profiles/database.h"

namespace troupe::profiles {

/// Which rows; an empty text stands for all.
struct Filter {
  std::string source = {};
  std::string device = {};
  std::string table = {};  ///< operators, layers, stages, collectives, copies
};

/// {"database", "sources": [{..., "rows": {table: {device: count}}}]}; with a
/// filter only what passes it.
///
/// Errors: input for a table, source or device the database does not hold.
Result<Json> list_sources(const Database& database, const Filter& filter = {});

/// The rows that pass, by source, in the own JSON format.
///
/// Errors: input for a table, source or device the database does not hold.
Result<Json> show(const Database& database, const Filter& filter);

/// The same as CSV of the own format: ingesting it into an empty database
/// gives the same rows.
Result<std::string> export_csv(const Database& database, const Filter& filter);

}  // namespace troupe::profiles
