// Dates of measurements: ISO 8601, which sorts as text.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace troupe::profiles {

/// "2026", "2026-05", "2026-05-03", "2026-05-03T14:30" or with seconds and a
/// Z; days that no month has are none.
bool is_date(std::string_view text);

/// Seconds since 1970 as "2026-05-03T14:30:59Z".
std::string utc(std::int64_t seconds);

/// When a file was last written; empty when that cannot be read.
std::string date_of(const std::filesystem::path& file);

}  // namespace troupe::profiles
