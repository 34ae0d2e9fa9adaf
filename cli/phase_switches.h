// What simulate says of a step that runs several phases: the switches between
// them, priced.
#pragma once

#include <span>

#include "base/json.h"
#include "base/result.h"
#include "strategy/load.h"

namespace troupe::cli {

/// {"switches": [...], "switches_s": sum}; nothing but an empty object for a
/// single phase.
Result<Json> switches_json(const strategy::Plan& plan,
                           std::span<const std::size_t> phases);

/// The same as a table on standard output.
void print_switches(const Json& switches);

}  // namespace troupe::cli
