// What the hub's collectives and messages do, and how every rank ends when
// one of them fails, wants something else, or never comes.
#include "emu/hub.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <mutex>

namespace troupe::emu {
namespace {

using exec::Communicator;
using testing::Each;
using testing::HasSubstr;

template <typename T>
std::span<std::byte> bytes(std::vector<T>& v) {
  return std::as_writable_bytes(std::span(v));
}

std::vector<RankId> ranks(int n) {
  std::vector<RankId> out;
  for (int r = 0; r < n; ++r) out.push_back(RankId{r});
  return out;
}

/// What a run came to, and what each call that failed said on its rank.
struct Outcome {
  Result<void> result;
  std::vector<std::string> said;
};

using Work = std::function<Result<void>(Communicator&)>;

Outcome run(int n, const Work& work, int threads = 2) {
  Outcome out;
  std::mutex mutex;
  Hub hub(n, {.threads = threads});
  out.result = hub.run([&](Communicator& c) -> Result<void> {
    const Result<void> result = work(c);
    if (!result) {
      const std::scoped_lock lock(mutex);
      out.said.push_back(result.error().message);
    }
    return result;
  });
  return out;
}

TEST(Hub, GathersPartsOfUnequalSizes) {
  const auto group = ranks(40);
  const Outcome out = run(40, [&](Communicator& c) -> Result<void> {
    const auto self = c.rank().at();
    std::vector<int> mine(self % 3, static_cast<int>(self));
    std::vector<Bytes> sizes;
    std::vector<int> want;
    for (std::size_t r = 0; r < 40; ++r) {
      sizes.push_back(Bytes{static_cast<std::int64_t>(4 * (r % 3))});
      want.insert(want.end(), r % 3, static_cast<int>(r));
    }
    std::vector<int> all(want.size());
    Time time{c.rank().v * 10};
    TRY_DO(c.all_gather(group, bytes(mine), sizes, bytes(all), time));
    EXPECT_EQ(all, want);
    EXPECT_EQ(time.v, 390);  // the last one's
    return {};
  });
  EXPECT_TRUE(out.result.has_value()) << out.result.error().message;
}

TEST(Hub, SumsInSubgroupsThatDoNotKnowOfEachOther) {
  const Outcome out = run(36, [&](Communicator& c) -> Result<void> {
    // Ranks with the same remainder by 3, from the highest to the lowest.
    std::vector<RankId> group;
    double want = 0;
    for (int r = 35; r >= 0; --r) {
      if (r % 3 != c.rank().v % 3) continue;
      group.push_back(RankId{r});
      want += r;
    }
    for (int round = 1; round < 4; ++round) {
      std::vector<double> data(5, static_cast<double>(round * c.rank().v));
      Time time;
      TRY_DO(c.all_reduce(group, kernels::DType::fp64, bytes(data), time));
      EXPECT_THAT(data, Each(round * want));
    }
    return {};
  });
  EXPECT_TRUE(out.result.has_value()) << out.result.error().message;
}

TEST(Hub, MessagesOfOneNameArriveInOrderAndNamesDoNotMix) {
  const Outcome out = run(2, [&](Communicator& c) -> Result<void> {
    std::vector<int> data(1);
    Time time;
    if (c.rank().v == 0) {
      for (int i = 0; i < 4; ++i) {
        data[0] = i;  // may change once it is sent
        TRY_DO(c.send(RankId{1}, static_cast<exec::Tag>(i % 2), bytes(data),
                      Time{100 + i}));
      }
      data[0] = -1;
      return {};
    }
    for (const int want : {1, 0, 3, 2}) {
      TRY_DO(c.receive(RankId{0}, static_cast<exec::Tag>(want % 2), bytes(data),
                       time));
      EXPECT_EQ(data[0], want);
      EXPECT_EQ(time.v, 100 + want);
    }
    return {};
  });
  EXPECT_TRUE(out.result.has_value()) << out.result.error().message;
}

/// Rank 5 fails while the others wait for it in every way there is.
TEST(Hub, AFailureEndsEveryRankWithItsMessage) {
  for (const int threads : {1, 2}) {
    const auto group = ranks(33);
    const auto work = [&](Communicator& c) -> Result<void> {
      if (c.rank().v == 5) return fail(Fault::infeasible, "out of memory");
      std::vector<double> data(3);
      Time time;
      if (c.rank().v == 7) {
        return c.receive(RankId{5}, 1, bytes(data), time);
      }
      if (c.rank().v % 2 == 0) {
        return c.all_reduce(group, kernels::DType::fp64, bytes(data), time);
      }
      return c.meet(group, time);
    };
    const Outcome out = run(33, work, threads);
    ASSERT_FALSE(out.result.has_value());
    EXPECT_EQ(out.result.error().fault, Fault::infeasible);
    EXPECT_EQ(out.result.error().message, "rank 5: out of memory");
    EXPECT_EQ(out.said.size(), 33U);
    for (const std::string& said : out.said) {
      EXPECT_TRUE(said == "out of memory" || said == "rank 5: out of memory")
          << said;
    }
  }
}

TEST(Hub, AFailureEndsARankAtItsNextMessage) {
  const Outcome out = run(2, [&](Communicator& c) -> Result<void> {
    if (c.rank().v == 0) return fail(Fault::io, "gone");
    std::vector<int> data(1);
    Time time;
    // The first wait ends with the failure, and so does every later call.
    EXPECT_FALSE(c.receive(RankId{0}, 1, bytes(data), time).has_value());
    return c.send(RankId{0}, 1, bytes(data), time);
  });
  ASSERT_FALSE(out.result.has_value());
  EXPECT_EQ(out.result.error().message, "rank 0: gone");
  EXPECT_EQ(out.said.size(), 2U);
}

TEST(Hub, AMessageOfAnotherSizeEndsTheRun) {
  const Outcome out = run(3, [&](Communicator& c) -> Result<void> {
    std::vector<std::byte> data(c.rank().v == 0 ? 8 : 4);
    Time time;
    if (c.rank().v == 0) return c.send(RankId{1}, 9, data, time);
    return c.receive(RankId{0}, 9, data, time);  // rank 2 waits for nothing
  });
  ASSERT_FALSE(out.result.has_value());
  const std::string want = "rank 0 sent 8 bytes to rank 1, which expects 4";
  EXPECT_EQ(out.result.error().fault, Fault::unavailable);
  EXPECT_EQ(out.result.error().message, want);
  EXPECT_THAT(out.said, testing::ElementsAre(want, want));
}

/// Each member of a group of three does `work`; what all then say.
std::string disagreement(const Work& work) {
  const Outcome out = run(3, work);
  EXPECT_FALSE(out.result.has_value());
  if (out.result) return {};
  EXPECT_EQ(out.result.error().fault, Fault::unavailable);
  EXPECT_EQ(out.said.size(), 3U);
  EXPECT_THAT(out.said, Each(out.result.error().message));
  return out.result.error().message;
}

TEST(Hub, CollectivesOfUnequalSizesEndTheRun) {
  const auto group = ranks(3);
  const auto said = disagreement([&](Communicator& c) -> Result<void> {
    std::vector<double> data(c.rank().v == 2 ? 5 : 4);
    Time time;
    return c.all_reduce(group, kernels::DType::fp64, bytes(data), time);
  });
  EXPECT_EQ(said,
            "rank 0 wants an all-reduce of 32 bytes where rank 2 wants an "
            "all-reduce of 40 bytes");
}

TEST(Hub, CollectivesOfUnequalKindsOrTypesEndTheRun) {
  const auto group = ranks(3);
  const auto kinds = disagreement([&](Communicator& c) -> Result<void> {
    std::vector<double> data(4);
    Time time;
    if (c.rank().v != 1) {
      return c.all_reduce(group, kernels::DType::fp64, bytes(data), time);
    }
    return c.meet(group, time);
  });
  EXPECT_THAT(kinds, HasSubstr("meeting"));
  const auto types = disagreement([&](Communicator& c) -> Result<void> {
    std::vector<double> data(4);
    Time time;
    return c.all_reduce(
        group, c.rank().v == 1 ? kernels::DType::fp32 : kernels::DType::fp64,
        bytes(data), time);
  });
  EXPECT_THAT(types, HasSubstr("rank 1 wants"));
}

/// A part that is longer or shorter than the others expect.
TEST(Hub, APartOfAnotherSizeEndsTheRun) {
  const auto group = ranks(3);
  for (const std::size_t part : {1U, 3U}) {
    const auto said = disagreement([&](Communicator& c) -> Result<void> {
      std::vector<double> mine(c.rank().v == 1 ? part : 2);
      std::vector<double> all(6);
      const std::vector<Bytes> sizes(3, Bytes{16});
      Time time;
      return c.all_gather(group, bytes(mine), sizes, bytes(all), time);
    });
    EXPECT_EQ(said, fmt::format("rank 1 brings {} bytes to an all-gather where "
                                "16 are expected",
                                8 * part));
  }
}

TEST(Hub, PartsThatDoNotMakeTheWholeEndTheRun) {
  const auto group = ranks(3);
  const auto said = disagreement([&](Communicator& c) -> Result<void> {
    std::vector<double> mine(2);
    std::vector<double> all(5);
    const std::vector<Bytes> sizes(3, Bytes{16});
    Time time;
    return c.all_gather(group, bytes(mine), sizes, bytes(all), time);
  });
  EXPECT_EQ(said, "the parts of an all-gather of 40 bytes are 48 bytes in all");
}

TEST(Hub, ADeadlockEndsEveryRankAndSaysWhoWaits) {
  for (const int threads : {1, 2}) {
    const auto work = [](Communicator& c) -> Result<void> {
      std::vector<int> data(1);
      Time time;
      const int next = (c.rank().v + 1) % 34;
      TRY_DO(c.receive(RankId{next}, 1, bytes(data), time));
      return c.send(RankId{next}, 1, bytes(data), time);
    };
    const Outcome out = run(34, work, threads);
    ASSERT_FALSE(out.result.has_value());
    EXPECT_EQ(out.result.error().fault, Fault::unavailable);
    EXPECT_THAT(out.result.error().message,
                testing::MatchesRegex("all ranks wait for each other; rank "
                                      "[0-9]+ waits for a message of rank "
                                      "[0-9]+"));
    EXPECT_EQ(out.said.size(), 34U);
    EXPECT_THAT(out.said, Each(out.result.error().message));
  }
}

/// Rank 1 is done before the others know that they need it.
TEST(Hub, ARankThatLeavesACollectiveOutEndsTheOthers) {
  const auto group = ranks(3);
  const Outcome out = run(3, [&](Communicator& c) -> Result<void> {
    if (c.rank().v == 1) return {};
    Time time;
    return c.meet(group, time);
  });
  ASSERT_FALSE(out.result.has_value());
  EXPECT_THAT(out.result.error().message,
              HasSubstr("waits in a collective of 3 ranks for 1"));
  EXPECT_EQ(out.said.size(), 2U);
}

/// Nothing is left of a run's failure in the next hub.
TEST(Hub, ManyRunsFollowEachOther) {
  for (int i = 0; i < 20; ++i) {
    const bool fails = i % 2 == 0;
    const Outcome out = run(8, [&](Communicator& c) -> Result<void> {
      if (fails && c.rank().v == i % 8) return fail(Fault::io, "gone");
      std::vector<double> one{1};
      Time time;
      TRY_DO(c.all_reduce(ranks(8), kernels::DType::fp64, bytes(one), time));
      EXPECT_EQ(one[0], 8);
      return {};
    });
    EXPECT_EQ(out.result.has_value(), !fails);
  }
}

}  // namespace
}  // namespace troupe::emu
