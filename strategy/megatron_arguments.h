// The command line of Megatron-LM as a JSON object.
#pragma once

#include <string>
#include <string_view>

#include "base/json.h"
#include "base/result.h"

namespace troupe::strategy {

/// Reads `--name value`, `--name=value` and flags, as in a shell script:
/// quotes, # comments and a backslash at the end of a line are understood.
/// A name becomes a key without the dashes, "_" as "-"; a flag is true; a
/// whole number is a number. Words before the first argument are passed over.
///
/// Errors: input, for a repeated argument, a shell variable as value, or no
///         argument at all.
[[nodiscard]] Result<Json> parse_arguments(std::string_view text,
                                           std::string_view name);

}  // namespace troupe::strategy
