#include <gtest/gtest.h>

#include "kernels/cuda/copy_plan.h"

namespace troupe::kernels::cuda {
namespace {

CopyPlan plan(std::array<std::int64_t, 4> size,
              std::array<std::int64_t, 4> from,
              std::array<std::int64_t, 4> to) {
  return plan_copy(
      CopyBlock{.size = size, .from_stride = from, .to_stride = to});
}

TEST(CopyPlan, AWholeArrayIsOneRow) {
  const auto p = plan({2, 3, 5, 64}, {960, 320, 64, 1}, {960, 320, 64, 1});
  EXPECT_EQ(p.way, CopyWay::rows);
  EXPECT_EQ(p.inner.size, 2 * 3 * 5 * 64);
  EXPECT_EQ(p.outer_size(), 1);
  EXPECT_TRUE(p.aligned_to(8));
}

TEST(CopyPlan, ASliceOfColumnsIsRows) {
  // 40 rows of 128 out of rows of 512, as two dimensions of 20 x 2.
  const auto p = plan({1, 20, 2, 128}, {0, 1024, 512, 1}, {0, 256, 128, 1});
  EXPECT_EQ(p.way, CopyWay::rows);
  EXPECT_EQ(p.inner.size, 128);
  EXPECT_EQ(p.outer_size(), 40);
  EXPECT_EQ(p.outer[1].size, 1);  // the two are joined
  EXPECT_TRUE(p.aligned_to(8));
  // Rows of 516 elements do not start on multiples of 8.
  EXPECT_FALSE(
      plan({1, 1, 40, 128}, {0, 0, 516, 1}, {0, 0, 128, 1}).aligned_to(8));
}

TEST(CopyPlan, HeadsBeforeTokensAreRowsAndAMatrixIsTransposed) {
  const auto heads = plan({2, 5, 3, 64}, {960, 192, 64, 1}, {960, 64, 320, 1});
  EXPECT_EQ(heads.way, CopyWay::rows);
  EXPECT_EQ(heads.inner.size, 64);
  const auto matrix = plan({1, 1, 130, 70}, {0, 0, 70, 1}, {0, 0, 1, 130});
  EXPECT_EQ(matrix.way, CopyWay::transpose);
  EXPECT_EQ(matrix.inner.size, 130);
  EXPECT_EQ(matrix.across.size, 70);
}

TEST(CopyPlan, NoElementIsNoWorkAndOneElementIsOneRow) {
  EXPECT_EQ(plan({1, 0, 3, 4}, {}, {}).way, CopyWay::nothing);
  EXPECT_EQ(plan({1, 1, 1, 1}, {}, {}).way, CopyWay::rows);
}

}  // namespace
}  // namespace troupe::kernels::cuda
