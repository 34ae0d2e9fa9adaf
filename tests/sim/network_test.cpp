#include "sim/network.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <array>
#include <cmath>
#include <map>

#include "sim/flows.h"
#include "tests/support/fixtures.h"

namespace troupe::sim {
namespace {

using clusters::Collective;

clusters::Cluster sixteen() {
  return test::cluster_of(
      "8 x h100-sxm per node, 400 Gbit/s per GPU, "
      "2 nodes");
}

std::vector<DeviceId> devices(std::initializer_list<int> list) {
  std::vector<DeviceId> out;
  for (const int d : list) out.push_back(DeviceId{d});
  return out;
}

// Four GPUs on NVSwitch, 450 GB/s per direction: 2 x 3/4 of the bytes leave
// each port.
TEST(Network, PricesARingAllReduceByItsClosedForm) {
  const auto cluster = sixteen();
  const test::FlatCosts costs;
  const Network network(cluster, costs);
  const Network::Group group{devices({0, 1, 2, 3}), Bytes{1'000'000'000}};
  const Activity a = network.collectives(Collective::all_reduce, {&group, 1});
  EXPECT_NEAR(to_seconds(a.work), 1.5 * 1e9 / 450e9, 1e-9);
  const RingCost ring = network.ring(group.devices);
  EXPECT_EQ(collective_time(Collective::all_reduce, ring, group.bytes),
            a.alone());
}

// One rank per node on two nodes: the ring crosses one 50 GB/s card each.
// All eight ranks per node: eight rings, one through each card, so each card
// carries an eighth of 2 x 15/16.
TEST(Network, UsesEveryCardOfTheNodesARingCrosses) {
  const auto cluster = sixteen();
  const test::FlatCosts costs;
  const Network network(cluster, costs);
  const Network::Group two{devices({0, 8}), Bytes{1'000'000'000}};
  EXPECT_NEAR(
      to_seconds(network.collectives(Collective::all_reduce, {&two, 1}).work),
      1e9 / 50e9, 1e-6);
  Network::Group all{{}, Bytes{1'000'000'000}};
  for (int d = 0; d < 16; ++d) all.devices.push_back(DeviceId{d});
  EXPECT_NEAR(
      to_seconds(network.collectives(Collective::all_reduce, {&all, 1}).work),
      2.0 * 15 / 16 / 8 * 1e9 / 50e9, 1e-4);
}

// Over links of equal speed B without latency, n ranks move 2 (n-1)/n of the
// bytes through every link for an all-reduce, half of that for its two halves,
// and all of them for a broadcast.
TEST(Network, MovesWhatTheAlgorithmsOfTheLiteratureMove) {
  const auto cluster = sixteen();
  const test::FlatCosts costs;
  const Network network(cluster, costs);
  for (int n = 2; n <= 8; ++n) {
    Network::Group group{{}, Bytes{840'000'000}};  // divisible by 2 to 8
    for (int d = 0; d < n; ++d) group.devices.push_back(DeviceId{d});
    const auto moved = [&](Collective collective) {
      const Activity a = network.collectives(collective, {&group, 1});
      EXPECT_EQ(a.shares.size(), 2u * static_cast<std::size_t>(n));
      return to_seconds(a.work) * 450e9 / 840e6;  // of the bytes
    };
    const double ring = static_cast<double>(n - 1) / n;
    EXPECT_NEAR(moved(Collective::all_reduce), 2 * ring, 1e-8) << n;
    EXPECT_NEAR(moved(Collective::all_gather), ring, 1e-8) << n;
    EXPECT_NEAR(moved(Collective::reduce_scatter), ring, 1e-8) << n;
    EXPECT_NEAR(moved(Collective::all_to_all), ring, 1e-8) << n;
    EXPECT_NEAR(moved(Collective::broadcast), 1.0, 1e-8) << n;
  }
}

// 2 (n-1) steps of a ring up to n = 4; from there 2 ceil(log2 n) of a tree.
TEST(Network, CountsTheStepsOfTheShorterAlgorithm) {
  const std::array<std::int64_t, 9> expected{0, 0, 2, 4, 4, 6, 6, 6, 6};
  for (int n = 2; n <= 8; ++n) {
    EXPECT_EQ(ring_steps(Collective::all_reduce, n),
              expected[static_cast<std::size_t>(n)]);
    EXPECT_EQ(ring_steps(Collective::all_gather, n), n - 1);
  }
  EXPECT_EQ(ring_steps(Collective::all_reduce, 1024), 20);
}

// Nobody, one rank, no bytes, a message to oneself: no time and no links.
TEST(Network, NothingToMoveTakesNoTime) {
  const auto cluster = sixteen();
  const test::FlatCosts costs;
  const Network network(cluster, costs);
  const Network::Group one{devices({3}), Bytes{1000}};
  for (const Collective c : {Collective::all_reduce, Collective::all_gather,
                             Collective::reduce_scatter, Collective::broadcast,
                             Collective::all_to_all}) {
    EXPECT_EQ(network.collectives(c, {&one, 1}).alone(), Time{});
    EXPECT_EQ(network.collectives(c, {}).alone(), Time{});
    EXPECT_EQ(collective_time(c, network.ring(one.devices), one.bytes), Time{});
  }
  const std::vector<Network::Message> idle{
      {DeviceId{0}, DeviceId{0}, Bytes{1000}},
      {DeviceId{0}, DeviceId{1}, Bytes{0}}};
  const Activity a = network.messages(idle);
  EXPECT_EQ(a.alone(), Time{});
  EXPECT_TRUE(a.shares.empty());
}

TEST(Network, ACollectiveOfNoBytesTakesOnlyItsLatency) {
  const auto cluster = sixteen();
  const test::FlatCosts costs;
  const Network network(cluster, costs);
  const Network::Group empty{devices({0, 1, 8}), Bytes{}};
  const Activity a = network.collectives(Collective::all_reduce, {&empty, 1});
  EXPECT_EQ(a.work, Time{});
  EXPECT_GT(a.latency, Time{});
  EXPECT_TRUE(a.shares.empty());
}

TEST(Network, AHandOverTakesItsSlowestMessage) {
  const auto cluster = sixteen();
  const test::FlatCosts costs;
  const Network network(cluster, costs);
  const std::vector<Network::Message> messages{
      {DeviceId{0}, DeviceId{8}, Bytes{50'000'000}},
      {DeviceId{1}, DeviceId{9}, Bytes{100'000'000}}};
  const Activity a = network.messages(messages);
  EXPECT_NEAR(to_seconds(a.work), 0.1 / 50, 1e-9);
  EXPECT_TRUE(network.messages({}).shares.empty());
}

/// Knows how long two devices of a node take, by what and by a formula.
class MeasuredPairs : public test::FlatCosts {
 public:
  static constexpr double kSent = 1e-5, kCopied = 3e-5;
  bool sends = true;

  std::optional<profiles::Cost> collective_cost(
      Collective collective, int ranks, int per_node, Bytes bytes,
      const clusters::DeviceKind&) const override {
    const bool pair = collective == Collective::send_receive && ranks == 2 &&
                      per_node == 2 && sends;
    if (!pair) return {};
    return profiles::Cost{seconds(kSent + static_cast<double>(bytes.v) / 200e9),
                          0, profiles::Provenance::measured};
  }
  std::optional<profiles::Cost> copy_cost(
      profiles::CopyRoute route, Bytes bytes,
      const clusters::DeviceKind&) const override {
    if (route != profiles::CopyRoute::peer_pcie) return {};
    return profiles::Cost{
        seconds(kCopied + static_cast<double>(bytes.v) / 20e9), 0,
        profiles::Provenance::interpolated};
  }
};

// 10 us and 100 MB at 200 GB/s; side by side two pairs take the longer one.
TEST(Network, TakesMeasuredTimesOfMessagesWithinANode) {
  const auto cluster = sixteen();
  const MeasuredPairs costs;
  const Network network(cluster, costs);
  const std::vector<Network::Message> pairs{
      {DeviceId{0}, DeviceId{1}, Bytes{100'000'000}},
      {DeviceId{2}, DeviceId{3}, Bytes{50'000'000}}};
  const Activity a = network.messages(pairs);
  EXPECT_NEAR(to_seconds(a.alone()), 1e-5 + 0.1 / 200, 1e-12);
  EXPECT_EQ(a.provenance, profiles::Provenance::measured);
  EXPECT_FALSE(a.shares.empty());
}

// Both leave device 0 by its 450 GB/s port: they share it, which no
// measurement of one message tells. Between nodes there is none at all.
TEST(Network, ComputesMessagesThatShareALinkOrCrossNodes) {
  const auto cluster = sixteen();
  const MeasuredPairs costs;
  const Network network(cluster, costs);
  const std::vector<Network::Message> shared{
      {DeviceId{0}, DeviceId{1}, Bytes{45'000'000}},
      {DeviceId{0}, DeviceId{2}, Bytes{45'000'000}}};
  const Activity a = network.messages(shared);
  EXPECT_NEAR(to_seconds(a.work), 0.09 / 450, 1e-9);
  EXPECT_EQ(a.provenance, profiles::Provenance::roofline);
  const Network::Message across{DeviceId{0}, DeviceId{8}, Bytes{50'000'000}};
  EXPECT_EQ(network.messages({&across, 1}).provenance,
            profiles::Provenance::roofline);
}

TEST(Network, TakesTheCopyOfTheRouteWhereNoSendWasMeasured) {
  const auto cluster = test::cluster_of("2 x a100-pcie-80 per node, 1 node");
  MeasuredPairs costs;
  const Network network(cluster, costs);
  const Network::Message m{DeviceId{0}, DeviceId{1}, Bytes{20'000'000}};
  costs.sends = false;
  const Activity copied = network.messages({&m, 1});
  bool nvlink = true;
  for (const auto link : cluster.route(m.from, m.to).links) {
    nvlink = nvlink &&
             cluster.links[link.at()].link_class == clusters::LinkClass::nvlink;
  }
  ASSERT_FALSE(nvlink);
  EXPECT_NEAR(to_seconds(copied.alone()), 3e-5 + 0.02 / 20, 1e-12);
  EXPECT_EQ(copied.provenance, profiles::Provenance::interpolated);
}

// A flow alone for a while, then with a second one on the same link, then
// alone again: 1 s of work each, the second starts at 0.5 s. Both share from
// 0.5 s; the first ends at 1.5 s, the second at 2 s.
TEST(Flows, SlowDownAndSpeedUpAgain) {
  Activity a;
  a.work = seconds(1);
  a.peak_rate = 1e9;
  a.shares = {{0, 1.0}};
  FlowTable table(1);
  std::vector<FlowTable::Expected> changed;
  const auto first = table.start(a, {}, changed);
  ASSERT_EQ(changed.size(), 1u);
  EXPECT_EQ(changed[0].at, seconds(1));
  changed.clear();
  const auto second = table.start(a, seconds(0.5), changed);
  ASSERT_EQ(changed.size(), 2u);
  EXPECT_EQ(changed[0].at, seconds(1.5));
  EXPECT_EQ(changed[1].at, seconds(2.5));
  EXPECT_FALSE(table.current(first, 1));
  changed.clear();
  table.finish(first, seconds(1.5), changed);
  ASSERT_EQ(changed.size(), 1u);
  EXPECT_EQ(changed[0].flow, second);
  EXPECT_EQ(changed[0].at, seconds(2));
}

// Flows on links of their own never hear of each other.
TEST(Flows, LeaveOthersAloneThatTheyDoNotMeet) {
  Activity a;
  a.work = seconds(1);
  a.peak_rate = 1e9;
  a.shares = {{0, 1.0}};
  Activity b = a;
  b.shares = {{1, 1.0}};
  FlowTable table(2);
  std::vector<FlowTable::Expected> changed;
  const auto first = table.start(a, {}, changed);
  changed.clear();
  table.start(b, seconds(0.25), changed);
  ASSERT_EQ(changed.size(), 1u);
  EXPECT_EQ(changed[0].at, seconds(1.25));
  EXPECT_TRUE(table.current(first, 1));
  changed.clear();
  table.finish(first, seconds(1), changed);
  EXPECT_TRUE(changed.empty());
  EXPECT_EQ(table.slowed(), 0);
}

// A collective at half of a card's speed and a message that fills it: max-min
// gives each half, so neither the collective nor its end changes.
TEST(Flows, ASlowFlowKeepsItsRateBesideAFastOne) {
  Activity slow;
  slow.work = seconds(1);
  slow.peak_rate = 0.5e9;
  slow.shares = {{0, 0.5}};
  Activity fast;
  fast.work = seconds(1);
  fast.peak_rate = 1e9;
  fast.shares = {{0, 1.0}};
  FlowTable table(1);
  std::vector<FlowTable::Expected> changed;
  const auto first = table.start(slow, {}, changed);
  changed.clear();
  const auto second = table.start(fast, {}, changed);
  ASSERT_EQ(changed.size(), 1u);
  EXPECT_EQ(changed[0].flow, second);
  EXPECT_EQ(changed[0].at, seconds(2));
  EXPECT_TRUE(table.current(first, 1));
  EXPECT_EQ(table.slowed(), 1);
}

// However flows come and go on one link, it never moves more than it can:
// with n equal flows that start within the first one's time, the last ends
// when all the work is done.
RC_GTEST_PROP(Flows, KeepALinkBusyUntilAllIsMoved, ()) {
  const int count = *rc::gen::inRange(1, 8);
  Activity a;
  a.work = seconds(1);
  a.peak_rate = 1e9;
  a.shares = {{0, 1.0}};
  FlowTable table(1);
  std::vector<FlowTable::Expected> changed;
  std::map<std::int32_t, FlowTable::Expected> next;
  const auto settle = [&] {
    for (const auto& e : changed) next[e.flow] = e;
    changed.clear();
  };
  for (int i = 0; i < count; ++i) {
    table.start(a, seconds(0.1 * i), changed);
    settle();
  }
  Time last;
  while (!next.empty()) {
    auto best = next.begin();
    for (auto it = next.begin(); it != next.end(); ++it) {
      if (it->second.at < best->second.at) best = it;
    }
    last = best->second.at;
    const auto flow = best->first;
    next.erase(best);
    table.finish(flow, last, changed);
    settle();
  }
  RC_ASSERT(std::abs(to_seconds(last) - count) < 1e-6);
}

}  // namespace
}  // namespace troupe::sim
