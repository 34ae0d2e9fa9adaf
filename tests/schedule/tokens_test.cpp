// Which tokens a member holds, for random shares and lengths.
#include "schedule/tokens.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace troupe::schedule {
namespace {

using Tokens = std::vector<std::int64_t>;

/// Shares of 1 to 6 members, some of them nothing.
std::vector<double> random_shares() {
  const int members = *rc::gen::inRange(1, 7);
  std::vector<double> shares;
  for (int m = 0; m < members; ++m) {
    shares.push_back(*rc::gen::inRange(0, 20));
  }
  const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
  for (double& s : shares) {
    s = sum > 0 ? s / sum : 1.0 / static_cast<double>(members);
  }
  return shares;
}

Tokens tokens_of(const std::vector<TokenRange>& ranges) {
  Tokens out;
  for (const TokenRange& r : ranges) {
    for (std::int64_t i = 0; i < r.count; ++i) out.push_back(r.first + i);
  }
  return out;
}

Tokens first_integers(std::int64_t n) {
  Tokens out(static_cast<std::size_t>(n));
  std::iota(out.begin(), out.end(), std::int64_t{0});
  return out;
}

RC_GTEST_PROP(Tokens, MembersHaveEveryTokenOnce, ()) {
  const auto shares = random_shares();
  const std::int64_t seq_len = *rc::gen::inRange(0, 200);
  Tokens all;
  for (std::size_t m = 0; m < shares.size(); ++m) {
    const auto chunks = member_chunks(shares, m, seq_len);
    RC_ASSERT(chunks.size() == (shares.size() == 1 ? 1U : 2U));
    const Tokens mine = tokens_of(chunks);
    RC_ASSERT(std::ssize(mine) == member_tokens(shares, m, seq_len));
    all.insert(all.end(), mine.begin(), mine.end());
  }
  std::ranges::sort(all);
  RC_ASSERT(all == first_integers(seq_len));
}

RC_GTEST_PROP(Tokens, CountsAreTheSharesRoundedAtTheirEnds, ()) {
  const auto shares = random_shares();
  const std::int64_t seq_len = *rc::gen::inRange(0, 100'000);
  for (std::size_t m = 0; m < shares.size(); ++m) {
    const double exact = shares[m] * static_cast<double>(seq_len);
    const auto tokens = member_tokens(shares, m, seq_len);
    RC_ASSERT(tokens >= 0);
    // Both ends are rounded, each by half a token at most.
    RC_ASSERT(std::abs(static_cast<double>(tokens) - exact) <= 1 + 1e-6);
  }
}

/// The first chunks follow each other from the front, the second ones from
/// the back: a member with an early chunk has a late one too.
RC_GTEST_PROP(Tokens, ChunksComeFromBothEnds, ()) {
  const auto shares = random_shares();
  RC_PRE(shares.size() > 1U);
  const std::int64_t seq_len = *rc::gen::inRange(0, 200);
  std::int64_t front = 0;
  std::int64_t back = seq_len;
  for (std::size_t m = 0; m < shares.size(); ++m) {
    const auto chunks = member_chunks(shares, m, seq_len);
    RC_ASSERT(chunks[0].first == front);
    RC_ASSERT(chunks[1].first + chunks[1].count == back);
    RC_ASSERT(std::abs(chunks[0].count - chunks[1].count) <= 1);
    front += chunks[0].count;
    back = chunks[1].first;
  }
  RC_ASSERT(front == back);
}

RC_GTEST_PROP(Tokens, ShardsHaveEveryRowOnceAndTheLastOnesLess, ()) {
  const std::int64_t rows = *rc::gen::inRange(0, 100);
  const std::int64_t ranks = *rc::gen::inRange(1, 20);
  std::int64_t at = 0;
  std::int64_t before = rows;
  for (std::int64_t r = 0; r < ranks; ++r) {
    const RowRange shard = row_shard(rows, r, ranks);
    RC_ASSERT(shard.first == at);
    RC_ASSERT(shard.count() >= 0);
    RC_ASSERT(shard.count() <= before);
    before = shard.count();
    at = shard.last;
  }
  RC_ASSERT(at == rows);
}

RC_GTEST_PROP(Tokens, RowsAreTheChunksOfOneSequenceAfterTheOther, ()) {
  const auto shares = random_shares();
  const std::int64_t seq_len = *rc::gen::inRange(0, 60);
  const std::int64_t sequences = *rc::gen::inRange(0, 5);
  Tokens all;
  for (std::size_t m = 0; m < shares.size(); ++m) {
    const Tokens one = tokens_of(member_chunks(shares, m, seq_len));
    Tokens want;
    for (std::int64_t s = 0; s < sequences; ++s) {
      for (const std::int64_t t : one) want.push_back(s * seq_len + t);
    }
    const Tokens rows = tokens_of(member_rows(shares, m, seq_len, sequences));
    RC_ASSERT(rows == want);
    all.insert(all.end(), rows.begin(), rows.end());
  }
  std::ranges::sort(all);
  RC_ASSERT(all == first_integers(sequences * seq_len));
}

}  // namespace
}  // namespace troupe::schedule
