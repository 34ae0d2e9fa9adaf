#include "strategy/short_form.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <numeric>
#include <set>

#include "strategy/ranges.h"

namespace troupe::strategy {
namespace {

using testing::ElementsAre;

TEST(EvenSplit, GivesTheRemainderToTheMiddle) {
  EXPECT_THAT(even_split(8, 4), ElementsAre(2, 2, 2, 2));
  // Two extra layers: the two middle stages.
  EXPECT_THAT(even_split(10, 4), ElementsAre(2, 3, 3, 2));
  // One extra: the earlier of the two middle stages.
  EXPECT_THAT(even_split(9, 4), ElementsAre(2, 3, 2, 2));
  // Three extra: middle, middle, then the first of the ends.
  EXPECT_THAT(even_split(11, 4), ElementsAre(3, 3, 3, 2));
  EXPECT_THAT(even_split(2, 5), ElementsAre(0, 1, 1, 0, 0));
}

RC_GTEST_PROP(EvenSplit, LosesNothingAndDiffersByAtMostOne, ()) {
  const int layers = *rc::gen::inRange(0, 500);
  const int parts = *rc::gen::inRange(1, 100);
  const std::vector<int> split = even_split(layers, parts);
  RC_ASSERT(static_cast<int>(split.size()) == parts);
  RC_ASSERT(std::accumulate(split.begin(), split.end(), 0) == layers);
  const auto [least, most] = std::minmax_element(split.begin(), split.end());
  RC_ASSERT(*most - *least <= 1);
}

TEST(RankOrder, ReadsAnyOrderOfTheFourAxes) {
  EXPECT_EQ(parse_rank_order("tp-cp-dp-pp"), kMegatronOrder);
  EXPECT_EQ(parse_rank_order("tp-cp-ep-dp-pp"), kMegatronOrder);
  EXPECT_EQ(to_string(*parse_rank_order("pp-tp-dp-cp")), "pp-tp-dp-cp");
  for (const char* wrong :
       {"", "tp", "tp-cp-dp", "tp-tp-dp-pp", "tp-cp-dp-pp-x", "tpcpdppp"}) {
    EXPECT_FALSE(parse_rank_order(wrong)) << wrong;
  }
}

TEST(ShortForm, PlacesRanksInMegatronsOrder) {
  // rank = tp + 2 (cp + 2 (dp + 2 pp)).
  const ShortForm form{.dp = 2, .tp = 2, .pp = 2, .cp = 2};
  const auto pipelines = pipelines_of(form, 4);
  ASSERT_EQ(pipelines.size(), 2u);
  const Stage& stage = pipelines[1].stages[1];
  ASSERT_EQ(stage.members.size(), 2u);
  // dp 1, pp 1: 2 * (cp + 2 * (1 + 2)) = 12 and 14.
  EXPECT_THAT(stage.members[0].devices,
              ElementsAre(DeviceId{12}, DeviceId{13}));
  EXPECT_THAT(stage.members[1].devices,
              ElementsAre(DeviceId{14}, DeviceId{15}));
  EXPECT_EQ(stage.members[1].share, 0.5);
  EXPECT_THAT(stage.chunks, ElementsAre(LayerRange{2, 4}));
}

TEST(ShortForm, InterleavesVirtualStages) {
  const ShortForm form{.pp = 2, .interleave = 2};
  const auto pipelines = pipelines_of(form, 8);
  EXPECT_THAT(pipelines[0].stages[0].chunks,
              ElementsAre(LayerRange{0, 2}, LayerRange{4, 6}));
  EXPECT_THAT(pipelines[0].stages[1].chunks,
              ElementsAre(LayerRange{2, 4}, LayerRange{6, 8}));
}

RC_GTEST_PROP(ShortForm, UsesEveryDeviceOnceInAnyOrder, ()) {
  ShortForm form;
  form.dp = *rc::gen::inRange(1, 5);
  form.tp = *rc::gen::inRange(1, 5);
  form.pp = *rc::gen::inRange(1, 5);
  form.cp = *rc::gen::inRange(1, 4);
  std::vector<Axis> axes{Axis::tp, Axis::cp, Axis::dp, Axis::pp};
  for (int i = 3; i > 0; --i) {
    std::swap(axes[static_cast<std::size_t>(i)],
              axes[static_cast<std::size_t>(*rc::gen::inRange(0, i + 1))]);
  }
  form.order = {axes[0], axes[1], axes[2], axes[3]};
  Phase phase;
  phase.pipelines = pipelines_of(form, 12);
  int ranks = 0;
  for (const Pipeline& p : phase.pipelines) {
    for (const Stage& s : p.stages) ranks += s.device_count();
  }
  const auto used = used_devices(phase);
  RC_ASSERT(ranks == rank_count(form));
  RC_ASSERT(static_cast<int>(used.size()) == ranks);
  RC_ASSERT(used.back().v == ranks - 1);
}

TEST(Ranges, KeepOrderAndJoinRuns) {
  EXPECT_EQ(format_ranges(std::vector<int>{0, 1, 2, 3, 9, 7, 8}), "0-3,9,7-8");
  EXPECT_THAT(*parse_ranges(" 0-3, 9 ,7-8"), ElementsAre(0, 1, 2, 3, 9, 7, 8));
  EXPECT_TRUE(parse_ranges("")->empty());
  for (const char* wrong : {"3-1", "a", "1,", ",1", "1--2", "-1", "0-99999999",
                            "1.5", "99999999999999", "0x3", "1-2-3"}) {
    EXPECT_FALSE(parse_ranges(wrong)) << wrong;
  }
}

RC_GTEST_PROP(Ranges, ReadBackWhatTheyWrite, ()) {
  const auto numbers =
      *rc::gen::container<std::vector<int>>(rc::gen::inRange(0, 40));
  const auto again = parse_ranges(format_ranges(numbers));
  RC_ASSERT(again.has_value());
  RC_ASSERT(*again == numbers);
}

}  // namespace
}  // namespace troupe::strategy
