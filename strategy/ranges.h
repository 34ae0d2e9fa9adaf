// Lists of numbers as people write them: "0-7,16". Order is kept, for the
// order of devices is the order of ranks.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace troupe::strategy {

/// Most numbers that one list may name.
inline constexpr int kMostNumbers = 1 << 20;

/// Reads "0-7,16": whole numbers of 0 or more and ascending ranges, both ends
/// included.
///
/// Errors: input, for bad spelling, a falling range or too many numbers.
[[nodiscard]] Result<std::vector<int>> parse_ranges(std::string_view text);

/// The shortest such text: runs of at least two successors become ranges.
std::string format_ranges(std::span<const int> numbers);

}  // namespace troupe::strategy
