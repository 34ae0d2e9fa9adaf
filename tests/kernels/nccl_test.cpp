// What is asked of NCCL, with a stand-in for the library whose GPUs are plain
// memory: every operation must mean what nccl.h (ours) says.
#include "kernels/nccl.h"

#include <gmock/gmock.h>

namespace troupe::kernels::nccl {
namespace {

using Values = std::vector<float>;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int kRanks = 3;

std::shared_ptr<const Library> library() {
  auto opened = Library::open(TROUPE_FAKE_NCCL);
  EXPECT_TRUE(opened) << opened.error().message;
  return opened.value_or(nullptr);
}

/// Rank r holds 10 r, 10 r + 1, ... Runs `operation` on `numbers` of fp32 per
/// rank; what every rank then has.
std::vector<Values> outcome(Operation operation, std::size_t numbers,
                            int ranks = kRanks) {
  std::vector<int> ordinals;
  for (int r = 0; r < ranks; ++r) ordinals.push_back(r);
  const auto group = Group::create(library(), ordinals);
  EXPECT_TRUE(group);
  std::vector<Values> in, out;
  std::vector<Rank> at;
  for (int r = 0; r < ranks; ++r) {
    Values& mine = in.emplace_back();
    for (std::size_t i = 0; i < numbers; ++i) {
      mine.push_back(static_cast<float>(10 * r) + static_cast<float>(i));
    }
    out.emplace_back(numbers, -1.0F);
  }
  for (std::size_t r = 0; r < in.size(); ++r) {
    at.push_back({in[r].data(), out[r].data(), nullptr});
  }
  const auto done = group->start(
      operation, {static_cast<std::int64_t>(numbers * sizeof(float))}, at);
  EXPECT_TRUE(done) << done.error().message;
  EXPECT_TRUE(group->healthy());
  return out;
}

TEST(Nccl, SumsOverAllRanks) {
  // 0 + 10 + 20, 1 + 11 + 21, 2 + 12 + 22.
  EXPECT_THAT(
      outcome(Operation::all_reduce, 3),
      ElementsAre(Values{30, 33, 36}, Values{30, 33, 36}, Values{30, 33, 36}));
}

TEST(Nccl, GathersAThirdOfEachRank) {
  EXPECT_THAT(
      outcome(Operation::all_gather, 3),
      ElementsAre(Values{0, 10, 20}, Values{0, 10, 20}, Values{0, 10, 20}));
}

TEST(Nccl, ScattersTheSum) {
  EXPECT_THAT(
      outcome(Operation::reduce_scatter, 3),
      ElementsAre(Values{30, -1, -1}, Values{33, -1, -1}, Values{36, -1, -1}));
}

TEST(Nccl, SendsAThirdToEachRank) {
  EXPECT_THAT(
      outcome(Operation::all_to_all, 3),
      ElementsAre(Values{0, 10, 20}, Values{1, 11, 21}, Values{2, 12, 22}));
}

TEST(Nccl, BroadcastsFromTheFirst) {
  EXPECT_THAT(outcome(Operation::broadcast, 3),
              ElementsAre(Values{0, 1, 2}, Values{0, 1, 2}, Values{0, 1, 2}));
}

TEST(Nccl, ShiftsToTheNext) {
  EXPECT_THAT(
      outcome(Operation::ring_shift, 3),
      ElementsAre(Values{20, 21, 22}, Values{0, 1, 2}, Values{10, 11, 12}));
}

TEST(Nccl, SendsFromTheFirstToTheSecond) {
  EXPECT_THAT(outcome(Operation::send_receive, 2, 2),
              ElementsAre(Values{-1, -1}, Values{0, 1}));
}

TEST(Nccl, RefusesUnevenSharesAndThreeInAMessage) {
  const auto group = Group::create(library(), {0, 1, 2});
  const std::vector<Rank> at(3);
  const auto uneven = group->start(Operation::all_gather, {8}, at);
  ASSERT_FALSE(uneven);
  EXPECT_EQ(uneven.error().fault, Fault::input);
  EXPECT_THAT(uneven.error().message, HasSubstr("8 bytes among 3 ranks"));
  EXPECT_FALSE(group->start(Operation::all_reduce, {-6}, at));
  EXPECT_FALSE(group->start(Operation::send_receive, {6}, at));
}

TEST(Nccl, PassesOnWhatTheLibrarySays) {
  EXPECT_EQ(library()->version(), "2.18.5");
  const auto group = Group::create(library(), {99, 1});
  ASSERT_FALSE(group);
  EXPECT_THAT(group.error().message, HasSubstr("invalid argument"));
}

TEST(Nccl, SaysWhyItCannotBeOpened) {
  const auto absent = Library::open("/nowhere/libnccl.so.2");
  ASSERT_FALSE(absent);
  EXPECT_EQ(absent.error().fault, Fault::unavailable);
  EXPECT_THAT(absent.error().message, HasSubstr("/nowhere/libnccl.so.2"));
  // A library that is there, but another one.
  const auto other = Library::open("libm.so.6");
  ASSERT_FALSE(other);
  EXPECT_THAT(other.error().message, HasSubstr("ncclGetVersion"));
}

}  // namespace
}  // namespace troupe::kernels::nccl
