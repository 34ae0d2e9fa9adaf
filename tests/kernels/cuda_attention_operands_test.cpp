// What lies between a call and cuDNN's attention, on the CPU.
#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/bf16.h"
#include "kernels/cuda/attention_operands.h"

namespace troupe::kernels::cuda {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

constexpr float kNone = -std::numeric_limits<float>::infinity();

Device device() { return {.multiprocessors = 2, .major = 9}; }

// Sequences of 2 queries and 3 keys, none and 2, 3 and 1, 2 and none. Five
// queries before the first belong to no sequence.
struct Packed {
  std::vector<std::int32_t> q{5, 7, 7, 10, 12}, kv{0, 3, 5, 6, 6};
  AttentionSizes sizes() const {
    return {.sequences = 4,
            .q_tokens = 13,
            .kv_tokens = 6,
            .max_q = 3,
            .max_kv = 3,
            .heads = 2,
            .kv_heads = 1,
            .head_dim = 8,
            .q_ld = 40,
            .q_starts = q.data(),
            .kv_starts = kv.data()};
  }
};

TEST(AttentionOperands, LengthsAndOffsetsEndWithEmptySequences) {
  const Packed packed;
  std::vector<std::int32_t> q(8), kv(8);
  std::vector<std::int64_t> qo(9), kvo(9), oo(9), lo(9);
  ASSERT_TRUE(launch_lengths(packed.sizes(),
                             {.count = 8,
                              .q = q.data(),
                              .kv = kv.data(),
                              .q_offsets = qo.data(),
                              .kv_offsets = kvo.data(),
                              .out_offsets = oo.data(),
                              .lse_offsets = lo.data()},
                             device()));
  EXPECT_THAT(q, ElementsAre(2, 0, 3, 2, 0, 0, 0, 0));
  EXPECT_THAT(kv, ElementsAre(3, 2, 1, 0, 0, 0, 0, 0));
  EXPECT_THAT(qo, ElementsAre(200, 280, 280, 400, 480, 480, 480, 480, 480));
  EXPECT_THAT(kvo, ElementsAre(0, 24, 40, 48, 48, 48, 48, 48, 48));
  EXPECT_THAT(oo, ElementsAre(80, 112, 112, 160, 192, 192, 192, 192, 192));
  EXPECT_THAT(lo, ElementsAre(10, 14, 14, 20, 24, 24, 24, 24, 24));
}

TEST(AttentionOperands, StatisticsAreTurnedAndTurnedBack) {
  const AttentionSizes sizes{
      .sequences = 3, .q_tokens = 15, .max_q = 5, .heads = 7, .head_dim = 8};
  std::vector<float> lse(105), turned(105), back(105);
  std::iota(lse.begin(), lse.end(), 0.0F);
  ASSERT_TRUE(launch_heads_first(sizes, lse.data(), turned.data(), device()));
  // Sequence 1, query 2, head 3.
  EXPECT_EQ(turned[1 * 35 + 3 * 5 + 2], lse[(1 * 5 + 2) * 7 + 3]);
  ASSERT_TRUE(
      launch_queries_first(sizes, turned.data(), back.data(), device()));
  EXPECT_EQ(back, lse);
}

TEST(AttentionOperands, MinusInfinityBecomesZero) {
  const AttentionSizes sizes{.q_tokens = 2, .heads = 2};
  const std::vector<float> lse{1, kNone, -3, kNone};
  std::vector<float> finite(4, 9);
  ASSERT_TRUE(launch_finite(sizes, lse.data(), finite.data(), device()));
  EXPECT_THAT(finite, ElementsAre(1, 0, -3, 0));
}

// Causal: of sequence 2 (3 queries, 1 key) the last query alone sees the key;
// sequence 3 has no key.
TEST(AttentionOperands, QueriesWithoutKeysAreMended) {
  const Packed packed;
  const Bf16 mark(7.0F);
  std::vector<Bf16> out(13 * 16, mark);
  std::vector<float> lse(26, 7);
  ASSERT_TRUE(launch_mend(
      AttentionForward{
          .sizes = packed.sizes(), .out = out.data(), .lse = lse.data()},
      device()));
  for (std::size_t token = 0; token < 13; ++token) {
    const bool blind = token == 7 || token == 8 || token == 10 || token == 11;
    for (std::size_t i = 0; i < 16; ++i) {
      EXPECT_EQ(float(out[token * 16 + i]), blind ? 0.0F : 7.0F) << token;
    }
    EXPECT_EQ(lse[2 * token + 1], blind ? kNone : 7.0F) << token;
  }
}

TEST(AttentionOperands, GradientsOfWhatMeetsNothingAreZero) {
  const Packed packed;
  std::vector<Bf16> dq(13 * 40, Bf16(7.0F)), dk(48, Bf16(7.0F)), dv = dk;
  ASSERT_TRUE(launch_mend(AttentionBackward{.sizes = packed.sizes(),
                                            .dq = dq.data(),
                                            .dk = dk.data(),
                                            .dv = dv.data()},
                          device()));
  for (std::size_t token = 0; token < 13; ++token) {
    const bool blind = token == 7 || token == 8 || token == 10 || token == 11;
    EXPECT_EQ(float(dq[token * 40 + 15]), blind ? 0.0F : 7.0F) << token;
    EXPECT_EQ(float(dq[token * 40 + 16]), 7.0F) << "between rows";
  }
  // Keys 3 and 4 are of the sequence without queries.
  for (std::size_t key = 0; key < 6; ++key) {
    const bool unseen = key == 3 || key == 4;
    EXPECT_EQ(float(dk[key * 8]), unseen ? 0.0F : 7.0F) << key;
    EXPECT_EQ(float(dv[key * 8 + 7]), unseen ? 0.0F : 7.0F) << key;
  }
}

double share(const std::vector<float>& a, const std::vector<float>& b,
             const Packed& packed) {
  std::vector<double> sums(2 * kDifferenceBlocks, 9);
  EXPECT_TRUE(launch_difference({.a = a.data(),
                                 .b = b.data(),
                                 .dtype = DType::fp32,
                                 .starts = packed.q.data(),
                                 .sequences = 4,
                                 .longest = 3,
                                 .columns = 2,
                                 .ld = 3},
                                sums.data(), device()));
  double apart = 0, norm = 0;
  for (std::size_t i = 0; i < sums.size(); i += 2) {
    apart += sums[i];
    norm += sums[i + 1];
  }
  return std::sqrt(apart / norm);
}

// Seven queries of two columns; the third column, and the other tokens, are
// not looked at.
TEST(AttentionOperands, DifferencesAreOfTheRowsOfSequences) {
  const Packed packed;
  std::vector<float> a(39, 1), b(39, 1);
  a[0] = a[3 * 12] = a[3 * 5 + 2] = 50;
  EXPECT_EQ(share(a, b, packed), 0);
  a[3 * 5] = 3;  // 2 apart, of a norm of sqrt(14)
  EXPECT_DOUBLE_EQ(share(a, b, packed), 2 / std::sqrt(14));
  a[3 * 5] = b[3 * 5] = kNone;
  EXPECT_EQ(share(a, b, packed), 0);
  b[3 * 5] = 1;
  EXPECT_FALSE(std::isfinite(share(a, b, packed)));
  a[3 * 5] = std::nanf("");
  EXPECT_TRUE(std::isnan(share(a, b, packed)));
}

}  // namespace
}  // namespace troupe::kernels::cuda
