// Troupe's own exchange formats, CSV and JSON: see profiles/FORMAT.md.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "profiles/gather.h"

namespace troupe::profiles {

inline constexpr std::string_view kCsvMark = "# troupe profiles";
inline constexpr std::string_view kJsonFormat = "troupe profiles";
inline constexpr int kFormatVersion = 1;

/// Rows of a CSV text into `gather`; bad rows are refused, not fatal.
///
/// Errors: input for a newer version, or rows before their source or table.
Result<void> read_own_csv(std::string_view text, const std::string& file,
                          const std::string& hash, Gather& gather);

/// The same of {"format": "troupe profiles", "version": 1, "sources": [...]}.
Result<void> read_own_json(const Json& json, const std::string& file,
                           const std::string& hash, Gather& gather);

/// CSV text that `read_own_csv` reads back exactly.
std::string write_own_csv(const std::vector<Section>& sections);
/// The same as JSON.
Json write_own_json(const std::vector<Section>& sections);

/// Fields of one CSV line; quotes as usual. False for an open quote.
bool split_csv(std::string_view line, std::vector<std::string>& cells);

}  // namespace troupe::profiles
