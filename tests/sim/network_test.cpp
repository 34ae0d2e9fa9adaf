#include "sim/network.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

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
