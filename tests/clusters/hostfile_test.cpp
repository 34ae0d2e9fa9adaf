// Host lists of MPI, Slurm and JSON, and the clusters they make.
#include "clusters/hostfile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "base/file.h"
#include "clusters/read.h"

namespace troupe::clusters {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<Host> hosts_of(const std::string& text, HostFormat format) {
  const auto hosts = parse_hosts(text, format, "h");
  if (!hosts) {
    ADD_FAILURE() << hosts.error().message;
    return {};
  }
  return *hosts;
}

std::string error_of(const std::string& text, HostFormat format) {
  const auto hosts = parse_hosts(text, format, "h");
  return hosts ? "" : hosts.error().message;
}

TEST(MpiHosts, HaveSlotsCommentsAndBlankLines) {
  EXPECT_THAT(
      hosts_of("# nodes\n\n a1 slots=8\r\nb.example slots = 4 max_slots=4 # x\n"
               "10.0.0.3:2\nplain",
               HostFormat::mpi),
      ElementsAre(Host{"a1", 8}, Host{"b.example", 4}, Host{"10.0.0.3", 2},
                  Host{"plain", 0}));
}

TEST(MpiHosts, KeepIpv6Addresses) {
  EXPECT_THAT(hosts_of("fe80::1:2 slots=2", HostFormat::mpi),
              ElementsAre(Host{"fe80::1:2", 2}));
}

TEST(MpiHosts, AddUpWhenRepeated) {
  EXPECT_THAT(hosts_of("a slots=3\nb\na slots=5\nb", HostFormat::mpi),
              ElementsAre(Host{"a", 8}, Host{"b", 2}));
}

TEST(MpiHosts, SayWhichLineIsWrong) {
  const auto mpi = HostFormat::mpi;
  EXPECT_THAT(error_of("a\nb slots=x", mpi), HasSubstr("line 2"));
  EXPECT_THAT(error_of("a slots=-1", mpi), HasSubstr("slots from 1"));
  EXPECT_THAT(error_of("a slots=0", mpi), HasSubstr("slots from 1"));
  EXPECT_THAT(error_of("a slots=99999999999999999999", mpi),
              HasSubstr("slots from 1"));
  EXPECT_THAT(error_of("a slot=4", mpi), HasSubstr("'slot'"));
  EXPECT_THAT(error_of("a slots=", mpi), HasSubstr("slots from 1"));
  EXPECT_THAT(error_of("a 8", mpi), HasSubstr("expected 'slots=N'"));
  EXPECT_THAT(error_of("a;rm slots=1", mpi), HasSubstr("not a host name"));
  EXPECT_THAT(error_of("# only\n", mpi), HasSubstr("names no hosts"));
  EXPECT_THAT(error_of("", mpi), HasSubstr("names no hosts"));
}

TEST(SlurmHosts, ExpandBrackets) {
  EXPECT_THAT(
      hosts_of("node[001-003,007],login", HostFormat::slurm),
      ElementsAre(Host{"node001", 0}, Host{"node002", 0}, Host{"node003", 0},
                  Host{"node007", 0}, Host{"login", 0}));
  EXPECT_THAT(
      hosts_of("r[1-2]n[08-10]x", HostFormat::slurm),
      ElementsAre(Host{"r1n08x", 0}, Host{"r1n09x", 0}, Host{"r1n10x", 0},
                  Host{"r2n08x", 0}, Host{"r2n09x", 0}, Host{"r2n10x", 0}));
}

TEST(SlurmHosts, ReadTheEnvironmentOfAJob) {
  EXPECT_THAT(hosts_of("SLURM_JOB_ID=7\nexport SLURM_JOB_NODELIST=\"g[1-2]\"\n"
                       "SLURM_NODELIST=g[1-2]\nSLURM_GPUS_PER_NODE=h100:4\n",
                       HostFormat::slurm),
              ElementsAre(Host{"g1", 4}, Host{"g2", 4}));
}

TEST(SlurmHosts, RefuseBadAndHugeLists) {
  const auto slurm = HostFormat::slurm;
  EXPECT_THAT(error_of("n[1-2", slurm), HasSubstr("brackets"));
  EXPECT_THAT(error_of("n1-2]", slurm), HasSubstr("brackets"));
  EXPECT_THAT(error_of("n[[1]]", slurm), HasSubstr("brackets"));
  EXPECT_THAT(error_of("n[3-1]", slurm), HasSubstr("bad range '3-1'"));
  EXPECT_THAT(error_of("n[]", slurm), HasSubstr("bad range"));
  EXPECT_THAT(error_of("n[1-]", slurm), HasSubstr("bad range"));
  EXPECT_THAT(error_of("n[-1]", slurm), HasSubstr("bad range"));
  EXPECT_THAT(error_of("a,,b", slurm), HasSubstr("an empty name"));
  EXPECT_THAT(error_of("n[0-999999999999]", slurm), HasSubstr("more than"));
  EXPECT_THAT(error_of("n[0-9999][0-9999]", slurm), HasSubstr("more than"));
  EXPECT_THAT(error_of("n[0-99999999999999999999]", slurm),
              HasSubstr("bad range"));
  EXPECT_THAT(error_of("n[0000000000000000000000001]", slurm),
              HasSubstr("bad range"));
  EXPECT_THAT(error_of("SLURM_GPUS_PER_NODE=8(x2),4\nn1", slurm),
              HasSubstr("line 1: expected slots"));
  EXPECT_THAT(error_of("SLURM_JOB_ID=7", slurm), HasSubstr("no hosts"));
}

TEST(JsonHosts, AreHspmdsList) {
  EXPECT_THAT(hosts_of(R"({"hosts": [{"addr": "<ip-1>", "initial_workers": 8,
                  "min_workers": 2, "max_workers": 8}, {"addr": "b"}],
                  "max_restart_times": 5, "heartbeat_interval": 10.0})",
                       HostFormat::json),
              ElementsAre(Host{"<ip-1>", 8}, Host{"b", 0}));
  EXPECT_THAT(error_of(R"({"hosts": [{"adr": "a"}]})", HostFormat::json),
              HasSubstr("did you mean 'addr'?"));
  EXPECT_THAT(error_of(R"({"hosts": []})", HostFormat::json),
              HasSubstr("names no hosts"));
  EXPECT_THAT(error_of(R"({"hosts": [{"addr": "a", "initial_workers": 1e12}]})",
                       HostFormat::json),
              HasSubstr("/hosts/0/initial_workers"));
}

TEST(HostFormats, AreGuessed) {
  EXPECT_EQ(guess_host_format(" {\"hosts\": []}"), HostFormat::json);
  EXPECT_EQ(guess_host_format("n[1-2]"), HostFormat::slurm);
  EXPECT_EQ(guess_host_format("SLURM_JOB_NODELIST=a"), HostFormat::slurm);
  EXPECT_EQ(guess_host_format("a slots=8"), HostFormat::mpi);
}

TEST(HostCluster, HasANodePerHost) {
  const HostOptions options{.kind = "h800",
                            .gpus_per_node = 4,
                            .base = "400 Gbit/s per GPU, rail-optimised"};
  const auto c = cluster_from_hostfile("a slots=8\nb slots=8\nc",
                                       HostFormat::mpi, options, "hosts");
  ASSERT_TRUE(c) << c.error().message;
  EXPECT_EQ(describe(*c),
            "8 x h800-sxm per node, 400 Gbit/s per GPU, 2 nodes + "
            "4 x h800-sxm per node, 400 Gbit/s per GPU, 1 node");
  EXPECT_EQ(c->nodes[1].address, "b");
  EXPECT_EQ(c->nodes[2].address, "c");
}

TEST(HostCluster, TakesABaseObject) {
  HostOptions options{.kind = "a10"};
  options.base = {{"nic", {{"gbit_per_s", 40}, {"per", "node"}}},
                  {"network", {{"latency_us", 20}}},
                  {"name", "mine"}};
  const auto c =
      cluster_from_hostfile("n[1-2]", HostFormat::slurm, options, "hosts");
  ASSERT_TRUE(c) << c.error().message;
  EXPECT_EQ(c->name, "mine");
  EXPECT_EQ(c->devices.size(), 16u);
  options.base = {{"nick", 1}};
  const auto bad =
      cluster_from_hostfile("n[1-2]", HostFormat::slurm, options, "hosts");
  ASSERT_FALSE(bad);
  EXPECT_THAT(bad.error().message, HasSubstr("did you mean 'nic'?"));
}

TEST(Addresses, GoToTheNodesInOrder) {
  const auto c = read_cluster("hspmd-h20x31");
  ASSERT_TRUE(c);
  std::vector<Host> hosts{{"a", 8}, {"b", 8}, {"c", 0}, {"d", 7}};
  const auto assigned = assign_addresses(*c, hosts);
  ASSERT_TRUE(assigned) << assigned.error().message;
  EXPECT_EQ(assigned->nodes[3].address, "d");
  hosts[3].slots = 8;
  EXPECT_THAT(assign_addresses(*c, hosts).error().message,
              HasSubstr("node3 of cluster 'hspmd-h20x31' has 7 GPUs"));
  hosts.pop_back();
  EXPECT_THAT(assign_addresses(*c, hosts).error().message,
              HasSubstr("3 hosts for the 4 nodes"));
}

TEST(SharedHostfiles, AreRead) {
  const char* set = std::getenv("TROUPE_SHARED");
  const std::filesystem::path shared =
      set && *set ? std::filesystem::path(set)
                  : std::filesystem::path(TROUPE_SOURCE_DIR) / "../shared";
  const auto mpi = shared / "seeds-data/hotspa/hostfile.txt";
  const auto json = shared / "seeds-data/hspmd/host_example.json";
  if (!std::filesystem::exists(mpi) || !std::filesystem::exists(json)) {
    GTEST_SKIP() << mpi << " or " << json << " is not here";
  }
  for (const auto& path : {mpi, json}) {
    const Result<std::string> text = read_file(path);
    ASSERT_TRUE(text);
    const auto hosts = hosts_of(*text, guess_host_format(*text));
    ASSERT_FALSE(hosts.empty()) << path;
    EXPECT_GT(hosts[0].slots, 0) << path;
  }
}

}  // namespace
}  // namespace troupe::clusters
