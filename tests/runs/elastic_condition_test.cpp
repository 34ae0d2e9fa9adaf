#include "runs/elastic_condition.h"

#include <gmock/gmock.h>

#include "clusters/read.h"
#include "elastic_helpers.h"

namespace troupe::runs {
namespace {

clusters::Cluster cluster_of(const char* text) {
  auto cluster = clusters::read_cluster(text);
  EXPECT_TRUE(cluster);
  return cluster ? *std::move(cluster) : clusters::Cluster{};
}

LinkId link_called(const clusters::Cluster& cluster, const std::string& name) {
  for (std::size_t l = 0; l < cluster.links.size(); ++l) {
    if (cluster.links[l].name == name) return make_id<LinkId>(l);
  }
  ADD_FAILURE() << "no link " << name;
  return {};
}

bool crosses(const clusters::Route& route, LinkId link) {
  return std::ranges::find(route.links, link) != route.links.end();
}

TEST(Condition, OfAHealthyClusterChangesNothing) {
  const auto cluster = cluster_of(kCluster);
  const auto same = in_condition(cluster, Condition::of(cluster, {}));
  EXPECT_EQ(same.kinds, cluster.kinds);
  for (int a = 0; a < kDevices; ++a) {
    for (int b = 0; b < kDevices; ++b) {
      EXPECT_EQ(same.route(DeviceId{a}, DeviceId{b}).links,
                cluster.route(DeviceId{a}, DeviceId{b}).links);
    }
  }
  EXPECT_EQ(usable(cluster, Condition::of(cluster, {})).size(), 16U);
}

TEST(Condition, GivesASlowDeviceAKindOfItsOwnWithEqualPeaks) {
  const auto cluster = cluster_of(kCluster);
  Condition condition = Condition::of(cluster, {});
  condition.device_slower[3] = condition.device_slower[9] = 2.5;
  const auto slow = in_condition(cluster, condition);
  EXPECT_EQ(slow.kinds.size(), 2U);
  EXPECT_EQ(slow.kind_of(DeviceId{3}).name, "h100-sxm 2.5x slower");
  EXPECT_EQ(slow.kind_of(DeviceId{3}).peak, cluster.kinds[0].peak);
  EXPECT_EQ(slow.devices[3].kind, slow.devices[9].kind);
  EXPECT_EQ(slow.devices[4].kind, cluster.devices[4].kind);
}

TEST(Condition, SlowsALink) {
  const auto cluster = cluster_of(kCluster);
  Condition condition = Condition::of(cluster, {});
  const LinkId nic = link_called(cluster, "node0/nic1/out");
  condition.link_slower[nic.at()] = 4;
  const auto slow = in_condition(cluster, condition);
  EXPECT_DOUBLE_EQ(slow.links[nic.at()].bandwidth.v,
                   cluster.links[nic.at()].bandwidth.v / 4);
}

// Without its NVLink port device 1 reaches its neighbours over PCIe; the
// others keep theirs.
TEST(Condition, GoesThroughPcieWithoutNvlink) {
  const auto cluster = cluster_of(kCluster);
  Condition condition = Condition::of(cluster, {});
  const LinkId port = link_called(cluster, "node0/gpu1/nvlink/out");
  condition.link_lost[port.at()] = true;
  const auto lame = in_condition(cluster, condition);
  const auto route = lame.route(DeviceId{1}, DeviceId{2});
  EXPECT_TRUE(crosses(route, cluster.ports[1].pcie_out));
  EXPECT_FALSE(crosses(route, port));
  EXPECT_EQ(lame.route(DeviceId{2}, DeviceId{3}).links,
            cluster.route(DeviceId{2}, DeviceId{3}).links);
  EXPECT_EQ(usable(cluster, condition).size(), 16U);
}

TEST(Condition, BorrowsTheNextCardOfTheNode) {
  const auto cluster = cluster_of(kCluster);
  Condition condition = Condition::of(cluster, {});
  condition.link_lost[link_called(cluster, "node0/nic3/in").at()] = true;
  const auto lame = in_condition(cluster, condition);
  EXPECT_EQ(lame.ports[3].nic_out, cluster.ports[0].nic_out);
  EXPECT_EQ(lame.ports[2].nic_out, cluster.ports[2].nic_out);
  EXPECT_EQ(usable(cluster, condition).size(), 16U);
  for (int i = 0; i < 3; ++i) {
    condition
        .link_lost[cluster.ports[static_cast<std::size_t>(i)].nic_out.at()] =
        true;
  }
  const auto left = usable(cluster, condition);
  EXPECT_EQ(left.size(), 12U);
  EXPECT_EQ(left.front(), DeviceId{4});
}

/// One second for everything; what is asked for is kept.
struct OneSecond final : profiles::CostModel {
  mutable std::string asked;
  profiles::Cost operator_cost(
      const kernels::OpShape&,
      const clusters::DeviceKind& kind) const override {
    asked = kind.name;
    return {.time = seconds(1), .least = seconds(0.5)};
  }
  std::optional<profiles::Cost> layer_cost(
      const profiles::LayerKey&,
      const clusters::DeviceKind& kind) const override {
    asked = kind.name;
    return profiles::Cost{.time = seconds(1)};
  }
  profiles::LinkEfficiency link_efficiency(clusters::LinkClass) const override {
    return {};
  }
  std::optional<profiles::Cost> collective_cost(
      clusters::Collective, int, int, Bytes,
      const clusters::DeviceKind& kind) const override {
    asked = kind.name;
    return profiles::Cost{.time = seconds(1)};
  }
  std::string content_hash() const override { return "h"; }
};

TEST(ConditionCosts, MultiplyWhatASlowDeviceDoes) {
  const auto cluster = cluster_of(kCluster);
  Condition condition = Condition::of(cluster, {});
  condition.device_slower[3] = 2.5;
  const OneSecond healthy;
  const ConditionCosts costs(healthy, cluster, condition);
  const auto slow = in_condition(cluster, condition);
  const auto cost = costs.operator_cost({}, slow.kind_of(DeviceId{3}));
  EXPECT_EQ(cost.time, seconds(2.5));
  EXPECT_EQ(cost.least, seconds(1.25));
  EXPECT_EQ(healthy.asked, "h100-sxm");
  EXPECT_EQ(costs.operator_cost({}, slow.kind_of(DeviceId{2})).time,
            seconds(1));
  EXPECT_EQ(costs.layer_cost({}, slow.kind_of(DeviceId{3}))->time,
            seconds(2.5));
  // A collective's links are no slower.
  EXPECT_EQ(costs
                .collective_cost(clusters::Collective::all_reduce, 2, 2, {},
                                 slow.kind_of(DeviceId{3}))
                ->time,
            seconds(1));
  condition.link_slower[0] = 2;
  const ConditionCosts lame(healthy, cluster, condition);
  EXPECT_FALSE(lame.collective_cost(clusters::Collective::all_reduce, 2, 2, {},
                                    cluster.kinds[0]));
}

}  // namespace
}  // namespace troupe::runs
