// How operators divide their scratch memory: functions of the sizes alone, so
// that results do not depend on the machine.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

namespace troupe::kernels {

/// Groups of rows whose column sums are formed first, then added: at least
/// four rows each; 256 groups keep every multiprocessor of a large GPU at
/// work with two blocks.
inline std::int64_t column_sum_groups(std::int64_t rows) {
  return std::clamp<std::int64_t>((rows + 3) / 4, 1, 256);
}
/// Rows of each group but perhaps the last ones.
inline std::int64_t rows_per_group(std::int64_t rows) {
  const std::int64_t groups = column_sum_groups(rows);
  return (rows + groups - 1) / groups;
}

/// Most parts of a sum over a whole array.
inline constexpr std::int64_t kSumParts = 1024;

/// Eight-byte slots in which the tokens of `rows` rows are sorted: a power
/// of two.
inline std::int64_t sort_slots(std::int64_t rows) {
  return static_cast<std::int64_t>(std::bit_ceil(
      static_cast<std::uint64_t>(std::max<std::int64_t>(rows, 2))));
}

}  // namespace troupe::kernels
