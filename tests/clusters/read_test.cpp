// Reading clusters: shipped files, short forms, partial nodes, and hostile
// input.
#include "clusters/read.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>

#include "clusters/kinds.h"
#include "kernels/operator.h"

namespace troupe::clusters {
namespace {

using kernels::DType;
using testing::HasSubstr;

Cluster must(const Result<Cluster>& cluster) {
  if (!cluster) {
    ADD_FAILURE() << cluster.error().message;
    return {};
  }
  return *cluster;
}

Json file_with(const Json& group, const Json& network = nullptr) {
  Json json{{"format", "troupe.cluster/1"}, {"nodes", Json::array({group})}};
  if (!network.is_null()) json["network"] = network;
  return json;
}

std::string error_of(const Json& json) {
  const Result<Cluster> cluster = parse_cluster(json, "c.json");
  return cluster ? "" : cluster.error().message;
}

std::string error_with(const std::string& key, const Json& value) {
  Json group{{"kind", "h100-sxm"}, {"count", 8}, {"nodes", 1}};
  group[key] = value;
  return error_of(file_with(group));
}

TEST(Shipped, EveryClusterLoadsAndNamesItsSource) {
  int files = 0;
  const std::filesystem::path folder =
      std::filesystem::path(TROUPE_SOURCE_DIR) / "clusters";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".json") continue;
    const Cluster c = must(read_cluster(entry.path().stem().string()));
    EXPECT_EQ(c.name, entry.path().stem().string());
    EXPECT_FALSE(c.source.empty()) << c.name;
    EXPECT_FALSE(c.devices.empty()) << c.name;
    EXPECT_TRUE(c.warnings.empty()) << c.name;
    EXPECT_EQ(c.ports.size(), c.devices.size());
    EXPECT_EQ(c.paths.size(), c.nodes.size());
    ++files;
  }
  EXPECT_GE(files, 35);
}

// 96 nodes of H20 come first: device 767 is the last H20, 768 the first H800.
TEST(Shipped, MixedClusterHasDenseIdsH20First) {
  const Cluster c = must(read_cluster("mixed-1024"));
  ASSERT_EQ(c.devices.size(), 1024u);
  EXPECT_EQ(c.kind_of(DeviceId{767}).name, "h20");
  EXPECT_EQ(c.kind_of(DeviceId{768}).name, "h800-sxm");
  EXPECT_EQ(c.devices[768].node, NodeId{96});
  // 768 x 148 + 256 x 989.4 TFLOP/s = 366.9504 PFLOP/s.
  EXPECT_DOUBLE_EQ(peak_of(c, DType::bf16).v, 366.9504e15);
}

// 31 H20: three full nodes and one of 7.
TEST(Shipped, PartlyFilledNodeHoldsTheRest) {
  const Cluster c = must(read_cluster("hspmd-h20x31"));
  ASSERT_EQ(c.nodes.size(), 4u);
  EXPECT_EQ(c.devices.size(), 31u);
  EXPECT_EQ(c.nodes[2].devices.size(), 8u);
  EXPECT_EQ(c.nodes[3].devices.size(), 7u);
  EXPECT_EQ(c.nodes[3].devices.back(), DeviceId{30});
  EXPECT_EQ(describe(c),
            "8 x h20 per node, 400 Gbit/s per GPU, 3 nodes + "
            "7 x h20 per node, 400 Gbit/s per GPU, 1 node");
}

TEST(Shipped, LargeClusterBuildsQuickly) {
  const auto start = std::chrono::steady_clock::now();
  const Cluster c = must(read_cluster("h100-16384"));
  const double spent =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
          .count();
  EXPECT_EQ(c.devices.size(), 16384u);
  EXPECT_EQ(c.links.size(), 16384u * 6);
  RecordProperty("milliseconds", static_cast<int>(spent * 1e3));
  // 20 to 30 ms in a Release build; the bound leaves room for sanitizers and
  // a busy machine and still catches anything quadratic.
  EXPECT_LT(spent, 2.0);
}

TEST(Kinds, AreDenseAndDescribed) {
  const Result<KindTable> table = shipped_kinds();
  ASSERT_TRUE(table) << table.error().message;
  EXPECT_GE(table->kinds.size(), 25u);
  for (const DeviceKind& kind : table->kinds) {
    EXPECT_FALSE(kind.source.empty()) << kind.name;
    EXPECT_GT(kind.sm_count, 0) << kind.name;
    EXPECT_GT(kind.memory.v, 0) << kind.name;
    EXPECT_GT(kind.memory_bandwidth.v, 0) << kind.name;
    EXPECT_TRUE(kind.peak.contains(DType::fp16)) << kind.name;
  }
  EXPECT_DOUBLE_EQ(table->find("h100-sxm")->peak.at(DType::bf16).v, 989.4e12);
  EXPECT_DOUBLE_EQ(table->find("a10")->peak.at(DType::bf16).v, 125e12);
  EXPECT_DOUBLE_EQ(table->find("l4")->peak.at(DType::bf16).v, 121e12);
}

TEST(Kinds, GoByOtherNamesInAnyCase) {
  EXPECT_EQ(read_kind("H800")->name, "h800-sxm");
  EXPECT_EQ(read_kind("RTX-4090")->name, "rtx-4090");
  const Result<DeviceKind> unknown = read_kind("H100-SMX");
  ASSERT_FALSE(unknown);
  EXPECT_THAT(unknown.error().message, HasSubstr("did you mean 'h100-sxm'?"));
}

TEST(Kinds, OfAFileOverrideShippedOnes) {
  Json json = file_with({{"kind", "h20"}, {"count", 8}});
  json["kinds"]["h20"] = {{"memory_gib", 141}};
  const Cluster c = must(parse_cluster(json, "c.json"));
  EXPECT_EQ(c.kinds[0].memory.v, 141LL << 30);
  EXPECT_DOUBLE_EQ(c.kinds[0].peak.at(DType::bf16).v, 148e12);
}

TEST(Kinds, OfAFileMayBeNew) {
  Json json = file_with({{"kind", "toy"}, {"count", 2}});
  json["kinds"]["toy"] = {{"peak_tflops", {{"bf16", 10}}},
                          {"memory_gib", 8},
                          {"memory_gbytes_per_s", 100}};
  const Cluster c = must(parse_cluster(json, "c.json"));
  EXPECT_EQ(c.kinds[0].name, "toy");
  EXPECT_TRUE(c.warnings.empty());
  json["kinds"]["toy"].erase("memory_gib");
  EXPECT_THAT(error_of(json), HasSubstr("/kinds/toy/memory_mib: missing"));
}

TEST(Kinds, WithASparsePeakAreRefused) {
  Json json = file_with({{"kind", "h100-sxm"}, {"count", 8}});
  json["kinds"]["h100-sxm"] = {{"peak_tflops", {{"bf16", 1979}}}};
  EXPECT_THAT(error_of(json), HasSubstr("looks like the sparse figure"));
  // HexiScale's list has 1513 for an H100 and 250 for an A10.
  json["kinds"] = {{"h100-4",
                    {{"peak_tflops", {{"fp16", 1513}}},
                     {"memory_gib", 80},
                     {"memory_gbytes_per_s", 2000}}}};
  EXPECT_THAT(error_of(json), HasSubstr("h100-pcie; its dense fp16 peak"));
  json["kinds"] = {{"a10", {{"peak_tflops", {{"fp16", 250}}}}}};
  EXPECT_THAT(error_of(json), HasSubstr("sparse"));
}

// A card that nobody knows may honestly have twice the peak of another.
TEST(Kinds, OfOtherNamesWithADoubledPeakAreWarnedAbout) {
  Json json = file_with({{"kind", "toy"}, {"count", 2}});
  json["kinds"]["toy"] = {{"peak_tflops", {{"bf16", 624}}},
                          {"memory_gib", 80},
                          {"memory_gbytes_per_s", 2000}};
  const Cluster c = must(parse_cluster(json, "c.json"));
  ASSERT_EQ(c.warnings.size(), 1u);
  EXPECT_THAT(c.warnings[0], HasSubstr("sparse figure of a"));
}

TEST(ShortForm, ExpandsToTheSameAsTheFile) {
  const Cluster text =
      must(read_cluster("8 x h100-sxm per node, 400 Gbit/s per GPU, "
                        "rail-optimised, 128 nodes"));
  const Cluster file = must(read_cluster("h100-1024"));
  EXPECT_EQ(describe(text), describe(file));
  ASSERT_EQ(text.links.size(), file.links.size());
  for (std::size_t i = 0; i < text.links.size(); i += 97) {
    EXPECT_EQ(text.links[i].name, file.links[i].name);
    EXPECT_EQ(text.links[i].bandwidth, file.links[i].bandwidth);
  }
}

TEST(ShortForm, JoinsGroupsAndSharesTheCards) {
  const Cluster c = must(read_cluster(
      "8 x H20, 31 GPUs + 8×H800 per node, 2 nodes, 400 Gbit/s per GPU"));
  EXPECT_EQ(c.devices.size(), 47u);
  EXPECT_EQ(c.nodes.size(), 6u);
  EXPECT_EQ(describe(c),
            "8 x h20 per node, 400 Gbit/s per GPU, 3 nodes + "
            "7 x h20 per node, 400 Gbit/s per GPU, 1 node + "
            "8 x h800-sxm per node, 400 Gbit/s per GPU, 2 nodes");
}

// 2 cards x 12.5 GB/s; 2:1 over 2 nodes per leaf: 4 x 12.5 / 2 = 25 GB/s up.
TEST(ShortForm, SaysWhatTheNetworkIs) {
  const Cluster c = must(read_cluster(
      "4 x a10 per node, 2 x 100 Gbit/s per node, 4 nodes, pcie, 2 nodes per "
      "leaf, 2:1 oversubscribed, 8.144 USD per node hour, 20 us latency"));
  EXPECT_EQ(c.leaves.size(), 2u);
  EXPECT_DOUBLE_EQ(c.links[c.leaves[0].up_out.at()].bandwidth.v, 25e9);
  EXPECT_DOUBLE_EQ(c.nodes[0].price_per_hour, 8.144);
  EXPECT_EQ(c.ports[0].nic_out, c.ports[1].nic_out);
  EXPECT_NE(c.ports[1].nic_out, c.ports[2].nic_out);
}

TEST(ShortForm, CanStandForTheNodesOfAFile) {
  Json json{{"format", "troupe.cluster/1"},
            {"nodes", "8 x a800, 4 nodes, 200 Gbit/s per GPU"}};
  EXPECT_EQ(must(parse_cluster(json, "c.json")).devices.size(), 32u);
  json["nodes"] = Json::array(
      {"8 x a800, 200 Gbit/s per GPU",
       Json{{"kind", "h20"}, {"count", 8}, {"nic", {{"gbit_per_s", 400}}}}});
  EXPECT_EQ(must(parse_cluster(json, "c.json")).devices.size(), 16u);
}

TEST(ShortForm, NamesTheClauseItCannotRead) {
  const auto error = [](const char* text) {
    const Result<Cluster> c = read_cluster(text);
    return c ? std::string() : c.error().message;
  };
  EXPECT_THAT(error("8 x h100-sxm, fast network"), HasSubstr("fast network"));
  EXPECT_THAT(error("8 x h100-sxm, 400 Gbit per GPU"), HasSubstr("Gbit per"));
  EXPECT_THAT(error("8 x h100-smx"), HasSubstr("did you mean 'h100-sxm'?"));
  EXPECT_THAT(error("8 x h100-sxm, 2 nodes"), HasSubstr("network card"));
  EXPECT_THAT(error("8.5 x h100-sxm"), HasSubstr("/count"));
  EXPECT_THAT(error("8 x h100-sxm + "), HasSubstr("cannot read"));
  EXPECT_THAT(error("1e300 x h100-sxm"), HasSubstr("/count"));
  EXPECT_THAT(error("8 x h100-sxm, nan nodes"), HasSubstr("nan nodes"));
}

TEST(ClusterFile, ReportsUnknownKeysWithASuggestion) {
  EXPECT_THAT(error_with("nodse", 3), HasSubstr("did you mean 'nodes'?"));
  EXPECT_THAT(error_with("intra", {{"type", "nvswich"}}),
              HasSubstr("did you mean 'nvswitch'?"));
  EXPECT_THAT(error_with("nic", {{"gbit_per_s", 1}, {"oops", 1}}),
              HasSubstr("/nodes/0/nic/oops: unknown key"));
}

TEST(ClusterFile, RefusesNumbersThatCannotBe) {
  EXPECT_THAT(error_with("count", 0), HasSubstr("/count"));
  EXPECT_THAT(error_with("count", -8), HasSubstr("/count"));
  EXPECT_THAT(error_with("count", 1e12), HasSubstr("/count"));
  EXPECT_THAT(error_with("nodes", 1e12), HasSubstr("/nodes/0/nodes"));
  EXPECT_THAT(error_with("nodes", -1), HasSubstr("/nodes/0/nodes"));
  EXPECT_THAT(error_with("nodes", 200000), HasSubstr("more than 262144"));
  EXPECT_THAT(error_with("gpus", 0), HasSubstr("/gpus"));
  EXPECT_THAT(error_with("price_per_node_hour", -1), HasSubstr("/price"));
  EXPECT_THAT(error_with("price_per_node_hour", NAN), HasSubstr("/price"));
  EXPECT_THAT(error_with("intra", {{"type", "nvswitch"}, {"gbytes_per_s", 0}}),
              HasSubstr("/intra/gbytes_per_s"));
  EXPECT_THAT(error_with("nic", {{"gbit_per_s", -400}}), HasSubstr("/nic"));
  EXPECT_THAT(error_with("nic", Json::object()), HasSubstr("give one of"));
  EXPECT_THAT(error_with("nic", {{"gbit_per_s", 1}, {"count", 2}}),
              HasSubstr("each GPU has one card"));
}

TEST(ClusterFile, ChecksGpusAgainstNodes) {
  Json group{{"kind", "h20"},
             {"count", 8},
             {"gpus", 31},
             {"nodes", 5},
             {"nic", {{"gbit_per_s", 400}}}};
  EXPECT_THAT(error_of(file_with(group)), HasSubstr("31 GPUs for 4 nodes"));
  group["nodes"] = 4;
  EXPECT_EQ(error_of(file_with(group)), "");
}

TEST(ClusterFile, RefusesOtherShapes) {
  EXPECT_THAT(error_of(Json::array()), HasSubstr("expected an object"));
  EXPECT_THAT(error_of(nullptr), HasSubstr("expected an object"));
  EXPECT_THAT(error_of(Json::object()), HasSubstr("/format: missing"));
  EXPECT_THAT(
      error_of({{"format", "troupe.cluster/1"}, {"nodes", Json::array()}}),
      HasSubstr("no nodes"));
  EXPECT_THAT(error_of({{"format", "troupe.cluster/1"}, {"nodes", 7}}),
              HasSubstr("expected a list"));
  EXPECT_THAT(error_of({{"format", "x"}, {"nodes", "8 x h20"}}),
              HasSubstr("troupe.cluster/1"));
  EXPECT_THAT(error_of(file_with(Json{{"kind", "h20"}, {"count", 8}},
                                 Json{{"oversubscription", 2}})),
              HasSubstr("how many nodes share one"));
}

TEST(ClusterFile, RefusesNvlinkOnACardWithoutIt) {
  EXPECT_THAT(error_of(file_with(
                  {{"kind", "t4"}, {"count", 4}, {"intra", "nvswitch"}})),
              HasSubstr("t4 has no NVLink"));
}

TEST(ClusterFile, RefusesAddressesThatDoNotFit) {
  EXPECT_THAT(error_with("addresses", {"a", "b"}), HasSubstr("one per node"));
  EXPECT_THAT(error_with("addresses", Json::array({7})), HasSubstr("texts"));
}

}  // namespace
}  // namespace troupe::clusters
