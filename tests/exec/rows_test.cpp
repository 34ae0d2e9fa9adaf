// Attention by chunks in a ring: together exactly the causal pairs within
// documents, for random shares, sequences and documents.
#include "exec/rows.h"

#include <gmock/gmock.h>
#include <rapidcheck/gtest.h>

#include <map>
#include <numeric>

#include "emu/cpu_device.h"

namespace troupe::exec {
namespace {

using Pairs = std::map<std::pair<std::int64_t, std::int64_t>, int>;
using Ranges = std::vector<schedule::TokenRange>;

std::vector<double> random_shares(int least) {
  const int members = *rc::gen::inRange(least, 6);
  std::vector<double> shares;
  for (int m = 0; m < members; ++m) {
    shares.push_back(*rc::gen::inRange(0, 9));
  }
  const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
  for (double& s : shares) s = sum > 0 ? s / sum : 1.0 / members;
  return shares;
}

/// Sequences of documents of random lengths, some with padding at the end.
data::MicroBatch random_sequences(std::int32_t seq_len) {
  data::MicroBatch out(*rc::gen::inRange<std::size_t>(1, 4));
  std::int32_t token = 0;
  for (data::Sequence& s : out) {
    const std::int32_t end = *rc::gen::element(seq_len, seq_len, seq_len / 2);
    std::int32_t at = 0;
    while (at < end) {
      s.starts.push_back(at);
      at = std::min(end, at + *rc::gen::inRange(1, seq_len + 1));
    }
    s.starts.push_back(end);
    for (std::int32_t i = 0; i < seq_len; ++i) {
      // All different, so that a test sees which one it is.
      s.tokens.push_back(++token);
      s.labels.push_back(1000 + token);
      s.positions.push_back(2000 + token);
    }
  }
  return out;
}

/// Which document each token of the micro-batch is of; padding is one too.
std::vector<int> document_numbers(const data::MicroBatch& micro_batch,
                                  std::int32_t seq_len) {
  std::vector<int> out;
  int number = 0;
  for (const data::Sequence& s : micro_batch) {
    for (std::int32_t i = 0; i < seq_len; ++i) {
      if (i == 0 || std::ranges::find(s.starts, i) != s.starts.end()) ++number;
      out.push_back(number);
    }
  }
  return out;
}

std::vector<std::int64_t> tokens_of(const Ranges& rows) {
  std::vector<std::int64_t> out;
  for (const schedule::TokenRange& r : rows) {
    for (std::int64_t i = 0; i < r.count; ++i) out.push_back(r.first + i);
  }
  return out;
}

/// Counts the pairs of (query, key) tokens of a call, by the definition of
/// kernels/call.h.
void count_pairs(const ChunkAttention& call,
                 const std::vector<std::int64_t>& q_tokens,
                 const std::vector<std::int64_t>& kv_tokens, Pairs& pairs) {
  const auto& q = call.q_starts;
  const auto& kv = call.kv_starts;
  RC_ASSERT(q.size() == kv.size());
  RC_ASSERT(q.front() == 0);
  RC_ASSERT(kv.front() == 0);
  RC_ASSERT(q.back() == std::ssize(q_tokens));
  RC_ASSERT(kv.back() == std::ssize(kv_tokens));
  for (std::size_t s = 0; s + 1 < q.size(); ++s) {
    const std::int64_t nq = q[s + 1] - q[s];
    const std::int64_t nk = kv[s + 1] - kv[s];
    RC_ASSERT(nq >= 0);
    RC_ASSERT(nk >= 0);
    RC_ASSERT(nq <= call.longest_q);
    RC_ASSERT(nk <= call.longest_kv);
    for (std::int64_t j = 0; j < nq; ++j) {
      for (std::int64_t t = 0; t < nk; ++t) {
        if (call.causal && t > j + nk - nq) continue;
        const auto row = static_cast<std::size_t>(q[s] + j);
        const auto key = static_cast<std::size_t>(kv[s] + t);
        ++pairs[{q_tokens[row], kv_tokens[key]}];
      }
    }
  }
}

RC_GTEST_PROP(ChunkAttention, IsEveryCausalPairOfADocumentOnce, ()) {
  const auto shares = random_shares(2);
  const std::int32_t seq_len = *rc::gen::inRange(1, 33);
  const data::MicroBatch micro_batch = random_sequences(seq_len);
  const Documents documents = documents_of(micro_batch, seq_len);
  const auto number = document_numbers(micro_batch, seq_len);

  Pairs pairs;
  for (std::size_t q = 0; q < shares.size(); ++q) {
    for (std::size_t kv = 0; kv < shares.size(); ++kv) {
      const auto rows_of = [&](std::size_t member) {
        return schedule::member_rows(shares, member, seq_len,
                                     std::ssize(micro_batch));
      };
      const Ranges mine = rows_of(q);
      const Ranges theirs = rows_of(kv);
      for (const ChunkAttention& call :
           chunk_attention(mine, theirs, documents)) {
        count_pairs(call, tokens_of(mine), tokens_of(theirs), pairs);
      }
    }
  }
  Pairs want;
  for (std::size_t i = 0; i < number.size(); ++i) {
    for (std::size_t k = 0; k <= i; ++k) {
      if (number[i] == number[k]) {
        want[{static_cast<std::int64_t>(i), static_cast<std::int64_t>(k)}] = 1;
      }
    }
  }
  RC_ASSERT(pairs == want);
}

/// A document that ends within a ring's chunk is no business of the others.
TEST(ChunkAttention, LeavesOutChunksWithoutPairs) {
  // Two members of 8 tokens: [0, 2) and [6, 8); [2, 4) and [4, 6). Documents
  // [0, 4) and [4, 8).
  const std::vector<double> shares{0.5, 0.5};
  const Documents documents{0, 4, 8};
  const Ranges first = schedule::member_rows(shares, 0, 8, 1);
  const Ranges second = schedule::member_rows(shares, 1, 8, 1);
  // Its own chunks, each alone: the second does not see the first.
  EXPECT_EQ(chunk_attention(first, first, documents).size(), 2U);
  // [6, 8) sees [4, 6); [0, 2) sees nothing of the second member.
  EXPECT_EQ(chunk_attention(first, second, documents).size(), 1U);
  // [2, 4) sees [0, 2); [4, 6) sees nothing of the first member.
  EXPECT_EQ(chunk_attention(second, first, documents).size(), 1U);
  EXPECT_FALSE(chunk_attention(second, first, documents)[0].causal);
}

TEST(Documents, AreStartsOfAllSequencesAndTheEnd) {
  data::MicroBatch two(2);
  two[0].starts = {0, 3, 8};  // full
  two[1].starts = {0, 5};     // three tokens of padding
  EXPECT_THAT(documents_of(two, 8), testing::ElementsAre(0, 3, 8, 13, 16));
}

std::vector<std::int32_t> downloaded(Device& device, const Buffer& buffer) {
  std::vector<std::int32_t> out(static_cast<std::size_t>(buffer.size().v / 4));
  const auto done =
      device.copy_out(std::as_writable_bytes(std::span(out)), buffer.data());
  RC_ASSERT(done.has_value());
  return out;
}

RC_GTEST_PROP(Rows, AreTheTokensOfTheMemberAndItsShard, ()) {
  schedule::Stage stage;
  stage.shares = random_shares(1);
  const auto tp = *rc::gen::inRange<std::size_t>(1, 5);
  stage.members.assign(stage.shares.size(), std::vector<schedule::RankId>(tp));
  const std::int32_t seq_len = *rc::gen::inRange(1, 33);
  const data::MicroBatch micro_batch = random_sequences(seq_len);
  const bool sharded = *rc::gen::arbitrary<bool>();
  emu::CpuDevice device;

  std::vector<int> seen(micro_batch.size() * static_cast<std::size_t>(seq_len));
  for (std::size_t m = 0; m < stage.members.size(); ++m) {
    std::int64_t next = 0;
    for (std::size_t t = 0; t < tp; ++t) {
      const auto made =
          make_rows(stage, m, t, sharded, seq_len, micro_batch, device);
      RC_ASSERT(made.has_value());
      const auto ids = downloaded(device, made->ids);
      const auto labels = downloaded(device, made->labels);
      const auto positions = downloaded(device, made->positions);
      RC_ASSERT(std::ssize(ids) == made->tokens);
      RC_ASSERT(made->tokens == made->member_tokens[m]);
      for (std::size_t i = 0; i < ids.size(); ++i) {
        if (t == 0) ++seen[static_cast<std::size_t>(ids[i] - 1)];
        RC_ASSERT(labels[i] == 1000 + ids[i]);
        RC_ASSERT(positions[i] == 2000 + ids[i]);
      }
      // Shards follow each other; without them each rank has all rows.
      RC_ASSERT(made->first == (sharded ? next : 0));
      RC_ASSERT(made->count <= made->shard);
      next = made->first + made->count;
      std::vector<std::int32_t> own(positions.begin() + made->first,
                                    positions.begin() + next);
      own.resize(static_cast<std::size_t>(made->shard), 0);
      RC_ASSERT(downloaded(device, made->shard_positions) == own);
      if (!sharded) RC_ASSERT(made->count == made->tokens);
    }
    RC_ASSERT(next == schedule::member_tokens(stage.shares, m, seq_len) *
                          std::ssize(micro_batch));
  }
  RC_ASSERT(seen == std::vector<int>(seen.size(), 1));
}

}  // namespace
}  // namespace troupe::exec
