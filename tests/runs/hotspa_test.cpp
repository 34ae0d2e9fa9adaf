// HotSPa's data path and experiments.
#include "runs/hotspa.h"

#include <gmock/gmock.h>
#include <rapidcheck/gtest.h>

#include <cstdlib>
#include <numeric>

#include "base/file.h"
#include "runs/switch_gain.h"
#include "tests/support/fixtures.h"

namespace troupe::runs {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<HotConfiguration> shipped() {
  const auto path = data_root() / "results/reference/hotspa/experiments.json";
  const auto json = read_json(path);
  EXPECT_TRUE(json.has_value());
  const auto all = read_hotspa(*json, "experiments.json");
  EXPECT_TRUE(all.has_value()) << (all ? "" : all.error().message);
  return all ? all->configurations : std::vector<HotConfiguration>{};
}

// Of a lognormal law, half are below exp(mu) = mean exp(-sigma^2 / 2), and the
// middle quantile of an odd number of documents is that.
TEST(TypicalBatch, FollowsItsLaw) {
  const LengthLaw law{"law", 1000, 0.8, 1};
  const auto lengths = typical_batch(law, 10'001, 1 << 20);
  EXPECT_TRUE(std::is_sorted(lengths.rbegin(), lengths.rend()));
  EXPECT_EQ(lengths[5000], static_cast<std::int64_t>(1000 * std::exp(-0.32)));
  const double mean = static_cast<double>(std::accumulate(
                          lengths.begin(), lengths.end(), std::int64_t{0})) /
                      10'001;
  EXPECT_NEAR(mean, 1000, 3);
  const auto cut = typical_batch(law, 100, 512);
  EXPECT_EQ(cut.front(), 512);
  EXPECT_EQ(typical_batch({"law", 10, 2, 16}, 100, 512).back(), 16);
}

// First fit, longest first, rows of 6: 5+1, 4+2, 3.
TEST(Packing, IsFirstFitFromTheLongest) {
  const auto rows = pack_in_buckets(std::vector<std::int64_t>{1, 2, 3, 4, 5},
                                    std::vector<std::int64_t>{6, 0});
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0].rows, 3);
  EXPECT_EQ(rows[0].tokens, 15);
}

RC_GTEST_PROP(Packing, KeepsEveryDocument,
              (const std::vector<std::uint16_t>& random)) {
  std::vector<std::int64_t> lengths;
  std::int64_t tokens = 0;
  for (const auto n : random) {
    lengths.push_back(1 + n % 4096);
    tokens += lengths.back();
  }
  const std::vector<std::int64_t> bounds{4096, 1000, 77, 0};
  std::int64_t documents = 0, sum = 0;
  for (const BucketRows& b : pack_in_buckets(lengths, bounds)) {
    documents += b.documents;
    sum += b.tokens;
    RC_ASSERT(b.rows <= b.documents);
    RC_ASSERT(b.rows * b.high >= b.tokens);
    // Two rows of first fit are never both at most half full.
    RC_ASSERT((b.rows - 1) * b.high <= 2 * b.tokens);
  }
  RC_ASSERT(documents == std::ssize(lengths));
  RC_ASSERT(sum == tokens);
}

TEST(Rows, AreDealtInTurn) {
  strategy::Phase phase;
  phase.pipelines.resize(4);
  deal_rows(phase, 6, 512);
  std::vector<int> counts;
  for (const auto& p : phase.pipelines) counts.push_back(p.micro_batches);
  EXPECT_THAT(counts, ElementsAre(2, 2, 1, 1));
  deal_rows(phase, 3, 512);
  EXPECT_EQ(phase.pipelines[2].seq_len, 512);
  EXPECT_EQ(phase.pipelines[3].seq_len, kDummyTokens);
  EXPECT_EQ(phase.pipelines[3].micro_batches, 1);
}

TEST(Experiments, AreFortyConfigurations) {
  const auto all = shipped();
  ASSERT_EQ(all.size(), 40U);
  // As the scripts have it: the second strategy takes the shortest bucket.
  EXPECT_EQ(to_string(all[0].strategies[1]), "dp8 tp1 pp1");
  EXPECT_EQ(all[0].bucket(0), 0U);
  EXPECT_EQ(all[0].bucket(1), 2U);
  EXPECT_EQ(all[0].bucket(2), 1U);
}

TEST(Experiments, AreThoseOfTheScripts) {
  const char* set = std::getenv("TROUPE_SHARED");
  const std::filesystem::path path =
      std::filesystem::path(set && *set ? set
                                        : TROUPE_SOURCE_DIR "/../shared") /
      "seeds-data/hotspa/paper_configs.json";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not here";
  const auto json = read_json(path);
  ASSERT_TRUE(json);
  const auto foreign = read_hotspa(*json, "paper_configs.json", {{}});
  ASSERT_TRUE(foreign) << foreign.error().message;
  const auto own = shipped();
  ASSERT_EQ(foreign->configurations.size(), own.size());
  for (std::size_t i = 0; i < own.size(); ++i) {
    EXPECT_EQ(foreign->configurations[i].model, own[i].model);
    EXPECT_EQ(foreign->configurations[i].cluster, own[i].cluster);
    EXPECT_EQ(foreign->configurations[i].bounds, own[i].bounds);
    EXPECT_EQ(foreign->configurations[i].strategies, own[i].strategies);
  }
}

TEST(Experiments, RunOnTheMachineTheirFileNames) {
  const auto json = parse_json(
      R"({"hardware": "8 A100-40G, one node", "configs": [{"model": "3b",
          "num_gpus": 8, "max_seq_len": 64, "bucket_bounds": [64, 0],
          "strategies": [{"dp": 8, "tp": 1, "pp": 1, "bucket": 0}]}]})",
      "x.json");
  const auto read = read_hotspa(*json, "x.json");
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->configurations[0].cluster, "a100-40-8");
  EXPECT_EQ(read->configurations[0].model, "hotspa-3b");
}

TEST(Experiments, SayWhatIsWrongInTheirFile) {
  const auto message = [](const char* text) {
    const auto json = parse_json(text, "x.json");
    EXPECT_TRUE(json.has_value());
    const auto read = read_hotspa(*json, "x.json");
    EXPECT_FALSE(read.has_value()) << text;
    return read ? std::string() : read.error().message;
  };
  EXPECT_THAT(message("{}"), HasSubstr("troupe.hotspa/1"));
  const std::string start =
      R"({"format": "troupe.hotspa/1", "corpora": [], "configurations": [)"
      R"({"model": "m", "cluster": "c", )";
  EXPECT_THAT(message((start + R"("bounds": [4, 8, 0],
                       "strategies": [[1, 1, 1], [1, 1, 1]]}]})")
                          .c_str()),
              HasSubstr("falling bounds"));
  EXPECT_THAT(message((start + R"("bounds": [8, 4, 0],
                       "strategies": [[1, 1, 1]]}]})")
                          .c_str()),
              HasSubstr("1 strategies for 2 buckets"));
  EXPECT_THAT(message((start + R"("bounds": [8, 0],
                       "strategies": [[1, 0, 1]]}]})")
                          .c_str()),
              HasSubstr("[dp, tp, pp]"));
}

TEST(Experiments, RunOnASmallModel) {
  const models::Model model = test::tiny_model(8);
  const auto cluster =
      test::cluster_of("8 x h100-sxm per node, 400 Gbit/s per GPU, 1 nodes");
  const test::FlatCosts costs;
  const HotConfiguration c{"",
                           "tiny",
                           "one node",
                           {1024, 256, 64, 0},
                           {{1, 4, 2}, {8, 1, 1}, {2, 2, 2}}};
  const LengthLaw law{"law", 120, 1.0, 4};
  const HotSetting setting{model, cluster, costs, {}, {}, 64};
  const auto result = perform_hotspa(c, law, setting);
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_TRUE(result->fits);
  ASSERT_EQ(result->hot.phases.size(), 3U);
  EXPECT_EQ(result->hot.switches.size(), 3U);
  ASSERT_GE(result->best, 0);
  for (const StaticStep& step : result->statics) {
    EXPECT_EQ(step.grid.dp * step.grid.tp * step.grid.pp, 8);
    if (step.fits) {
      EXPECT_GE(step.step,
                result->statics[static_cast<std::size_t>(result->best)].step);
    }
  }
  // Documents of no bucket but the shortest: the others are not run, but the
  // one that keeps the states.
  const auto plan = hot_plan(
      c, std::vector<BucketRows>{{256, 1024}, {64, 256}, {0, 64, 9, 90, 2}},
      model, cluster);
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->strategy.phases.size(), 2U);
  const auto wide =
      hot_plan({"", "tiny", "", {64, 0}, {{16, 1, 1}}},
               std::vector<BucketRows>{{0, 64, 1, 9, 1}}, model, cluster);
  ASSERT_FALSE(wide);
  EXPECT_THAT(wide.error().message, HasSubstr("16 devices"));
}

// Our senders are never worse than any rule, on any switch and shape.
TEST(SwitchGain, IsNeverALoss) {
  auto some = shipped();
  some.resize(8);
  for (const ClusterShape& shape : gain_shapes()) {
    const auto gain = switch_gain(some, shape);
    ASSERT_TRUE(gain) << gain.error().message;
    EXPECT_GT(gain->switches, 10);
    ASSERT_EQ(gain->rules.size(), 7U);
    const RuleGain& best = gain->rules.back();
    EXPECT_GE(best.total, gain->ours);
    EXPECT_GE(best.geometric, 1.0);
    for (const RuleGain& rule : gain->rules) {
      EXPECT_GE(rule.total, best.total) << rule.rule;
      EXPECT_GE(rule.geometric, best.geometric - 1e-12) << rule.rule;
      EXPECT_LE(rule.slower, gain->switches);
    }
  }
}

}  // namespace
}  // namespace troupe::runs
