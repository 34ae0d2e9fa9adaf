#include "profiles/curve.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace troupe::profiles {
namespace {

// 3 and 1 violate the order and pool to their lower median 1; then 1 <= 4.
// 9, 2, 3: 9 and 2 pool to 2, which 3 does not violate.
TEST(Isotonic, PoolsViolatorsToTheirMedian) {
  EXPECT_THAT(isotonic({3, 1, 4}), testing::ElementsAre(1, 1, 4));
  EXPECT_THAT(isotonic({9, 2, 3}), testing::ElementsAre(2, 2, 3));
  EXPECT_THAT(isotonic({3, 2, 1}), testing::ElementsAre(2, 2, 2));
  EXPECT_TRUE(isotonic({}).empty());
}

TEST(Curve, GivesMeasuredPointsAsTheyAre) {
  const Curve curve({{1, 3, 0.1, false}, {2, 1, 0, false}, {4, 5, 0, true}});
  const auto at = curve.at(1);
  ASSERT_TRUE(at);
  EXPECT_TRUE(at->exact);
  EXPECT_EQ(at->time, 3);
  EXPECT_EQ(at->spread, 0.1);
  // Between them the slow first run is repaired: 3 and 1 pool to 1.
  EXPECT_EQ(curve.at(1.5)->time, 1);
  EXPECT_FALSE(curve.at(1.5)->exact);
  EXPECT_EQ(curve.first().time, 1);
  EXPECT_EQ(curve.front().time, 3);
  EXPECT_TRUE(curve.at(4)->derived);
}

// Source 7 is the newer one; it covers 2..8, source 3 covers 1..64.
TEST(SourcedCurve, NeverMixesItsSources) {
  PointsBySource points;
  for (const double x : {2.0, 8.0}) add_point(points, 7, {x, 100 * x});
  for (const double x : {1.0, 4.0, 64.0}) add_point(points, 3, {x, x});
  const SourcedCurve curve(points);
  EXPECT_EQ(curve.at(2)->time, 200);
  EXPECT_TRUE(curve.at(2)->exact);
  EXPECT_EQ(curve.at(3)->time, 300) << "the newest that covers it";
  EXPECT_EQ(curve.at(4)->time, 4) << "measured goes before between";
  EXPECT_TRUE(curve.at(4)->exact);
  EXPECT_EQ(curve.at(16)->time, 16) << "not 800: another source's";
  EXPECT_FALSE(curve.at(65));
  EXPECT_EQ(curve.nearest_end(128)->x, 64);
  EXPECT_EQ(curve.nearest_end(0.5)->x, 1);
  EXPECT_EQ(curve.end_below(128)->x, 64);
  EXPECT_FALSE(curve.end_below(8));
  EXPECT_EQ(curve.end_above(1)->x, 2);
  EXPECT_FALSE(curve.end_above(2));
  EXPECT_FALSE(SourcedCurve().at(1));
  EXPECT_FALSE(SourcedCurve().nearest_end(1));
}

// Half way between (2, 10) and (4, 30) lies 20; by logarithm, half way
// between 2 and 8 is 4, and the time the geometric mean sqrt(10 x 40) = 20.
TEST(Curve, InterpolatesLinearlyOrByLogarithm) {
  const Curve linear({{2, 10, 0, false}, {4, 30, 0, false}});
  EXPECT_DOUBLE_EQ(linear.at(3)->time, 20);
  EXPECT_FALSE(linear.at(3)->exact);
  const Curve logarithmic({{2, 10, 0, false}, {8, 40, 0, false}},
                          Scale::logarithmic);
  EXPECT_DOUBLE_EQ(logarithmic.at(4)->time, 20);
}

TEST(Curve, SaysNothingOutsideOfItsPoints) {
  const Curve curve({{2, 10, 0, false}, {4, 30, 0, false}});
  EXPECT_FALSE(curve.at(1.9));
  EXPECT_FALSE(curve.at(4.1));
  EXPECT_FALSE(Curve().at(1));
}

TEST(Curve, KeepsTheFirstOfEqualSizes) {
  const Curve curve({{2, 10, 0, false}, {2, 99, 0, false}});
  EXPECT_EQ(curve.at(2)->time, 10);
}

Curve random_curve(Scale scale) {
  const auto times = *rc::gen::nonEmpty(
      rc::gen::container<std::vector<int>>(rc::gen::inRange(1, 1000)));
  std::vector<Curve::Point> points;
  double x = 1;
  for (const int t : times) {
    points.push_back({x, t * 1e-6, 0, false});
    x += *rc::gen::inRange(2, 100);
  }
  return Curve(std::move(points), scale);
}

RC_GTEST_PROP(CurveProperty, RisesBetweenItsPointsAndIsNeverNegative, ()) {
  const auto scale = *rc::gen::element(Scale::linear, Scale::logarithmic);
  const Curve curve = random_curve(scale);
  double last = 0;
  // Half sizes are between points: there the noise is repaired.
  for (double x = curve.front().x + 0.5; x < curve.back().x; ++x) {
    const auto found = curve.at(x);
    RC_ASSERT(found);
    RC_ASSERT(std::isfinite(found->time));
    RC_ASSERT(found->time > 0);
    RC_ASSERT(found->time >= last);
    last = found->time;
  }
}

/// The least sum of absolute deviations of any rising sequence: some optimum
/// takes its values from those given.
double least_deviation(const std::vector<double>& values) {
  std::vector<double> levels = values;
  std::sort(levels.begin(), levels.end());
  std::vector<double> best(levels.size(), 0);
  for (const double v : values) {
    double lowest = std::numeric_limits<double>::infinity();
    for (std::size_t i = 0; i < levels.size(); ++i) {
      lowest = std::min(lowest, best[i]);
      best[i] = lowest + std::abs(levels[i] - v);
    }
  }
  return best.empty() ? 0 : *std::min_element(best.begin(), best.end());
}

RC_GTEST_PROP(CurveProperty, RepairIsTheClosestRisingSequence, ()) {
  auto values = *rc::gen::container<std::vector<double>>(
      rc::gen::map(rc::gen::inRange(0, 10000), [](int i) { return i * 0.1; }));
  const auto repaired = isotonic(values);
  RC_ASSERT(repaired.size() == values.size());
  double deviation = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    deviation += std::abs(values[i] - repaired[i]);
    if (i > 0) RC_ASSERT(repaired[i] >= repaired[i - 1]);
  }
  RC_ASSERT(std::abs(deviation - least_deviation(values)) <=
            1e-9 * (1 + deviation));
  RC_ASSERT(isotonic(repaired) == repaired);
}

}  // namespace
}  // namespace troupe::profiles
