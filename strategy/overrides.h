// Fields of a JSON value set from a command line.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/findings.h"
#include "base/json.h"

namespace troupe::strategy {

/// A path with dots and the text of a value.
using Override = std::pair<std::string, std::string>;

/// Sets "a.b.0.c" in `json`. Missing objects on the way are made, list
/// elements must exist; the value is JSON if it reads as such, else a text.
/// Problems become findings at `where`.
void apply_override(Json& json, const Override& change,
                    const std::string& where, Findings& findings);

}  // namespace troupe::strategy
