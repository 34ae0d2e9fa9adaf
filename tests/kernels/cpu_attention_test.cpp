#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <sys/resource.h>

#include "tests/kernels/cpu_attention_problem.h"

namespace troupe::kernels {
namespace {

using testing::AttentionProblem;
using testing::Doubles;
using testing::Draw;
using testing::Guarded;

void expect_naive(const AttentionProblem& p) {
  Guarded<double> out(p.q_tokens() * p.out_ld());
  Guarded<double> lse(p.q_tokens() * p.heads);
  testing::run_or_fail(p.forward(out.data(), lse.data()));
  const auto want = p.naive();
  ASSERT_TRUE(out.intact() && lse.intact());
  // Scores of a few units, sums of up to a few hundred terms: some 1e-14.
  EXPECT_LT(testing::difference(lse.values(), want.lse), 1e-12);
  for (std::size_t i = 0; i < want.out.size(); ++i) {
    if (std::isnan(want.out[i])) {
      ASSERT_TRUE(std::isnan(out.values()[i])) << "gap written at " << i;
    } else {
      ASSERT_NEAR(out.values()[i], want.out[i], 1e-12) << i;
    }
  }
}

AttentionProblem windowed(AttentionProblem p, std::int64_t window) {
  p.window = window;
  return p;
}

std::vector<AttentionProblem> problems() {
  return {
      {{1}, {1}, 1, 1, 1, true},
      {{33}, {33}, 3, 1, 5, true},
      {{65}, {65}, 4, 2, 3, false},
      {{130}, {130}, 2, 2, 8, true, 3},  // three blocks each way
      {{3, 0, 65, 1}, {3, 0, 65, 1}, 4, 2, 6, true, 1},
      {{3, 1, 0, 7}, {70, 5, 4, 9}, 2, 1, 4, true},  // keys from before
      {{5, 3}, {2, 0}, 2, 1, 4, true},               // queries without any key
      {{5, 3}, {2, 0}, 2, 1, 4, false},
      {{70}, {3}, 1, 1, 2, true},  // a whole block without keys
      windowed({{130}, {130}, 2, 1, 4, true}, 1),
      windowed({{130}, {200}, 2, 2, 3, true, 1}, 65),
      windowed({{3, 66}, {70, 66}, 2, 1, 4, true}, 7),
      windowed({{5, 3}, {2, 0}, 2, 1, 4, true}, 2),
      windowed({{9}, {9}, 1, 1, 2, true}, 1000),
  };
}

TEST(CpuAttention, EqualsTheSoftmaxOfAllScores) {
  for (const auto& p : problems()) expect_naive(p);
  AttentionProblem scaled({9}, {9}, 2, 1, 4, true);
  scaled.scale = 0.3;
  expect_naive(scaled);
}

RC_GTEST_PROP(CpuAttention, HoldsForAnyPacking, ()) {
  const auto count = *rc::gen::inRange(0, 5);
  std::vector<int> q, kv;
  for (int i = 0; i < count; ++i) {
    q.push_back(*rc::gen::inRange(0, 70));
    kv.push_back(*rc::gen::inRange(0, 70));
  }
  const std::int64_t kv_heads = *rc::gen::inRange<std::int64_t>(1, 3);
  const std::int64_t group = *rc::gen::inRange<std::int64_t>(1, 3);
  expect_naive(
      {q, kv, kv_heads * group, kv_heads, *rc::gen::inRange<std::int64_t>(1, 9),
       *rc::gen::arbitrary<bool>(), *rc::gen::inRange<std::int64_t>(0, 3)});
  RC_ASSERT(!::testing::Test::HasFailure());
}

struct Gradients {
  Doubles dq, dk, dv;
};

Gradients backward(const AttentionProblem& p, const Doubles& out,
                   const Doubles& lse, const Doubles& d_out) {
  Guarded<double> dq(p.q_tokens() * p.q_ld());
  Guarded<double> dk(p.kv_tokens() * p.kv_ld());
  Guarded<double> dv(p.kv_tokens() * p.kv_ld());
  testing::run_or_fail(AttentionBackward{.dtype = DType::fp64,
                                         .sizes = p.sizes(),
                                         .q = p.q.data(),
                                         .k = p.k.data(),
                                         .v = p.v.data(),
                                         .out = out.data(),
                                         .lse = lse.data(),
                                         .d_out = d_out.data(),
                                         .dq = dq.data(),
                                         .dk = dk.data(),
                                         .dv = dv.data()});
  EXPECT_TRUE(dq.intact() && dk.intact() && dv.intact());
  const auto copy = [&](Guarded<double>& from, std::int64_t ld,
                        std::int64_t row) {
    Doubles all(from.values().begin(), from.values().end());
    for (std::size_t i = 0; i < all.size(); ++i) {
      const bool gap = static_cast<std::int64_t>(i) % ld >= row;
      EXPECT_EQ(std::isnan(all[i]), gap) << i;
      if (gap) all[i] = 0;  // a gap has no gradient
    }
    return all;
  };
  return {copy(dq, p.q_ld(), p.heads * p.dim),
          copy(dk, p.kv_ld(), p.kv_heads * p.dim),
          copy(dv, p.kv_ld(), p.kv_heads * p.dim)};
}

TEST(CpuAttention, GradientsAreThoseOfFiniteDifferences) {
  for (auto& p : problems()) {
    const auto forward = [&] {
      Doubles out(static_cast<std::size_t>(p.q_tokens() * p.out_ld()));
      Doubles lse(static_cast<std::size_t>(p.q_tokens() * p.heads));
      testing::run_or_fail(p.forward(out.data(), lse.data()));
      return AttentionProblem::Answer{out, lse};
    };
    const testing::Loss loss{Draw(5).normal(p.q_tokens() * p.out_ld())};
    const auto value = [&] { return loss.of(forward().out); };
    const auto answer = forward();
    const auto d =
        backward(p, answer.out, answer.lse, loss.gradient(answer.out));
    testing::expect_gradient(p.q, d.dq, value, "dq");
    testing::expect_gradient(p.k, d.dk, value, "dk");
    testing::expect_gradient(p.v, d.dv, value, "dv");
  }
}

// The keys of one long sequence in `parts` pieces, as a ring passes them on;
// the last piece is causal among itself, those before are seen whole.
struct Ring {
  AttentionProblem whole;
  std::vector<AttentionProblem> parts;

  Ring(std::int64_t heads, std::int64_t kv_heads, std::int64_t dim)
      : whole({21}, {21 + 64 + 3}, heads, kv_heads, dim, true) {
    const std::vector<std::pair<int, int>> pieces{{0, 64}, {64, 3}, {67, 21}};
    for (const auto& [from, count] : pieces) {
      AttentionProblem part({21}, {count}, heads, kv_heads, dim, from == 67);
      part.q = whole.q;
      const auto piece = [&](const Doubles& x) {
        const auto begin = x.begin() + from * kv_heads * dim;
        return Doubles(begin, begin + count * kv_heads * dim);
      };
      part.k = piece(whole.k);
      part.v = piece(whole.v);
      parts.push_back(part);
    }
  }
};

TEST(CpuAttention, PartsOfARingMergeToTheWhole) {
  Ring ring(4, 2, 5);
  const auto want = ring.whole.naive();
  Guarded<double> sum(21 * 20), lse(21 * 4);
  bool first = true;
  for (const auto& part : ring.parts) {
    Doubles out(21 * 20), out_lse(21 * 4);
    testing::run_or_fail(part.forward(out.data(), out_lse.data()));
    testing::run_or_fail(AttentionMerge{.dtype = DType::fp64,
                                        .tokens = 21,
                                        .heads = 4,
                                        .head_dim = 5,
                                        .first = first,
                                        .out = out.data(),
                                        .out_lse = out_lse.data(),
                                        .sum = sum.data(),
                                        .lse = lse.data()});
    first = false;
  }
  EXPECT_TRUE(sum.intact() && lse.intact());
  EXPECT_LT(testing::difference(sum.values(), want.out), 1e-13);
  EXPECT_LT(testing::difference(lse.values(), want.lse), 1e-13);
}

TEST(CpuAttention, MergesPartsWithoutKeys) {
  const Doubles out{3, 4}, none{0, 0}, lse{1.5}, empty{-HUGE_VAL};
  Doubles sum{NAN, NAN}, total{NAN};
  const auto merge = [&](bool first, const Doubles& o, const Doubles& l) {
    testing::run_or_fail(AttentionMerge{.dtype = DType::fp64,
                                        .tokens = 1,
                                        .heads = 1,
                                        .head_dim = 2,
                                        .first = first,
                                        .out = o.data(),
                                        .out_lse = l.data(),
                                        .sum = sum.data(),
                                        .lse = total.data()});
  };
  merge(true, none, empty);
  EXPECT_EQ(sum, none);
  EXPECT_EQ(total, empty);
  merge(false, none, empty);
  EXPECT_EQ(sum, none);
  EXPECT_EQ(total, empty);
  merge(false, out, lse);
  EXPECT_EQ(sum, out);
  EXPECT_EQ(total, lse);
  merge(false, none, empty);
  EXPECT_EQ(sum, out);
  EXPECT_EQ(total, lse);
}

TEST(CpuAttention, GradientsOfPartsSumToTheWhole) {
  Ring ring(4, 2, 5);
  const auto answer = ring.whole.naive();
  const Doubles d_out = Draw(6).normal(21 * 20);
  const auto want = backward(ring.whole, answer.out, answer.lse, d_out);
  Doubles dq(want.dq.size()), dk, dv;
  for (const auto& part : ring.parts) {
    const auto d = backward(part, answer.out, answer.lse, d_out);
    for (std::size_t i = 0; i < dq.size(); ++i) dq[i] += d.dq[i];
    dk.insert(dk.end(), d.dk.begin(), d.dk.end());
    dv.insert(dv.end(), d.dv.begin(), d.dv.end());
  }
  EXPECT_LT(testing::difference(dq, want.dq), 1e-13);
  EXPECT_LT(testing::difference(dk, want.dk), 1e-13);
  EXPECT_LT(testing::difference(dv, want.dv), 1e-13);
}

TEST(CpuAttention, LeavesTokensOfNoSequenceAlone) {
  AttentionProblem p({4, 5}, {4, 5}, 2, 1, 3, true);
  p.q_starts = p.kv_starts = {1, 3, 8};  // tokens 0 and 8 belong to none
  auto call = p.forward(nullptr, nullptr);
  call.sizes.q_tokens = call.sizes.kv_tokens = 9;
  Guarded<double> out(9 * 6), lse(9 * 2);
  call.out = out.data();
  call.lse = lse.data();
  testing::run_or_fail(call);
  for (std::size_t token = 0; token < 9; ++token) {
    EXPECT_EQ(std::isnan(out.values()[token * 6]), token % 8 == 0) << token;
    EXPECT_EQ(std::isnan(lse.values()[token * 2]), token % 8 == 0) << token;
  }
}

TEST(CpuAttention, ScoresFarApartDoNotOverflow) {
  AttentionProblem p({65}, {130}, 1, 1, 2, true);
  for (double& x : p.q) x *= 1000;
  for (double& x : p.k) x *= 1000;
  Doubles out(65 * 2), lse(65);
  testing::run_or_fail(p.forward(out.data(), lse.data()));
  const auto d = backward(p, out, lse, Draw(1).normal(65 * 2));
  for (const double x : out) EXPECT_TRUE(std::isfinite(x));
  for (const auto* all : {&d.dq, &d.dk, &d.dv}) {
    for (const double x : *all) EXPECT_TRUE(std::isfinite(x));
  }
}

TEST(CpuAttention, ANaNIsNotHidden) {
  AttentionProblem p({70}, {70}, 1, 1, 2, true);
  p.k[2 * 65] = NAN;  // key 65: queries 65 to 69 see it
  Doubles out(70 * 2), lse(70);
  testing::run_or_fail(p.forward(out.data(), lse.data()));
  for (std::size_t i = 0; i < 70; ++i) {
    EXPECT_EQ(std::isnan(out[2 * i]), i >= 65) << i;
  }
}

// All scores of these 256 queries and 32768 keys would be 32 MiB.
TEST(CpuAttention, LongSequencesNeedLittleMemory) {
  const std::int64_t nq = 256, nk = 32768;
  std::vector<float> q(nq), out(nq), lse(nq), d_out(nq, 1), dq(nq), k(nk),
      v(nk), dk(nk), dv(nk);
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = static_cast<float>(i);
  const std::vector<std::int32_t> q_starts{0, nq}, kv_starts{0, nk};
  const AttentionSizes sizes{.sequences = 1,
                             .q_tokens = nq,
                             .kv_tokens = nk,
                             .max_q = nq,
                             .max_kv = nk,
                             .heads = 1,
                             .kv_heads = 1,
                             .head_dim = 1,
                             .causal = true,
                             .q_starts = q_starts.data(),
                             .kv_starts = kv_starts.data()};
  rusage before{}, after{};
  getrusage(RUSAGE_SELF, &before);
  testing::run_or_fail(AttentionForward{.dtype = DType::fp32,
                                        .sizes = sizes,
                                        .q = q.data(),
                                        .k = k.data(),
                                        .v = v.data(),
                                        .out = out.data(),
                                        .lse = lse.data()});
  testing::run_or_fail(AttentionBackward{.dtype = DType::fp32,
                                         .sizes = sizes,
                                         .q = q.data(),
                                         .k = k.data(),
                                         .v = v.data(),
                                         .out = out.data(),
                                         .lse = lse.data(),
                                         .d_out = d_out.data(),
                                         .dq = dq.data(),
                                         .dk = dk.data(),
                                         .dv = dv.data()});
  getrusage(RUSAGE_SELF, &after);
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 8 << 10);  // KiB
  // Equal scores: a query that sees n keys averages the values 0 to n - 1,
  // which is (n - 1) / 2, and lse is log(n). fp32 sums of 32768 terms in
  // blocks of 64, so of 512 roundings: 512 / 2^24 = 3e-5.
  double share = 0;  // that queries give to the first key
  for (std::size_t j = 0; j < q.size(); ++j) {
    const auto n = static_cast<float>(nk - nq + 1) + static_cast<float>(j);
    share += 1 / static_cast<double>(n);
    ASSERT_NEAR(out[j], (n - 1) / 2, 3e-5F * n) << j;
    ASSERT_NEAR(lse[j], std::log(n), 3e-5F) << j;
  }
  EXPECT_NEAR(dv[0], share, 3e-5 * share);
  EXPECT_NEAR(dv[nk - 1], 1.0 / nk, 3e-5 / nk);
}

}  // namespace
}  // namespace troupe::kernels
