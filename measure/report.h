// What a run of the profiler found, as JSON and as a table.
#pragma once

#include <string>

#include "base/json.h"
#include "measure/profile.h"

namespace troupe::measure {

/// One object; times in seconds, rates in FLOP/s and bytes/s.
Json to_json(const ProfileReport& report, const std::string& database);

/// Ceilings, shares of them by operator kind, layers against the sum of
/// their operators, copies.
std::string to_table(const ProfileReport& report, const std::string& database);

}  // namespace troupe::measure
