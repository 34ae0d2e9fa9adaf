#include "measure/sampler.h"

#include <gtest/gtest.h>

#include <cmath>

namespace troupe::measure {
namespace {

using kernels::DType;
using kernels::OpShape;

// One FLOP/ns and one byte/ns, no launch: `least` is easy to work out.
constexpr Ceilings kCeilings{1e9, 1e9, 0};

OpShape product(std::int64_t rows) {
  return kernels::gemm(rows, 512, 512, DType::fp32);
}

std::vector<Wanted> products(std::initializer_list<std::int64_t> rows) {
  std::vector<Wanted> list;
  for (const std::int64_t r : rows) {
    list.push_back({product(r), Product::forward, "p", 1});
  }
  return list;
}

TEST(Ceilings, NoOperatorBeatsThem) {
  // 2 x 64 x 512 x 512 FLOP at 1e9 a second.
  EXPECT_DOUBLE_EQ(kCeilings.least(product(64)), 2.0 * 64 * 512 * 512 / 1e9);
}

TEST(Sampler, BeginsWhereMostIsLearned) {
  Sampler sampler(products({64, 4096, 1024}), kCeilings);
  EXPECT_EQ(sampler.next(0.01), 1);
}

// Measuring costs what the operator takes: the largest tells of itself alone,
// one in the middle also of its neighbours.
TEST(Sampler, CountsWhatMeasuringCosts) {
  Sampler sampler(products({64, 128, 65536}), kCeilings);
  const auto own_time = [](std::size_t, const Guess& g) {
    return std::optional(g.seconds);
  };
  const auto chosen = sampler.next(0.01, own_time);
  ASSERT_TRUE(chosen);
  EXPECT_NE(*chosen, 2);
}

TEST(Sampler, LeavesWhatHasNoPriceForLater) {
  Sampler sampler(products({64, 4096}), kCeilings);
  const auto cheap = [](std::size_t i, const Guess&) {
    return i == 0 ? std::optional(1.0) : std::nullopt;
  };
  EXPECT_EQ(sampler.next(0.01, cheap), 0);
  sampler.add(product(64), kCeilings.least(product(64)));
  EXPECT_FALSE(sampler.next(0.01, cheap));
  EXPECT_EQ(sampler.count(State::open), 1);
  EXPECT_EQ(sampler.next(0.01), 1);
}

TEST(Sampler, InterpolatesTheRatioBetweenNeighbours) {
  Sampler sampler(products({64, 256, 1024}), kCeilings);
  sampler.add(product(64), 2 * kCeilings.least(product(64)));
  sampler.add(product(1024), 4 * kCeilings.least(product(1024)));
  // 256 is the middle of 64 and 1024 by logarithm: a ratio of 3.
  const Guess guess = sampler.guess(product(256));
  EXPECT_NEAR(guess.seconds, 3 * kCeilings.least(product(256)), 1e-12);
  EXPECT_FALSE(guess.measured);
  EXPECT_GT(guess.error, 0.3);
}

TEST(Sampler, MeasuresWhereNeighboursDisagree) {
  // Between 64 and 256 the ratio doubles; between 256 and 1024 it stays. The
  // larger operator has four times the work, but its guess is sure.
  Sampler sampler(products({64, 128, 256, 512, 1024}), kCeilings);
  sampler.add(product(64), 4 * kCeilings.least(product(64)));
  sampler.add(product(256), 2 * kCeilings.least(product(256)));
  sampler.add(product(1024), 2 * kCeilings.least(product(1024)));
  EXPECT_EQ(sampler.next(0.001), 1);
}

TEST(Sampler, StopsWhenAllIsKnownWellEnough) {
  Sampler sampler(products({64, 128, 256}), kCeilings);
  for (const std::int64_t rows : {64, 256}) {
    sampler.add(product(rows), 2 * kCeilings.least(product(rows)));
  }
  EXPECT_FALSE(sampler.next(0.05));
  EXPECT_EQ(sampler.resting(0.05), 1);
  EXPECT_EQ(sampler.count(State::measured), 2);
  EXPECT_LT(sampler.expected_error(), 0.05);
}

TEST(Sampler, ADroppedOperatorIsNotAskedForAgain) {
  Sampler sampler(products({64, 4096}), kCeilings);
  sampler.drop(1, State::too_large);
  EXPECT_EQ(sampler.next(0.01), 0);
  EXPECT_EQ(sampler.count(State::too_large), 1);
  // It is needed all the same, and known as badly as before.
  sampler.add(product(64), kCeilings.least(product(64)));
  EXPECT_GT(sampler.expected_error(), 0.2);
}

// A machine whose times follow a smooth law: with a third of the points
// measured, the others are guessed within the accuracy asked for.
TEST(Sampler, KeepsItsPromiseOnASmoothMachine) {
  std::vector<Wanted> list;
  for (std::int64_t rows = 64; rows <= 65536; rows += rows / 8) {
    list.push_back({product(rows), Product::forward, "p", 1});
  }
  const auto truth = [](const OpShape& op) {
    return kCeilings.least(op) *
           (1.2 + 300.0 / static_cast<double>(op.dim[1] + 100));
  };
  Sampler sampler(list, kCeilings);
  std::size_t measured = 0;
  while (const auto i = sampler.next(0.02)) {
    sampler.add(list[*i].op, truth(list[*i].op));
    ++measured;
  }
  EXPECT_LT(measured, list.size() / 2);
  for (const Wanted& w : list) {
    EXPECT_NEAR(sampler.guess(w.op).seconds / truth(w.op), 1, 0.02)
        << to_string(w.op);
  }
}

}  // namespace
}  // namespace troupe::measure
