#include "schedule/tokens.h"

#include <algorithm>
#include <cmath>

#include "base/units.h"

namespace troupe::schedule {

std::int64_t member_tokens(std::span<const double> shares, std::size_t member,
                           std::int64_t seq_len) {
  double before = 0;
  for (std::size_t m = 0; m < member; ++m) before += shares[m];
  const double after = before + shares[member];
  const auto cut = [&](double share) {
    return std::int64_t{std::llround(share * static_cast<double>(seq_len))};
  };
  const bool last = member + 1 == shares.size();
  return (last ? seq_len : cut(after)) - cut(before);
}

std::vector<TokenRange> member_chunks(std::span<const double> shares,
                                      std::size_t member,
                                      std::int64_t seq_len) {
  if (shares.size() < 2) return {{0, seq_len}};
  std::int64_t front = 0;
  std::int64_t back = seq_len;
  for (std::size_t m = 0;; ++m) {
    const std::int64_t tokens = member_tokens(shares, m, seq_len);
    const std::int64_t half = tokens / 2;
    back -= tokens - half;
    if (m == member) return {{front, half}, {back, tokens - half}};
    front += half;
  }
}

RowRange row_shard(std::int64_t rows, std::int64_t index, std::int64_t ranks) {
  const std::int64_t each = ceil_div(rows, ranks);
  return {std::min(index * each, rows), std::min((index + 1) * each, rows)};
}

std::vector<TokenRange> member_rows(std::span<const double> shares,
                                    std::size_t member, std::int64_t seq_len,
                                    std::int64_t sequences) {
  const std::vector<TokenRange> chunks = member_chunks(shares, member, seq_len);
  std::vector<TokenRange> out;
  for (std::int64_t s = 0; s < sequences; ++s) {
    for (const TokenRange& c : chunks) {
      out.push_back({s * seq_len + c.first, c.count});
    }
  }
  return out;
}

}  // namespace troupe::schedule
