#include "sim/sharing.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace troupe::sim {
namespace {

TEST(MaxMin, HalvesALinkBetweenTwoFlows) {
  const Share whole{0, 1.0};
  const std::vector<FlowDemand> flows{{{&whole, 1}, 1e9}, {{&whole, 1}, 1e9}};
  const auto x = max_min_fractions(flows, 1);
  EXPECT_NEAR(x[0], 0.5, 1e-12);
  EXPECT_EQ(x[0], x[1]);
}

TEST(MaxMin, GivesWhatASlowFlowLeaves) {
  // A 10 GB/s flow and a 50 GB/s one on a 50 GB/s link: 10 and 40.
  const Share slow{0, 0.2};
  const Share fast{0, 1.0};
  const std::vector<FlowDemand> flows{{{&slow, 1}, 10e9}, {{&fast, 1}, 50e9}};
  const auto x = max_min_fractions(flows, 1);
  EXPECT_NEAR(x[0], 1.0, 1e-9);
  EXPECT_NEAR(x[1], 0.8, 1e-9);
}

// The textbook line: a long flow over both links, one short flow on each,
// links of 1 and 2 units: 0.5, 0.5, 1.5 (Bertsekas and Gallager).
TEST(MaxMin, SolvesTheLineOfTwoLinks) {
  const std::vector<Share> across{{0, 1.0}, {1, 0.5}};
  const Share first{0, 1.0};
  const Share second{1, 1.0};
  const std::vector<FlowDemand> flows{
      {across, 1.0}, {{&first, 1}, 1.0}, {{&second, 1}, 2.0}};
  const auto x = max_min_fractions(flows, 2);
  EXPECT_NEAR(x[0] * 1.0, 0.5, 1e-9);
  EXPECT_NEAR(x[1] * 1.0, 0.5, 1e-9);
  EXPECT_NEAR(x[2] * 2.0, 1.5, 1e-9);
}

// No link carries more than it can, and every flow is at its full speed or
// crosses a full link on which nobody is faster: the definition of max-min.
RC_GTEST_PROP(MaxMin, IsFeasibleAndFair, ()) {
  const int links = *rc::gen::inRange(1, 6);
  const int count = *rc::gen::inRange(1, 10);
  std::vector<std::vector<Share>> shares;
  std::vector<FlowDemand> flows;
  std::vector<double> capacity;
  for (int l = 0; l < links; ++l) {
    capacity.push_back(*rc::gen::inRange(1, 100));
  }
  for (int f = 0; f < count; ++f) {
    auto& own = shares.emplace_back();
    double peak = 1e18;
    for (int l = 0; l < links; ++l) {
      if (*rc::gen::arbitrary<bool>()) {
        own.push_back({l, 0});
        peak = std::min(peak, capacity[static_cast<std::size_t>(l)]);
      }
    }
    if (own.empty()) {
      own.push_back({0, 0});
      peak = capacity[0];
    }
    for (Share& s : own) {
      s.of_capacity = peak / capacity[static_cast<std::size_t>(s.link)];
    }
    flows.push_back({{}, peak});
  }
  for (std::size_t f = 0; f < flows.size(); ++f) flows[f].shares = shares[f];
  const auto x = max_min_fractions(flows, static_cast<std::size_t>(links));
  std::vector<double> use(static_cast<std::size_t>(links), 0.0);
  for (std::size_t f = 0; f < flows.size(); ++f) {
    RC_ASSERT(x[f] > 0 && x[f] <= 1.0);
    for (const Share& s : shares[f]) {
      use[static_cast<std::size_t>(s.link)] += x[f] * s.of_capacity;
    }
  }
  for (const double u : use) RC_ASSERT(u <= 1 + 1e-9);
  for (std::size_t f = 0; f < flows.size(); ++f) {
    bool bound = x[f] > 1 - 1e-9;
    for (const Share& s : shares[f]) {
      if (use[static_cast<std::size_t>(s.link)] < 1 - 1e-9) continue;
      bool fastest = true;
      for (std::size_t g = 0; g < flows.size(); ++g) {
        for (const Share& other : shares[g]) {
          if (other.link == s.link &&
              x[g] * flows[g].peak_rate >
                  x[f] * flows[f].peak_rate * (1 + 1e-9)) {
            fastest = false;
          }
        }
      }
      bound = bound || fastest;
    }
    RC_ASSERT(bound);
  }
}

}  // namespace
}  // namespace troupe::sim
