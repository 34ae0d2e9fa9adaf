// The recorded pairs of annotations and what they must become.
#include "reshard/cases.h"

#include <gmock/gmock.h>

#include "helpers.h"
#include "reshard/verify.h"

namespace troupe::reshard {
namespace {

using testing::IsEmpty;

class RecordedCases : public testing::TestWithParam<const char*> {};

TEST_P(RecordedCases, BecomeTheExpectedOperations) {
  const auto path = seeds() / "hspmd" / "comm_resolution_cases.json";
  if (!std::filesystem::exists(path)) {
    GTEST_SKIP() << "no recorded cases at " << path;
  }
  const auto cluster = cluster_of(GetParam());
  for (const Shape& shape : {Shape{12, 4}, Shape{4096, 11008}, Shape{7, 5},
                             Shape{6656, 1}, Shape{144, 48, 3}}) {
    const auto cases = read_cases(path, shape.size());
    ASSERT_TRUE(cases) << cases.error().message;
    for (const Case& c : *cases) {
      const auto plan = resolve(c.source, c.destination, shape,
                                kernels::DType::bf16, cluster);
      ASSERT_TRUE(plan) << c.name << ": " << plan.error().message;
      const auto wrong = wrong_with(*plan);
      ASSERT_TRUE(wrong) << wrong.error().message;
      EXPECT_THAT(*wrong, IsEmpty()) << c.name;
      // 7 rows leave some of 12 parts empty: other groups are right then.
      if (shape[0] == 7) continue;
      EXPECT_THAT(differences(c, *plan), IsEmpty()) << c.name << "\n"
                                                    << to_text(*plan);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Clusters, RecordedCases,
    testing::Values(
        "8 x h100-sxm per node, 400 Gbit/s per GPU, 8 nodes",
        "8 x a100-sxm-80 per node, 4 x 200 Gbit/s per node, 8 nodes",
        "4 x a10 per node, 1 x 25 Gbit/s per node, 16 nodes",
        "64 x h100-sxm per node, 1 nodes"));

}  // namespace
}  // namespace troupe::reshard
