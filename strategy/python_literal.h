// Python literals, in which several training scripts keep their strategies.
#pragma once

#include <string_view>

#include "base/json.h"
#include "base/result.h"

namespace troupe::strategy {

/// The value of a Python literal: lists, tuples (as lists), dicts (keys as
/// text), numbers, texts, True, False and None. An assignment such as
/// `NAME = ...`, quotes around the whole, and # comments are passed over.
///
/// Errors: input, with line and column, for anything else, nesting over 64
///         levels, or numbers that overflow.
[[nodiscard]] Result<Json> parse_python(std::string_view text,
                                        std::string_view name);

}  // namespace troupe::strategy
