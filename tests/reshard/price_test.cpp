// Prices against closed forms, sender rules against hand-worked choices, and
// which candidate is taken.
#include "reshard/price.h"

#include <gmock/gmock.h>

#include "helpers.h"
#include "reshard/sender_rules.h"

namespace troupe::reshard {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<DeviceId> ids(std::initializer_list<int> list) {
  std::vector<DeviceId> out;
  for (const int id : list) out.push_back(DeviceId{id});
  return out;
}

Annotation laid(std::vector<DeviceId> devices, int split, int duplicate,
                int partial) {
  strategy::States states;
  if (split > 1) states.split = {{0, split}};
  states.duplicate = duplicate;
  states.partial = partial;
  return {{{std::move(devices), states, 1}}};
}

struct Bench {
  clusters::Cluster cluster;
  Rates rates;
  Routes routes;
  explicit Bench(const char* text)
      : cluster(cluster_of(text)),
        rates(rates_of(cluster)),
        routes(cluster, rates) {}
  Resolution resolved(const Annotation& from, const Annotation& to,
                      const Shape& shape, Choice choice) const {
    auto found = resolve_all(from, to, shape, kernels::DType::bf16, routes,
                             {choice, SenderRule::balanced});
    EXPECT_TRUE(found) << (found ? "" : found.error().message);
    return found ? *std::move(found) : Resolution{};
  }
};

constexpr const char* kOneNode = "8 x h100-sxm per node, 1 nodes";
constexpr std::int64_t kRows = std::int64_t{1} << 26;

TEST(Price, AllReduceInANodeIsTheRing) {
  const Bench bench(kOneNode);
  const auto devices = ids({0, 1, 2, 3, 4, 5, 6, 7});
  const Resolution r =
      bench.resolved(laid(devices, 1, 1, 8), laid(devices, 1, 8, 1), {kRows},
                     Choice::reference);
  // 2 (n - 1) / n of the bytes through a port, 2 (n - 1) steps of two ports.
  const auto& cluster = bench.cluster;
  const double port =
      cluster.links[cluster.ports[0].nvlink_out.at()].bandwidth.v;
  const Time hop = cluster.route(DeviceId{0}, DeviceId{1}).latency;
  const double bytes = static_cast<double>(kRows) * 2;
  const Time expected = seconds(2 * 7.0 / 8 * bytes / port) + hop * 14 + kStart;
  EXPECT_EQ(r.plan().steps.at(0).algorithm, Algorithm::ring);
  EXPECT_NEAR(static_cast<double>(r.plan().predicted.v),
              static_cast<double>(expected.v), 10);
}

TEST(Price, AcrossNodesTwoLevelsBeatTheRing) {
  const Bench bench("8 x h100-sxm per node, 400 Gbit/s per GPU, 2 nodes");
  std::vector<DeviceId> devices;
  for (int i = 0; i < 16; ++i) devices.push_back(DeviceId{i});
  const Resolution r =
      bench.resolved(laid(devices, 1, 1, 16), laid(devices, 1, 16, 1), {kRows},
                     Choice::automatic);
  ASSERT_EQ(operations(r.plan()), std::vector{Operation::all_reduce});
  EXPECT_EQ(r.plan().steps.at(0).algorithm, Algorithm::two_level);
  // Eight rings move 2 * 15/16 of an eighth over each card; two levels 2 *
  // 1/2 of it. The cards are 9 times slower than the ports: they decide.
  const double card = 50e9;
  const double bytes = static_cast<double>(kRows) * 2;
  EXPECT_LT(to_seconds(r.plan().predicted), 2 * 15.0 / 16 * bytes / 8 / card);
  EXPECT_GT(to_seconds(r.plan().predicted), bytes / 8 / card);
}

TEST(Choosing, TiersAreMergedOnlyWhenAsked) {
  const Bench bench(kOneNode);
  Annotation from{{{ids({0, 1}), {}, 1}, {ids({2}), {}, 1}}};
  from.across = strategy::Across::partial;
  from.groups[0].states.partial = 2;
  Annotation to = from;
  to.across = strategy::Across::replicated;
  to.groups[0].states = {};
  to.groups[0].states.duplicate = 2;
  const auto names = [&](Choice choice) {
    std::string out;
    for (const Operation o :
         operations(bench.resolved(from, to, {kRows}, choice).plan())) {
      out += std::string(name_of(o)) + " ";
    }
    return out;
  };
  EXPECT_EQ(names(Choice::automatic), "all_reduce split_all_reduce ");
  EXPECT_EQ(names(Choice::reference), "all_reduce split_all_reduce ");
  EXPECT_EQ(names(Choice::cheapest), "split_all_reduce ");
}

TEST(Choosing, CheapestIsTheLeastOfAll) {
  const Bench bench("4 x h100-sxm per node, 400 Gbit/s per GPU, 4 nodes");
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    Dice dice(seed);
    const RandomChange c = random_change(dice, 16);
    const auto all =
        resolve_all(c.source, c.destination, c.shape, kernels::DType::bf16,
                    bench.routes, {Choice::cheapest, SenderRule::balanced});
    if (!all) continue;
    for (const Candidate& candidate : all->candidates) {
      EXPECT_LE(all->plan().predicted, candidate.plan.predicted);
      EXPECT_FALSE(candidate.verdict.empty());
    }
  }
}

TEST(Resolving, ExplainsWhatIsWrong) {
  const Bench bench(kOneNode);
  const auto problem = [&](const Annotation& from, const Annotation& to,
                           const Shape& shape) {
    const auto found =
        resolve_all(from, to, shape, kernels::DType::bf16, bench.routes);
    return found ? "accepted" : found.error().message;
  };
  const Annotation one = laid(ids({0}), 1, 1, 1);
  EXPECT_EQ(problem(one, one, {4}), "accepted");
  EXPECT_THAT(problem(one, laid(ids({8}), 1, 1, 1), {4}),
              HasSubstr("destination: device 8 is not one of"));
  EXPECT_THAT(problem(one, laid(ids({1, 1}), 2, 1, 1), {4}),
              HasSubstr("device 1 is named twice"));
  EXPECT_THAT(problem(one, laid(ids({1, 2}), 3, 1, 1), {4}),
              HasSubstr("layout is for 3 devices"));
  EXPECT_THAT(problem(one, one, {}), HasSubstr("0 dimensions"));
  EXPECT_THAT(problem(one, one, {0}), HasSubstr("expected sizes"));
  EXPECT_THAT(problem(one, one, {kRows, kRows, kRows}),
              HasSubstr("at most 2^50"));
  EXPECT_THAT(problem(one, Annotation{}, {4}), HasSubstr("no subgroup"));
  Annotation heavy = laid(ids({0, 1}), 2, 1, 1);
  heavy.groups[0].weight = std::int64_t{1} << 40;
  EXPECT_THAT(problem(one, heavy, {4}), HasSubstr("weights"));
}

/// Senders by a rule of demands with owners 0, 1 (node 0) and 4 (node 1).
std::vector<int> chosen(SenderRule rule, const std::vector<int>& needers,
                        std::vector<DeviceId> owners) {
  const Bench bench("4 x h100-sxm per node, 400 Gbit/s per GPU, 2 nodes");
  Demands demands;
  demands.owners = std::move(owners);
  const auto count = static_cast<std::uint32_t>(demands.owners.size());
  std::int64_t bytes = 100;
  for (const int to : needers) {
    demands.list.push_back({DeviceId{to}, 0, count, 0, bytes, 10});
    bytes += 10;
  }
  std::vector<int> out;
  for (const Share& s : shares_by_rule(demands, rule, bench.cluster)) {
    out.push_back(s.from.v);
  }
  return out;
}

TEST(SenderRules, ChooseAsTheirNamesSay) {
  const std::vector<int> needers{2, 3, 5, 2, 5};
  const auto owners = [] { return ids({4, 1, 0}); };
  EXPECT_THAT(chosen(SenderRule::minimum_index, needers, owners()),
              ElementsAre(0, 0, 0, 0, 0));
  EXPECT_THAT(chosen(SenderRule::first_come, needers, owners()),
              ElementsAre(4, 4, 4, 4, 4));
  EXPECT_THAT(chosen(SenderRule::round_robin, needers, owners()),
              ElementsAre(4, 1, 0, 4, 1));
  // For 2 and 3 only 1 and 0 are near, for 5 only 4: the counter goes 1, 0,
  // 4, 1, then past 0 to 4.
  EXPECT_THAT(chosen(SenderRule::node_round_robin, needers, owners()),
              ElementsAre(1, 0, 4, 1, 4));
  // The pair with fewest messages, the first of equals: 2 has used 4 once
  // when it asks again, and so has 5.
  EXPECT_THAT(chosen(SenderRule::greedy, needers, owners()),
              ElementsAre(4, 4, 4, 1, 1));
  // Near owners only, least sent first: 1 (100), 0 (110), then 1 again; 4 is
  // alone for 5.
  EXPECT_THAT(chosen(SenderRule::new_greedy, needers, owners()),
              ElementsAre(1, 0, 4, 1, 4));
  for (int r = 0; r < kSenderRules; ++r) {
    const auto rule = static_cast<SenderRule>(r);
    EXPECT_EQ(parse_sender_rule(name_of(rule)), rule);
  }
  EXPECT_FALSE(parse_sender_rule("best"));
}

}  // namespace
}  // namespace troupe::reshard
