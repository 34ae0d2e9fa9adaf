#include "emu/waits.h"

#include <gtest/gtest.h>

namespace troupe::emu {
namespace {

TEST(Blame, FallsOnARankThatDoesNotWait) {
  EXPECT_EQ(blame({{0, {1, "0 waits"}}, {1, {4, "1 waits"}}}),
            "rank 4 does not answer; 1 waits");
}

TEST(Blame, FallsOnARankThatWaitsForItself) {
  EXPECT_EQ(blame({{0, {2, "0 waits"}}, {2, {2, "2 waits"}}}),
            "rank 2 hangs; 0 waits");
  EXPECT_EQ(blame({{2, {2, "2 waits"}}}), "rank 2 hangs; 2 waits");
}

/// Rank 0 waits for the circle, which it is no part of.
TEST(Blame, FallsOnAllWhoWaitInACircle) {
  EXPECT_EQ(blame({{0, {1, "a"}}, {1, {2, "b"}}, {2, {1, "c"}}}),
            "all ranks wait for each other; c");
}

TEST(Blame, FallsOnNobodyWhenNobodyIsNamed) {
  EXPECT_EQ(blame({{3, {-1, "3 waits in a sum"}}}), "3 waits in a sum");
}

}  // namespace
}  // namespace troupe::emu
