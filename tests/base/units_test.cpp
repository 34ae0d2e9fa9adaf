// Quantities, and the one place where time is rounded.
#include "base/units.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <limits>

#include "base/id.h"

namespace troupe {
namespace {

using namespace literals;

TEST(Time, RoundsHalfAwayFromZero) {
  EXPECT_EQ(seconds(1.5e-12).v, 2);
  EXPECT_EQ(seconds(-1.5e-12).v, -2);
  EXPECT_EQ(seconds(0.4e-12).v, 0);
  EXPECT_EQ(seconds(2.097152e-3).v, 2097152000);
}

TEST(Time, SaturatesAndNeverIsNaN) {
  EXPECT_EQ(seconds(1e300), kForever);
  EXPECT_EQ(seconds(std::numeric_limits<double>::infinity()), kForever);
  EXPECT_EQ(seconds(std::numeric_limits<double>::quiet_NaN()), kForever);
  EXPECT_EQ(seconds(-1e300).v, std::numeric_limits<std::int64_t>::min());
  EXPECT_EQ(1_MiB / Bandwidth{0.0}, kForever);
}

// 50 MiB over 50 GB/s: 52428800 / 50e9 s.
TEST(Time, IsBytesOverBandwidth) {
  EXPECT_EQ((50_MiB / 50_GBps).v, 1048576000);
}

// A whole-number quantity times a half is half of it, not nothing.
TEST(Quantity, TimesARealNumberRounds) {
  EXPECT_EQ(100_us * 0.5, 50_us);
  EXPECT_EQ(0.5 * (3_KiB), Bytes{1536});
  EXPECT_EQ((Bytes{3} * 0.5).v, 2);
  EXPECT_EQ((Bytes{-3} * 0.5).v, -2);
  EXPECT_EQ(Time{1} * 1e30, kForever);
  EXPECT_EQ(Time{1} * std::numeric_limits<double>::quiet_NaN(), kForever);
  EXPECT_EQ(10_us * 3, 30_us);
  EXPECT_DOUBLE_EQ((Bandwidth{3.0} * 2).v, 6.0);
}

RC_GTEST_PROP(Quantity, SumsAreExact, (std::int32_t a, std::int32_t b)) {
  const Time sum = Time{a} + Time{b};
  RC_ASSERT(sum - Time{b} == Time{a});
  RC_ASSERT(sum.v == std::int64_t{a} + b);
}

TEST(Id, IsInvalidUntilSet) {
  using ThingId = Id<struct ThingTag>;
  EXPECT_FALSE(ThingId{});
  EXPECT_TRUE(make_id<ThingId>(0));
  EXPECT_EQ(make_id<ThingId>(7).at(), 7u);
}

}  // namespace
}  // namespace troupe
