// Random pairs of layouts: every plan is carried out exactly.
#include <gmock/gmock.h>

#include "helpers.h"
#include "reshard/verify.h"

namespace troupe::reshard {
namespace {

constexpr int kPairs = 12'500;  // eight shards: 100,000 pairs

class RandomPairs : public testing::TestWithParam<int> {};

TEST_P(RandomPairs, ResolveToRightPlans) {
  const auto cluster =
      cluster_of("4 x h100-sxm per node, 400 Gbit/s per GPU, 4 nodes");
  const Rates rates = rates_of(cluster);
  const Routes routes(cluster, rates);
  for (int i = 0; i < kPairs; ++i) {
    Dice dice(static_cast<std::uint64_t>(GetParam()) * 1'000'003 +
              static_cast<std::uint64_t>(i));
    const RandomChange change = random_change(dice, 16);
    const bool bad =
        !strategy::problems(change.source, change.shape).empty() ||
        !strategy::problems(change.destination, change.shape).empty();
    const auto found = resolve_all(change.source, change.destination,
                                   change.shape, kernels::DType::bf16, routes);
    ASSERT_EQ(found.has_value(), !bad);
    if (!found) continue;
    for (std::size_t k = 0; k < found->candidates.size(); ++k) {
      // The chosen plan always; the others of every eighth pair.
      if (k != found->chosen && i % 8 != 0) continue;
      const Candidate& candidate = found->candidates[k];
      const auto wrong = wrong_with(candidate.plan);
      ASSERT_TRUE(wrong) << wrong.error().message;
      ASSERT_TRUE(wrong->empty())
          << "pair " << i << " of shard " << GetParam() << ", "
          << candidate.name << ": " << wrong->front() << "\n"
          << strategy::to_string(change.source) << "\n"
          << strategy::to_string(change.destination) << "\n"
          << to_text(candidate.plan);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shards, RandomPairs, testing::Range(0, 8));

}  // namespace
}  // namespace troupe::reshard
