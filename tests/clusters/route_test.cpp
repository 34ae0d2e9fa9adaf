// How two devices are connected: the links of every kind of route.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <set>

#include "clusters/collective.h"
#include "clusters/read.h"

namespace troupe::clusters {
namespace {

using testing::ElementsAre;

Cluster cluster_of(const std::string& text) {
  const Result<Json> json = parse_json(text, "c.json");
  EXPECT_TRUE(json) << json.error().message;
  const Result<Cluster> cluster = parse_cluster(*json, "c.json");
  if (!cluster) {
    ADD_FAILURE() << cluster.error().message;
    return {};
  }
  return *cluster;
}

std::vector<std::string> names(const Cluster& c, int from, int to) {
  std::vector<std::string> out;
  for (const LinkId link : c.route(DeviceId{from}, DeviceId{to}).links) {
    out.push_back(c.links[link.at()].name);
  }
  return out;
}

TEST(Route, ToItselfIsEmpty) {
  const Cluster c = cluster_of(R"("8 x h100-sxm")");
  const Route route = c.route(DeviceId{3}, DeviceId{3});
  EXPECT_TRUE(route.links.empty());
  EXPECT_EQ(route.latency, Time{});
}

// H100: 450 GB/s per direction; two ports of 0.3 us.
TEST(Route, InsideAnNvswitchNodeIsTwoPorts) {
  const Cluster c = cluster_of(R"("8 x h100-sxm")");
  EXPECT_THAT(names(c, 0, 7),
              ElementsAre("node0/gpu0/nvlink/out", "node0/gpu7/nvlink/in"));
  const Route route = c.route(DeviceId{0}, DeviceId{7});
  EXPECT_EQ(route.latency, seconds(0.6e-6));
  EXPECT_DOUBLE_EQ(c.links[route.links[0].at()].bandwidth.v, 450e9);
}

// Slot 0.5, card 0.6, network 0.5, card 0.6, slot 0.5: 2.7 us.
TEST(Route, BetweenNodesPassesSlotsAndCards) {
  const Cluster c =
      cluster_of(R"("8 x h100-sxm, 2 nodes, 400 Gbit/s per GPU")");
  EXPECT_THAT(names(c, 1, 10),
              ElementsAre("node0/gpu1/pcie/out", "node0/nic1/out",
                          "node1/nic2/in", "node1/gpu2/pcie/in"));
  const Route route = c.route(DeviceId{1}, DeviceId{10});
  EXPECT_EQ(route.latency, seconds(2.7e-6));
  EXPECT_DOUBLE_EQ(c.links[route.links[1].at()].bandwidth.v, 50e9);
  EXPECT_DOUBLE_EQ(c.links[route.links[0].at()].bandwidth.v, 63e9);
}

TEST(Route, SkipsTheSlotWhenTheCardHasItsOwnPath) {
  const Cluster c = cluster_of(R"({"format": "troupe.cluster/1", "nodes": [
    {"kind": "gh200", "count": 1, "nodes": 2,
     "nic": {"gbit_per_s": 400, "behind_pcie": false, "latency_us": 1}}],
    "network": {"latency_us": 3}})");
  EXPECT_THAT(names(c, 0, 1), ElementsAre("node0/nic0/out", "node1/nic0/in"));
  EXPECT_EQ(c.route(DeviceId{0}, DeviceId{1}).latency, seconds(5e-6));
}

constexpr const char* kPcieNode = R"({"format": "troupe.cluster/1", "nodes": [
  {"kind": "a10", "count": 8, "nodes": 2,
   "intra": {"type": "pcie", "gbytes_per_s": 31.5, "gpus_per_switch": 2,
             "uplink_gbytes_per_s": 15.75, "sockets": 2,
             "socket_gbytes_per_s": 20},
   "nic": {"gbit_per_s": 100, "per": "node"}}]})";

TEST(Route, UnderOnePcieSwitchIsTwoSlots) {
  const Cluster c = cluster_of(kPcieNode);
  EXPECT_THAT(names(c, 0, 1),
              ElementsAre("node0/gpu0/pcie/out", "node0/gpu1/pcie/in"));
}

TEST(Route, BetweenPcieSwitchesCrossesTheirUplinks) {
  const Cluster c = cluster_of(kPcieNode);
  EXPECT_THAT(names(c, 0, 2),
              ElementsAre("node0/gpu0/pcie/out", "node0/switch0/up/out",
                          "node0/switch1/up/in", "node0/gpu2/pcie/in"));
  const Route route = c.route(DeviceId{0}, DeviceId{2});
  EXPECT_DOUBLE_EQ(c.links[route.links[1].at()].bandwidth.v, 15.75e9);
}

TEST(Route, BetweenSocketsCrossesThePathBetweenThem) {
  const Cluster c = cluster_of(kPcieNode);
  EXPECT_THAT(names(c, 1, 7),
              ElementsAre("node0/gpu1/pcie/out", "node0/switch0/up/out",
                          "node0/socket0/out", "node0/switch3/up/in",
                          "node0/gpu7/pcie/in"));
  EXPECT_THAT(names(c, 7, 1),
              ElementsAre("node0/gpu7/pcie/out", "node0/switch3/up/out",
                          "node0/socket0/in", "node0/switch0/up/in",
                          "node0/gpu1/pcie/in"));
}

// One card for eight GPUs behind four switches sits at the root.
TEST(Route, ToASharedCardCrossesTheUplink) {
  const Cluster c = cluster_of(kPcieNode);
  EXPECT_THAT(names(c, 3, 12),
              ElementsAre("node0/gpu3/pcie/out", "node0/switch1/up/out",
                          "node0/nic0/out", "node1/nic0/in",
                          "node1/switch2/up/in", "node1/gpu4/pcie/in"));
  EXPECT_EQ(c.ports[0].nic_out, c.ports[7].nic_out);
}

// Two cards for eight GPUs in switches of four: each card is behind a switch
// and the uplink is not in the way.
TEST(Route, ToACardUnderTheSameSwitchStaysThere) {
  const Cluster c = cluster_of(R"({"format": "troupe.cluster/1", "nodes": [
    {"kind": "a10", "count": 8, "nodes": 2,
     "intra": {"type": "pcie", "gpus_per_switch": 4},
     "nic": {"gbit_per_s": 100, "per": "node", "count": 2}}]})");
  EXPECT_THAT(names(c, 5, 8),
              ElementsAre("node0/gpu5/pcie/out", "node0/nic1/out",
                          "node1/nic0/in", "node1/gpu0/pcie/in"));
}

TEST(Route, WithoutSwitchesStillCrossesSockets) {
  const Cluster c = cluster_of(R"({"format": "troupe.cluster/1", "nodes": [
    {"kind": "a10", "count": 4, "intra": {"type": "pcie", "sockets": 2}}]})");
  EXPECT_THAT(names(c, 1, 2),
              ElementsAre("node0/gpu1/pcie/out", "node0/socket0/out",
                          "node0/gpu2/pcie/in"));
}

TEST(Route, BetweenNvlinkPairsFallsBackToPcie) {
  const Cluster c = cluster_of(R"("4 x a40, nvlink-pairs")");
  EXPECT_THAT(names(c, 2, 3),
              ElementsAre("node0/gpu2/nvlink/out", "node0/gpu3/nvlink/in"));
  EXPECT_THAT(names(c, 1, 2),
              ElementsAre("node0/gpu1/pcie/out", "node0/gpu2/pcie/in"));
}

// A card whose NVLink needs a bridge has none unless the file says so.
TEST(Route, OfABridgeCardIsPcieUnlessBridged) {
  const Cluster c = cluster_of(R"("4 x a100-pcie-80")");
  EXPECT_THAT(names(c, 0, 1),
              ElementsAre("node0/gpu0/pcie/out", "node0/gpu1/pcie/in"));
}

// 4 nodes of one GPU, 2 per leaf, 4:1: a leaf has 2 x 50 / 4 = 25 GB/s up.
TEST(Route, BetweenOversubscribedLeavesCrossesTheSpine) {
  const Cluster c = cluster_of(
      "\"1 x h100-sxm, 4 nodes, 400 Gbit/s per GPU, 2 nodes per leaf, "
      "4:1 oversubscribed\"");
  EXPECT_THAT(
      names(c, 0, 2),
      ElementsAre("node0/gpu0/pcie/out", "node0/nic0/out", "leaf0/up/out",
                  "leaf1/up/in", "node2/nic0/in", "node2/gpu0/pcie/in"));
  EXPECT_EQ(names(c, 0, 1).size(), 4u);
  EXPECT_DOUBLE_EQ(c.links[c.leaves[0].up_out.at()].bandwidth.v, 25e9);
}

// Rails: GPU i of every node of a pod shares leaf i; another rail, or the
// same rail of another pod, is across the spine.
TEST(Route, OnOneRailStaysOnItsLeaf) {
  const Cluster c = cluster_of(
      "\"8 x h100-sxm, 4 nodes, 400 Gbit/s per GPU, rail-optimised, "
      "2 nodes per leaf, 2:1 oversubscribed\"");
  EXPECT_EQ(c.leaves.size(), 16u);
  EXPECT_EQ(names(c, 3, 8 + 3).size(), 4u);
  EXPECT_EQ(names(c, 3, 8 + 4).size(), 6u);
  EXPECT_EQ(names(c, 3, 16 + 3).size(), 6u);
}

TEST(Route, OfAFullNetworkNeverNamesTheSpine) {
  const Cluster c = cluster_of(
      R"("8 x h100-sxm, 4 nodes, 400 Gbit/s per GPU, 2 nodes per leaf")");
  EXPECT_EQ(names(c, 0, 31).size(), 4u);
}

TEST(Route, BetweenUnequalNodesUsesTheLinksOfBoth) {
  const Cluster c = cluster_of(R"({"format": "troupe.cluster/1", "nodes": [
    {"kind": "h100-sxm", "count": 8, "nic": {"gbit_per_s": 400}},
    {"kind": "a10", "count": 4, "nic": {"gbit_per_s": 40, "per": "node"}}]})");
  const Route route = c.route(DeviceId{0}, DeviceId{11});
  ASSERT_EQ(route.links.size(), 4u);
  EXPECT_DOUBLE_EQ(c.links[route.links[1].at()].bandwidth.v, 50e9);
  EXPECT_DOUBLE_EQ(c.links[route.links[2].at()].bandwidth.v, 5e9);
  EXPECT_DOUBLE_EQ(c.links[route.links[3].at()].bandwidth.v, 31.5e9);
}

/// A random group of the cluster format.
Json random_group() {
  const int count = *rc::gen::inRange(1, 9);
  Json group{{"kind", *rc::gen::element("h100-sxm", "a10", "v100")},
             {"count", count},
             {"gpus", *rc::gen::inRange(1, 40)}};
  Json pcie{{"sockets", *rc::gen::inRange(1, 3)}};
  if (*rc::gen::arbitrary<bool>()) {
    pcie["gpus_per_switch"] = *rc::gen::inRange(1, 5);
  }
  if (group["kind"] == "a10" || *rc::gen::arbitrary<bool>()) {
    pcie["type"] = "pcie";
    group["intra"] = pcie;
  } else {
    group["intra"] = {{"type", "nvlink"}, {"group", *rc::gen::inRange(1, 9)}};
    group["pcie"] = pcie;
  }
  group["nic"]["gbit_per_s"] = *rc::gen::inRange(1, 800);
  group["nic"]["behind_pcie"] = *rc::gen::arbitrary<bool>();
  if (*rc::gen::arbitrary<bool>()) {
    group["nic"]["per"] = "node";
    group["nic"]["count"] = *rc::gen::inRange(1, count + 1);
  }
  return group;
}

RC_GTEST_PROP(Route, IsSymmetricAndNeverEmpty, ()) {
  Json json{{"format", "troupe.cluster/1"},
            {"nodes", Json::array({random_group(), random_group()})},
            {"network",
             {{"rail_optimized", *rc::gen::arbitrary<bool>()},
              {"nodes_per_leaf", *rc::gen::inRange(1, 4)},
              {"oversubscription", *rc::gen::inRange(1, 5)}}}};
  const Result<Cluster> parsed = parse_cluster(json, "c.json");
  if (!parsed) RC_FAIL(parsed.error().message);
  const Cluster& c = *parsed;
  const int n = static_cast<int>(c.devices.size());
  const DeviceId a{*rc::gen::inRange(0, n)};
  const DeviceId b{*rc::gen::inRange(0, n)};
  const Route there = c.route(a, b);
  const Route back = c.route(b, a);
  RC_ASSERT(there.links.size() == back.links.size());
  RC_ASSERT(there.links.empty() == (a == b));
  RC_ASSERT(there.links.size() <= LinkList::kMost);
  Time sum;
  std::set<LinkId> used;
  for (const LinkId link : there.links) {
    RC_ASSERT(link.at() < c.links.size());
    sum += c.links[link.at()].latency;
    used.insert(link);
  }
  RC_ASSERT(sum == there.latency);
  // No link is crossed twice, and none in both directions.
  for (const LinkId link : back.links) used.insert(link);
  RC_ASSERT(used.size() == there.links.size() + back.links.size());
}

RC_GTEST_PROP(Describe, IsAShortFormOfTheSameCluster, ()) {
  Json group = random_group();
  const Result<Cluster> first = parse_cluster(
      Json{{"format", "troupe.cluster/1"}, {"nodes", Json::array({group})}},
      "c.json");
  if (!first) RC_FAIL(first.error().message);
  const Result<Cluster> again = read_cluster(describe(*first));
  if (!again) RC_FAIL(again.error().message);
  RC_ASSERT(again->devices.size() == first->devices.size());
  RC_ASSERT(again->nodes.size() == first->nodes.size());
  RC_ASSERT(describe(*again) == describe(*first));
}

TEST(Collectives, AreReadByTheirNames) {
  for (const Collective collective :
       {Collective::all_reduce, Collective::all_gather,
        Collective::reduce_scatter, Collective::all_to_all,
        Collective::broadcast, Collective::send_receive,
        Collective::ring_shift}) {
    EXPECT_EQ(parse_collective(name_of(collective)), collective);
  }
  EXPECT_FALSE(parse_collective("allreduce"));
}

}  // namespace
}  // namespace troupe::clusters
