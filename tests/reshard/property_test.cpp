// Random pairs of layouts: every plan is carried out exactly.
#include <gmock/gmock.h>

#include <map>

#include "helpers.h"
#include "reshard/verify.h"

namespace troupe::reshard {
namespace {

constexpr int kPairs = 12'500;  // eight shards: 100,000 pairs

class RandomPairs : public testing::TestWithParam<int> {};

/// What was seen of the plans of a shard.
struct Seen {
  int pairs = 0;
  std::map<std::string, int> operations;
  double moved = 0, least = 0;
};

void check_pair(const RandomChange& change, const Routes& routes, Seen& seen) {
  const bool bad =
      !strategy::problems(change.source, change.shape).empty() ||
      !strategy::problems(change.destination, change.shape).empty();
  const auto found = resolve_all(change.source, change.destination,
                                 change.shape, kernels::DType::bf16, routes);
  ASSERT_EQ(found.has_value(), !bad);
  if (!found) return;
  ++seen.pairs;
  for (std::size_t k = 0; k < found->candidates.size(); ++k) {
    // The chosen plan always; the others of every eighth pair.
    if (k != found->chosen && seen.pairs % 8 != 0) continue;
    const Candidate& candidate = found->candidates[k];
    const auto wrong = wrong_with(candidate.plan);
    ASSERT_TRUE(wrong) << wrong.error().message;
    ASSERT_TRUE(wrong->empty())
        << candidate.name << ": " << wrong->front() << "\n"
        << strategy::to_string(change.source) << "\n"
        << strategy::to_string(change.destination) << "\n"
        << to_text(candidate.plan);
    const auto ratio = bytes_ratio(candidate.plan);
    ASSERT_TRUE(ratio) << ratio.error().message;
    ASSERT_GE(ratio->moved, ratio->least) << candidate.name;
    if (k != found->chosen) continue;
    seen.moved += static_cast<double>(ratio->moved);
    seen.least += static_cast<double>(ratio->least);
    for (const Operation operation : operations(candidate.plan)) {
      ++seen.operations[std::string(name_of(operation))];
    }
  }
}

TEST_P(RandomPairs, ResolveToRightPlans) {
  const auto cluster =
      cluster_of("4 x h100-sxm per node, 400 Gbit/s per GPU, 4 nodes");
  const Rates rates = rates_of(cluster);
  const Routes routes(cluster, rates);
  Seen seen;
  for (std::uint64_t i = 0; seen.pairs < kPairs; ++i) {
    ASSERT_LT(i, 2U * kPairs);
    Dice dice(static_cast<std::uint64_t>(GetParam()) * 1'000'003 + i);
    SCOPED_TRACE(i);
    check_pair(random_change(dice, 16), routes, seen);
    if (HasFatalFailure()) return;
  }
  for (const auto& [operation, count] : seen.operations) {
    RecordProperty(operation, count);
  }
  // Every operation occurs, or the pairs would not be what they should be;
  // an all-to-all never wins, it costs what the same messages cost.
  EXPECT_EQ(seen.operations.size(), 11U);
  for (const auto& [operation, count] : seen.operations) {
    EXPECT_GT(count, 10) << operation;
  }
  EXPECT_LT(seen.moved, 1.25 * seen.least);
}

INSTANTIATE_TEST_SUITE_P(Shards, RandomPairs, testing::Range(0, 8));

}  // namespace
}  // namespace troupe::reshard
