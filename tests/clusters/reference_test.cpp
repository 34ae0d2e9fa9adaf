// The shipped clusters of the reference systems against their own lists.
#include <gtest/gtest.h>

#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>

#include "base/file.h"
#include "clusters/kinds.h"
#include "clusters/read.h"

namespace troupe::clusters {
namespace {

std::filesystem::path shared(const char* path) {
  const char* set = std::getenv("TROUPE_SHARED");
  const std::filesystem::path root =
      set && *set ? std::filesystem::path(set)
                  : std::filesystem::path(TROUPE_SOURCE_DIR) / "../shared";
  return root / "seeds-data" / path;
}

Cluster shipped(const std::string& name) {
  const Result<Cluster> cluster = read_cluster(name);
  if (!cluster) {
    ADD_FAILURE() << cluster.error().message;
    return {};
  }
  return *cluster;
}

/// "hspmd-h20x32-h800x16" of [{type, count}, ...].
std::string hspmd_name(const Json& list) {
  std::string name = "hspmd";
  for (const Json& entry : list) {
    std::string type = entry["type"].get<std::string>();
    for (char& c : type) c = static_cast<char>(std::tolower(c));
    name += "-" + type + "x" + std::to_string(entry["count"].get<int>());
  }
  return name;
}

TEST(Reference, EveryHspmdCaseHasItsClusterWithTheRightKinds) {
  const auto path = shared("hspmd/hetero_cluster_cases.json");
  if (!std::filesystem::exists(path)) {
    GTEST_SKIP() << path << " is not here";
  }
  const Result<Json> json = read_json(path);
  ASSERT_TRUE(json) << json.error().message;
  const Result<KindTable> kinds = shipped_kinds();
  ASSERT_TRUE(kinds) << kinds.error().message;
  int checked = 0;
  for (const Json& entry : (*json)["cases"]) {
    if (!entry["cluster"].is_array()) continue;
    const Cluster cluster = shipped(hspmd_name(entry["cluster"]));
    if (!entry.contains("derived_pipelines")) continue;
    for (const Json& pipeline : entry["derived_pipelines"]) {
      for (const Json& stage : pipeline) {
        const auto type = stage["device_type"][0].get<std::string>();
        for (const Json& id : stage["devices"]) {
          const DeviceId device{id.get<int>()};
          ASSERT_LT(device.at(), cluster.devices.size()) << cluster.name;
          EXPECT_EQ(cluster.kind_of(device).name, kinds->find(type)->name);
          ++checked;
        }
      }
    }
  }
  EXPECT_GT(checked, 0);
}

TEST(Reference, HexiscaleClustersHaveItsMachines) {
  const auto path = shared("hexiscale/gpus_and_clusters.json");
  if (!std::filesystem::exists(path)) {
    GTEST_SKIP() << path << " is not here";
  }
  const Result<Json> json = read_json(path);
  ASSERT_TRUE(json) << json.error().message;
  const std::map<std::string, std::string> kinds{{"A100", "a100-pcie-80"},
                                                 {"4090", "rtx-4090"},
                                                 {"3090", "rtx-3090"},
                                                 {"3080Ti", "rtx-3080ti"}};
  for (const Json& entry : (*json)["clusters"]) {
    std::string name = entry["name"].get<std::string>();
    if (name.starts_with("repo-default")) name = "case-study";
    const Cluster cluster = shipped("hexiscale-" + name);
    const Json& machines = entry["machines"];
    ASSERT_EQ(cluster.nodes.size(), machines.size()) << name;
    for (std::size_t i = 0; i < machines.size(); ++i) {
      const auto& devices = cluster.nodes[i].devices;
      EXPECT_EQ(devices.size(), machines[i]["count"].get<std::size_t>());
      const auto gpu = machines[i]["gpu"].get<std::string>();
      EXPECT_EQ(cluster.kind_of(devices[0]).name, kinds.at(gpu)) << name;
    }
  }
}

// Bandwidths are bit/s there: 40e9 bit/s between nodes is 5 GB/s, and 1840e9
// inside an A100 node is 230 GB/s.
TEST(Reference, FasopClustersHaveItsBandwidthsAndPrices) {
  const auto path = shared("fasop/clusters.json");
  if (!std::filesystem::exists(path)) {
    GTEST_SKIP() << path << " is not here";
  }
  const Result<Json> json = read_json(path);
  ASSERT_TRUE(json) << json.error().message;
  const Json& rates = (*json)["bandwidth"]["head"];
  const Json& prices = (*json)["price"];
  const Cluster c = shipped("fasop-a100x1-a10x7");
  ASSERT_EQ(c.nodes.size(), 8u);
  const auto rate = [&](LinkId link) {
    return c.links[link.at()].bandwidth.v * 8;
  };
  EXPECT_DOUBLE_EQ(rate(c.ports[0].nvlink_out),
                   rates["A100"]["intra"].get<double>());
  EXPECT_DOUBLE_EQ(rate(c.ports[0].nic_out),
                   rates["A100"]["inter"].get<double>());
  EXPECT_DOUBLE_EQ(rate(c.ports[4].pcie_out),
                   rates["A10"]["intra"].get<double>());
  EXPECT_DOUBLE_EQ(rate(c.ports[4].nic_out),
                   rates["A10"]["inter"].get<double>());
  EXPECT_DOUBLE_EQ(c.nodes[0].price_per_hour,
                   prices["p4d.24xlarge"].get<double>());
  EXPECT_DOUBLE_EQ(c.nodes[7].price_per_hour,
                   prices["g5.24xlarge"].get<double>());
}

}  // namespace
}  // namespace troupe::clusters
