#include "measure/links.h"

#include <gmock/gmock.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "clusters/kinds.h"
#include "measure/profile.h"
#include "profiles/cost_model.h"
#include "sim/network.h"
#include "tests/support/fixtures.h"

namespace troupe::measure {
namespace {

using clusters::Collective;
using ::testing::Contains;
using ::testing::HasSubstr;

constexpr double kLatency = 5e-6, kBandwidth = 300e9, kHostRate = 50e9;
constexpr std::int64_t kMost = std::int64_t{1} << 28;

/// Seconds that go by only when something is measured.
struct FakeClock {
  double now = 0;
};

/// A node whose copies take latency and size over bandwidth, and whose
/// collectives are rings of such steps.
class FakeNode final : public Machine, public LinkMachine {
 public:
  explicit FakeNode(int devices, FakeClock& clock)
      : devices_(devices), clock_(clock) {
    info_.device = "h100-sxm";
    info_.architecture = "hopper";
    info_.full_name = "Fake H100";
    info_.libraries = "none";
    info_.memory = {std::int64_t{64} << 30};
  }

  const MachineInfo& info() const override { return info_; }
  Result<std::unique_ptr<Array>> allocate(Bytes) override {
    return fail(Fault::unavailable, "no arrays here");
  }
  Result<void> upload(void*, std::span<const std::byte>) override { return {}; }
  Result<void> copy(void*, const void*, Bytes) override { return {}; }
  Result<void> zero(void*, Bytes) override { return {}; }
  Result<void> settle() override { return {}; }
  Result<double> time(std::span<const kernels::Call>, Caches) override {
    return 1.0;
  }
  Result<double> time_copy(Route route, Bytes size) override {
    return took(
        size, kLatency + static_cast<double>(size.v) /
                             (route == Route::device ? kBandwidth : kHostRate));
  }
  bool has(Route route) const override {
    return route <= Route::device_to_host;
  }

  int devices() const override { return devices_; }
  Result<Route> path(int from, int to) override {
    // Two islands joined through the host.
    return from / 4 == to / 4 ? Route::peer_nvlink : Route::peer_host;
  }
  std::string no_collectives() const override { return no_nccl; }
  std::string libraries() const override { return "NCCL 9"; }
  Bytes largest() const override { return {kMost}; }
  Result<double> time_peer(int, int, Bytes bytes, int runs) override {
    return took(bytes, step(bytes.v), runs);
  }
  Result<double> time_collective(Collective collective,
                                 std::span<const int> devices, Bytes bytes,
                                 int runs) override {
    asked.insert({collective, static_cast<int>(devices.size())});
    if (collective == broken) return fail(Fault::io, "a cable is out");
    return took(bytes,
                seconds_of(collective, static_cast<int>(devices.size()), bytes),
                runs);
  }

  static double step(std::int64_t bytes) {
    return kLatency + static_cast<double>(bytes) / kBandwidth;
  }
  /// The ring of Patarasuk and Yuan.
  static double seconds_of(Collective collective, int n, Bytes bytes) {
    const double part = static_cast<double>(bytes.v) / n / kBandwidth;
    switch (collective) {
      case Collective::all_reduce:
        return 2 * (n - 1) * (kLatency + part);
      case Collective::all_gather:
      case Collective::reduce_scatter:
      case Collective::all_to_all:
        return (n - 1) * (kLatency + part);
      case Collective::broadcast:
      case Collective::send_receive:
      case Collective::ring_shift:
        return step(bytes.v);
    }
    return 0;
  }

  std::string no_nccl;
  std::optional<Collective> broken;
  int measured = 0;
  int fail_after = 1 << 30;
  std::set<std::pair<Collective, int>> asked;
  std::set<std::int64_t> sizes;

 private:
  Result<double> took(Bytes bytes, double seconds, int runs = 1) {
    sizes.insert(bytes.v);
    if (++measured > fail_after) {
      return fail(Fault::interrupted, "the power went out");
    }
    clock_.now += seconds * runs;
    return seconds;
  }

  MachineInfo info_;
  int devices_;
  FakeClock& clock_;
};

struct Bench {
  explicit Bench(int devices)
      : node(devices, clock),
        db(*profiles::open_or_create(":memory:")),
        options{.budget_s = 1000, .accuracy = 0.02, .source = "lab"} {
    options.clock = [this] { return clock.now; };
  }
  LinkReport measure() {
    auto report =
        measure_links(node, node.devices() > 1 ? &node : nullptr, db, options);
    EXPECT_TRUE(report) << report.error().message;
    return report.value_or(LinkReport{});
  }
  std::vector<profiles::CollectiveRow> collectives() {
    std::vector<profiles::CollectiveRow> rows;
    const auto stored = db.select<profiles::CollectiveRow>("h100-sxm", "lab");
    for (const auto& s : *stored) rows.push_back(s.row);
    return rows;
  }
  std::size_t rows() {
    return collectives().size() +
           db.select<profiles::CopyRow>("h100-sxm", "lab")->size();
  }

  FakeClock clock;
  FakeNode node;
  profiles::Database db;
  LinkOptions options;
};

TEST(Links, CoverEverySizeGroupAndCollective) {
  Bench bench(8);
  const LinkReport report = bench.measure();
  EXPECT_TRUE(report.complete);
  // Of seven devices 4096 bytes less what does not divide by 7 x 16.
  EXPECT_EQ(*bench.node.sizes.begin(), 4032);
  EXPECT_TRUE(bench.node.sizes.contains(4096));
  EXPECT_EQ(*bench.node.sizes.rbegin(), kMost);
  // Six collectives of 2 to 8, and messages of two.
  EXPECT_EQ(bench.node.asked.size(), 6 * 7 + 1);
  EXPECT_TRUE(bench.node.asked.contains({Collective::send_receive, 2}));
  std::set<Route> routes;
  const auto copies = bench.db.select<profiles::CopyRow>("h100-sxm", "lab");
  for (const auto& [source, row] : *copies) {
    routes.insert(row.route);
  }
  EXPECT_EQ(routes, (std::set<Route>{Route::device, Route::host_to_device,
                                     Route::device_to_host, Route::peer_nvlink,
                                     Route::peer_host}));
  EXPECT_EQ(bench.rows(), report.links.size());
}

// What is stored must price a simulated all-reduce as the closed form says:
// to six digits at measured sizes, and between them within the accuracy that
// the sampler was asked for.
TEST(Links, PriceASimulatedAllReduceAsTheirClosedFormSays) {
  Bench bench(8);
  bench.measure();
  const auto cluster = test::cluster_of("8 x h100-sxm per node, 1 node");
  const auto costs = profiles::load_cost_model(bench.db, cluster.kinds);
  ASSERT_TRUE(costs);
  const sim::Network network(cluster, **costs);
  for (const int ranks : {2, 3, 8}) {
    sim::Network::Group group;
    for (int d = 0; d < ranks; ++d) {
      group.devices.push_back(clusters::DeviceId{d});
    }
    for (double bytes = 5000; bytes < kMost; bytes *= 1.37) {
      group.bytes = {static_cast<std::int64_t>(bytes)};
      const auto a = network.collectives(Collective::all_reduce, {&group, 1});
      EXPECT_NE(a.provenance, profiles::Provenance::roofline);
      const double truth =
          FakeNode::seconds_of(Collective::all_reduce, ranks, group.bytes);
      EXPECT_NEAR(std::log(to_seconds(a.alone()) / truth), 0, 0.13)
          << ranks << " ranks, " << group.bytes.v << " bytes";
    }
    for (const auto& row : bench.collectives()) {
      if (row.collective != Collective::all_reduce || row.ranks != ranks) {
        continue;
      }
      group.bytes = {row.bytes};
      const auto a = network.collectives(Collective::all_reduce, {&group, 1});
      EXPECT_NEAR(
          to_seconds(a.alone()) /
              FakeNode::seconds_of(Collective::all_reduce, ranks, group.bytes),
          1, 1e-5);
      EXPECT_EQ(a.provenance, profiles::Provenance::measured);
    }
  }
  const sim::Network::Message message{clusters::DeviceId{0},
                                      clusters::DeviceId{5}, Bytes{1 << 20}};
  EXPECT_NEAR(to_seconds(network.messages({&message, 1}).alone()) /
                  FakeNode::step(1 << 20),
              1, 0.13);
}

// The knee of latency and bandwidth (300 GB/s x 5 us = 1.5 MB for a copy in
// memory) is measured densely, the straight ends are not.
TEST(Links, MeasureMoreSizesWhereACurveBends) {
  Bench bench(1);
  bench.options.accuracy = 0.1;
  const LinkReport report = bench.measure();
  std::set<std::int64_t> sizes;
  for (const MeasuredLink& link : report.links) {
    if (link.series.route == Route::device) sizes.insert(link.bytes.v);
  }
  for (std::int64_t s = 1 << 19; s <= 1 << 22; s *= 2) {
    EXPECT_TRUE(sizes.contains(s)) << s;
  }
  EXPECT_FALSE(sizes.contains(1 << 13));
  EXPECT_FALSE(sizes.contains(std::int64_t{1} << 29));
  EXPECT_LT(sizes.size(), 12);
}

TEST(Links, ASecondRunGoesOnWhereTheFirstStopped) {
  Bench bench(4);
  bench.node.fail_after = 2500;
  const auto stopped =
      measure_links(bench.node, &bench.node, bench.db, bench.options);
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().fault, Fault::interrupted);
  // What was measured before is kept.
  const std::size_t kept = bench.rows();
  EXPECT_GT(kept, 5);
  bench.node.fail_after = 1 << 30;
  const LinkReport rest = bench.measure();
  EXPECT_TRUE(rest.complete);
  EXPECT_EQ(rest.remembered, static_cast<int>(kept));
  EXPECT_EQ(std::ranges::count(rest.links, true, &MeasuredLink::known),
            static_cast<std::ptrdiff_t>(kept));
  EXPECT_EQ(bench.rows(), rest.links.size());
  const LinkReport nothing = bench.measure();
  EXPECT_EQ(nothing.links.size(), rest.links.size());
  EXPECT_TRUE(std::ranges::all_of(nothing.links, &MeasuredLink::known));
  EXPECT_EQ(nothing.batches, 0);
  // The same rows as of a run that was never stopped.
  Bench whole(4);
  whole.measure();
  EXPECT_EQ(whole.rows(), bench.rows());
}

TEST(Links, StoreABatchInOneTransaction) {
  Bench all(4);
  all.options.batch_s = 1e9;
  EXPECT_EQ(all.measure().batches, 1);
  Bench each(4);
  each.options.batch_s = 0;
  const LinkReport report = each.measure();
  EXPECT_EQ(report.batches, static_cast<int>(report.links.size()));
  Bench some(4);
  some.options.batch_s = 0.05;
  const double took = [&] {
    const LinkReport r = some.measure();
    EXPECT_GT(r.batches, 1);
    EXPECT_LE(r.batches, some.clock.now / 0.05 + 1);
    return some.clock.now;
  }();
  EXPECT_GT(took, 0.1);
}

RC_GTEST_PROP(Links, KeepToTheirBudget, ()) {
  Bench bench(8);
  bench.options.budget_s = *rc::gen::inRange(1, 2000) * 1e-3;
  const LinkReport report = bench.measure();
  // The last size may run over: at most as long as one measurement.
  RC_ASSERT(bench.clock.now <= bench.options.budget_s + 0.1);
  RC_ASSERT(bench.rows() == report.links.size());
  if (!report.complete) RC_ASSERT(!report.notes.empty());
}

TEST(Links, MeasureTheMostWantedFirst) {
  Bench bench(8);
  const auto series = wanted_links(bench.node, &bench.node);
  ASSERT_TRUE(series);
  std::vector<std::string> names;
  for (const LinkSeries& s : *series) names.push_back(to_string(s));
  ASSERT_GT(names.size(), 20U);
  EXPECT_EQ(names[0], "copy device");
  EXPECT_EQ(names[3], "copy peer_nvlink 0 to 1");
  EXPECT_EQ(names[4], "copy peer_host 0 to 4");
  EXPECT_EQ(names[5], "send_receive of 2");
  EXPECT_EQ(names[6], "all_reduce of 8");
  EXPECT_EQ(names[12], "all_reduce of 2");
  EXPECT_EQ(names[18], "all_reduce of 4");
}

TEST(Links, LeaveOutWhatFailsAndSayWhy) {
  Bench bench(2);
  bench.node.broken = Collective::all_reduce;
  const LinkReport report = bench.measure();
  EXPECT_THAT(report.notes, Contains(AllOf(HasSubstr("all_reduce of 2"),
                                           HasSubstr("a cable is out"))));
  std::set<Collective> found;
  for (const auto& row : bench.collectives()) found.insert(row.collective);
  EXPECT_EQ(found.size(), 6);
  EXPECT_FALSE(found.contains(Collective::all_reduce));

  Bench without(2);
  without.node.no_nccl = "NCCL cannot be opened";
  const LinkReport copies = without.measure();
  EXPECT_TRUE(without.collectives().empty());
  EXPECT_FALSE(copies.links.empty());
  EXPECT_THAT(copies.notes, Contains(HasSubstr("NCCL cannot be opened")));
}

TEST(Links, SaySourceAndLibraries) {
  Bench bench(2);
  bench.measure();
  const auto sources = bench.db.sources();
  ASSERT_EQ(sources->size(), 1);
  EXPECT_THAT(sources->front().source.libraries, HasSubstr("NCCL 9"));
  EXPECT_EQ(sources->front().source.kind, "measured");
}

TEST(Links, OfAMachineWithOneDeviceAreMissingWithAReason) {
  const auto cpu = open_links("cpu");
  ASSERT_FALSE(cpu);
  EXPECT_EQ(cpu.error().fault, Fault::unavailable);
  const auto bad = open_links("tpu");
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().fault, Fault::input);
}

TEST(Links, OfTheProcessorAreItsCopies) {
  const auto cpu = cpu_machine();
  auto db = profiles::open_or_create(":memory:");
  const auto report = measure_links(
      *cpu, nullptr, *db, {.budget_s = 2, .most = {1 << 22}, .source = "here"});
  ASSERT_TRUE(report) << report.error().message;
  const auto rows = db->select<profiles::CopyRow>(cpu->info().device, "here");
  ASSERT_FALSE(rows->empty());
  for (const auto& [source, row] : *rows) {
    EXPECT_EQ(row.route, Route::device);
    EXPECT_GT(row.time_s, 0);
  }
}

TEST(SharedSize, GivesEveryRankWholeSixteens) {
  EXPECT_EQ(shared_size(4096, 1).v, 4096);
  EXPECT_EQ(shared_size(4096, 3).v, 4080);  // 85 x 48
  EXPECT_EQ(shared_size(1, 8).v, 128);
}

}  // namespace
}  // namespace troupe::measure
