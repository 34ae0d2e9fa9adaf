// Which tokens a rank holds, and in which order its rows are: one truth for
// lowering and for every interpreter.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace troupe::schedule {

/// Tokens [first, first + count) of a sequence.
struct TokenRange {
  std::int64_t first = 0, count = 0;
  auto operator<=>(const TokenRange&) const = default;
};

/// Tokens of one sequence that a context-parallel member holds in all:
/// its share, rounded so that the shares' ends are.
std::int64_t member_tokens(std::span<const double> shares, std::size_t member,
                           std::int64_t seq_len);

/// Those tokens, in the order of its rows.
///
/// Model:  one member holds the whole sequence. Several hold two chunks each,
///         one from the front in order of members and one from the back in
///         reverse order, so that a causal ring has work of equal size.
std::vector<TokenRange> member_chunks(std::span<const double> shares,
                                      std::size_t member, std::int64_t seq_len);

/// Rows [first, last) of `rows` that rank `index` of `ranks` holds under
/// sequence parallelism: equal parts, the last ones shorter or empty.
struct RowRange {
  std::int64_t first = 0, last = 0;
  std::int64_t count() const { return last - first; }
};
RowRange row_shard(std::int64_t rows, std::int64_t index, std::int64_t ranks);

/// Rows of a member's micro-batch in the order they are stored, sequence
/// after sequence, chunk after chunk; each range is of the tokens of all
/// sequences one after the other.
std::vector<TokenRange> member_rows(std::span<const double> shares,
                                    std::size_t member, std::int64_t seq_len,
                                    std::int64_t sequences);

}  // namespace troupe::schedule
