// Hand-overs between stages of unequal degrees: exact, priced, the cheapest.
#include "reshard/hand_over.h"

#include <gmock/gmock.h>

#include "helpers.h"
#include "reshard/verify.h"

namespace troupe::reshard {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

std::vector<DeviceId> devices(int first, int count) {
  std::vector<DeviceId> out;
  for (int i = 0; i < count; ++i) out.push_back(DeviceId{first + i});
  return out;
}

/// Two nodes of eight with one 200 Gbit/s port (25 GB/s) for each GPU.
struct Fabric {
  clusters::Cluster cluster =
      cluster_of("8 x h100-sxm per node, 200 Gbit/s per GPU, 3 nodes");
  Rates rates = rates_of(cluster);
  Routes routes{cluster, rates};
};

const Candidate& named(const Resolution& r, const std::string& name) {
  for (const Candidate& c : r.candidates) {
    if (c.name == name) return c;
  }
  ADD_FAILURE() << name;
  return r.candidates.front();
}

void expect_exact(const Resolution& r) {
  for (const Candidate& c : r.candidates) {
    const auto wrong = wrong_with(c.plan);
    ASSERT_TRUE(wrong) << wrong.error().message;
    EXPECT_THAT(*wrong, IsEmpty()) << c.name << "\n" << to_text(c.plan);
    EXPECT_GE(c.plan.predicted, r.plan().predicted) << c.name;
  }
}

// Four senders and four receivers on another node all hold the same 8192 x
// 4096 rows of bf16, 64 MiB. Batched and leader put 64 MiB on some receiver's
// port: 67.108864 MB / 25 GB/s = 2.68 ms. Scattered, each port carries 16 MiB,
// 0.67 ms, and the all-gather inside the node goes over NVLink.
TEST(HandOver, ScattersBetweenNodesWhatAllReceiversNeed) {
  const Fabric f;
  const GroupRows from{devices(0, 4), 8192, false};
  const GroupRows to{devices(8, 4), 8192, false};
  const auto r =
      hand_over({&from, 1}, {&to, 1}, 4096, kernels::DType::bf16, f.routes);
  ASSERT_TRUE(r) << r.error().message;
  expect_exact(*r);
  EXPECT_EQ(r->candidates[r->chosen].name, "scatter");
  const double port = 67.108864e6 / 25e9;
  EXPECT_NEAR(to_seconds(named(*r, "leader").plan.predicted), port, 0.3 * port);
  EXPECT_GE(to_seconds(named(*r, "leader").plan.predicted), port);
  EXPECT_GE(to_seconds(named(*r, "batched").plan.predicted), port);
  const double scattered = to_seconds(r->plan().predicted);
  EXPECT_GE(scattered, port / 4);
  EXPECT_LT(scattered, port / 2);
  const auto waves = traffic_of(r->plan());
  ASSERT_EQ(waves.size(), 2U);
  ASSERT_EQ(waves[0].messages.size(), 4U);
  for (const auto& m : waves[0].messages) EXPECT_EQ(m.bytes, Bytes{16 << 20});
  ASSERT_EQ(waves[1].gathers.size(), 1U);
  EXPECT_EQ(waves[1].gathers[0].bytes, Bytes{64 << 20});
  EXPECT_FALSE(waves[1].gathers[0].root);
}

TEST(HandOver, LeaderSendsOnceAndBroadcasts) {
  const Fabric f;
  const GroupRows from{devices(0, 2), 64, false};
  const GroupRows to{devices(8, 4), 64, false};
  const auto r =
      hand_over({&from, 1}, {&to, 1}, 32, kernels::DType::bf16, f.routes);
  ASSERT_TRUE(r);
  expect_exact(*r);
  const auto waves = traffic_of(named(*r, "leader").plan);
  ASSERT_EQ(waves.size(), 2U);
  const std::vector<WaveTraffic::Sent> once{
      {DeviceId{0}, DeviceId{8}, Bytes{64 * 32 * 2}}};
  EXPECT_EQ(waves[0].messages, once);
  ASSERT_EQ(waves[1].gathers.size(), 1U);
  EXPECT_EQ(waves[1].gathers[0].root, DeviceId{8});
}

// Sequence parallel on both sides, TP 4 to TP 2: two slices go to each
// receiver and nothing is left to gather.
TEST(HandOver, SlicesGoStraightToWhoNeedsThem) {
  const Fabric f;
  const GroupRows from{devices(0, 4), 4096, true};
  const GroupRows to{devices(4, 2), 4096, true};
  const auto r =
      hand_over({&from, 1}, {&to, 1}, 512, kernels::DType::bf16, f.routes);
  ASSERT_TRUE(r);
  expect_exact(*r);
  EXPECT_EQ(r->candidates[r->chosen].name, "batched");
  EXPECT_EQ(named(*r, "scatter").verdict, "the same messages as batched");
  const auto waves = traffic_of(r->plan());
  ASSERT_EQ(waves.size(), 1U);
  EXPECT_EQ(waves[0].messages.size(), 4U);
}

// Uneven shares of a sequence, unequal TP degrees and rows that nothing
// divides, sliced or whole on either side, on one, two and three nodes.
TEST(HandOver, EveryWayIsExactForRandomStages) {
  const Fabric f;
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    SCOPED_TRACE(seed);
    Dice dice(seed);
    const std::int64_t rows = 1 + dice.below(dice.one_in(4) ? 6 : 400);
    const auto side = [&](int first) {
      const bool sliced = dice.one_in(2);
      std::vector<GroupRows> groups;
      std::int64_t left = rows;
      const int count = 1 + dice.below(3);
      for (int g = 0; g < count; ++g) {
        const int tp = 1 + dice.below(4);
        const std::int64_t own =
            g + 1 == count ? left : dice.below(static_cast<int>(left) + 1);
        groups.push_back({devices(first, tp), own, sliced});
        left -= own;
        first += tp;
      }
      return groups;
    };
    const auto from = side(0);
    // Also stages that share devices, or are the same.
    const auto to = side(dice.one_in(4) ? dice.below(4) : 12);
    const auto r =
        hand_over(from, to, 1 + dice.below(9), kernels::DType::bf16, f.routes);
    ASSERT_TRUE(r) << r.error().message;
    expect_exact(*r);
    if (HasFailure()) return;
  }
}

TEST(HandOver, SaysWhatIsWrongWithItsStages) {
  const Fabric f;
  const GroupRows whole{devices(0, 2), 10, false};
  const GroupRows fewer{devices(2, 2), 9, false};
  const GroupRows nobody{{}, 10, false};
  const GroupRows beyond{devices(23, 2), 10, false};
  const auto message = [&](const GroupRows& a, const GroupRows& b) {
    const auto r =
        hand_over({&a, 1}, {&b, 1}, 4, kernels::DType::bf16, f.routes);
    EXPECT_FALSE(r);
    return r ? std::string() : r.error().message;
  };
  EXPECT_THAT(message(whole, fewer), HasSubstr("10 rows"));
  EXPECT_THAT(message(nobody, whole), HasSubstr("without devices"));
  EXPECT_THAT(message(whole, beyond), HasSubstr("device 24"));
  EXPECT_THAT(message({devices(0, 1), 0, false}, {devices(1, 1), 0, false}),
              HasSubstr("no rows"));
  Annotation sums = activations_of({&whole, 1});
  sums.groups[0].states = {.split = {}, .duplicate = 1, .partial = 2};
  const auto r = hand_over(sums, activations_of({&whole, 1}), {10, 4},
                           kernels::DType::bf16, f.routes);
  ASSERT_FALSE(r);
  EXPECT_THAT(r.error().message, HasSubstr("summands"));
}

}  // namespace
}  // namespace troupe::reshard
