// Timelines: kept without loss, compared event by event.
#include "results/timeline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "results/store.h"
#include "tests/results/sample.h"
#include "tests/support/dice.h"

namespace troupe::results {
namespace {

using ::testing::HasSubstr;

Timeline random_timeline(int events) {
  troupe::test::Dice dice(7);
  Timeline out;
  const char* const names[] = {"qkv", "forward", "\xff odd", ""};
  for (int i = 0; i < events; ++i) {
    const Time start{std::int64_t{dice.below(1 << 30)} << 20};
    out.events.push_back(
        {{dice.below(3), dice.below(9) - 2, i, -dice.below(4), dice.below(70)},
         dice.below(5) - 1,
         names[dice.below(4)],
         start,
         start + Time{dice.below(1 << 30)},
         dice.below(5)});
  }
  return out;
}

TEST(Timeline, IsUnpackedAsItWasPacked) {
  for (const int events : {0, 1, 1000}) {
    Timeline before = random_timeline(events);
    before.cut = events == 1;
    const auto after = unpacked(packed(before));
    ASSERT_TRUE(after.has_value());
    EXPECT_EQ(*after, before);
  }
}

TEST(Timeline, DamageIsReported) {
  const std::string good = packed(random_timeline(50));
  EXPECT_FALSE(unpacked("").has_value());
  EXPECT_FALSE(unpacked("no timeline at all").has_value());
  for (std::size_t at = 0; at < good.size(); ++at) {
    EXPECT_FALSE(unpacked(good.substr(0, at)).has_value()) << at;
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x55);
    // A damaged checksum or stream; never a crash.
    EXPECT_FALSE(unpacked(bad).has_value()) << at;
  }
}

// Two operators, one of which takes 2 ns longer and so starts the next later;
// one is in each run only.
TEST(Timeline, ComparesEventByEvent) {
  const auto event = [](int task, const char* name, int start, int end) {
    return Event{
        {0, 3, task, 1, 0}, 0, name, Time{start * 1000}, Time{end * 1000}};
  };
  const Timeline a{{event(1, "qkv", 0, 10), event(2, "norm", 10, 14),
                    event(3, "mlp", 14, 15)}};
  const Timeline b{{event(1, "qkv", 0, 12), event(2, "norm", 12, 16),
                    event(4, "mlp", 16, 17)}};
  const Json out = compare(a, b);
  EXPECT_EQ(out["events"],
            (Json{{"both", 2}, {"equal", 0}, {"only_a", 1}, {"only_b", 1}}));
  EXPECT_EQ(out["first"]["name"], "qkv");
  EXPECT_EQ(out["first"]["device"], 3);
  ASSERT_EQ(out["longest"].size(), 1u);
  EXPECT_DOUBLE_EQ(out["longest"][0]["duration_s"]["difference"], 2e-9);
  ASSERT_EQ(out["operators"].size(), 2u);
  EXPECT_EQ(out["operators"][0]["name"], "qkv");
  EXPECT_DOUBLE_EQ(out["operators"][0]["ratio"], 1.2);
  EXPECT_EQ(out["operators"][1]["unequal"], 0);
  EXPECT_THAT(timeline_text(out), HasSubstr("first difference: qkv"));
  const Json same = compare(a, a);
  EXPECT_EQ(same["events"]["equal"], 3);
  EXPECT_TRUE(same["first"].is_null());
  EXPECT_THAT(timeline_text(same), HasSubstr("3 equal to the picosecond"));
}

TEST(Timeline, IsKeptAndForgottenWithItsRun) {
  const TemporaryFolder folder;
  Store store = *Store::open(folder.file("runs.db"));
  RunResult run = sample_run({.pipelines = 1, .stages = 1, .micro_batches = 1});
  const Timeline timeline = random_timeline(100);
  ASSERT_TRUE(store.add(run, timeline).has_value());
  EXPECT_EQ(store.timeline("r1").value(), timeline);
  ASSERT_TRUE(store.add(run).has_value());
  EXPECT_FALSE(store.timeline("r2").value().has_value());
  ASSERT_TRUE(store.remove("r1").has_value());
  EXPECT_FALSE(store.timeline("r1").value().has_value());
}

}  // namespace
}  // namespace troupe::results
