// HotSPa's experiments: hot switching between strategies by document length
// against one strategy for all, on the same batch.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runs/hotspa_batch.h"
#include "runs/step.h"

namespace troupe::runs {

/// dp, tp, pp of equal pipelines.
struct Grid {
  int dp = 1, tp = 1, pp = 1;
  bool operator==(const Grid&) const = default;
};
std::string to_string(const Grid& grid);  ///< "dp1 tp4 pp2"

/// One configuration: what runs on which bucket.
struct HotConfiguration {
  std::string combination;
  std::string model, cluster;  ///< shipped names or files
  std::vector<std::int64_t> bounds;
  /// The first takes the longest bucket, the others the rest from the
  /// shortest up.
  std::vector<Grid> strategies;

  /// The bucket of strategy `index`, 0 being the longest.
  std::size_t bucket(std::size_t index) const {
    return index == 0 ? 0 : strategies.size() - index;
  }
};

/// All of a file: each configuration runs on each corpus.
struct HotExperiments {
  std::string source;
  std::int64_t global_batch = 512;
  std::vector<LengthLaw> corpora;
  std::vector<HotConfiguration> configurations;
};

/// Reads "troupe.hotspa/1", or configurations as HotSPa's scripts have them
/// ({"configs": [...]}), which run on `corpora`.
///
/// Errors: input, all problems together.
Result<HotExperiments> read_hotspa(const Json& json, const std::string& name,
                                   const std::vector<LengthLaw>& corpora = {});

/// A batch under one strategy.
struct StaticStep {
  Grid grid;
  Time step;
  double mfu = 0;
  Bytes memory;  ///< of the fullest device
  bool fits = false;
};

/// A bucket's documents alone under each strategy: how good the configured
/// one is.
struct BucketChoice {
  std::size_t bucket = 0;
  Grid chosen, best;
  Time chosen_time, best_time;  ///< `best` fits, if any does
  bool chosen_fits = false;
};

/// One experiment's answer.
struct HotResult {
  StepTimes hot;
  std::vector<BucketRows> buckets;
  Bytes memory;  ///< of the fullest device over the whole step
  bool fits = false;
  std::vector<StaticStep> statics;  ///< every grid of the cluster that divides
  /// The fastest that fits, or -1.
  int best = -1;
  std::vector<BucketChoice> choices;  ///< of buckets with documents
};

struct HotSetting {
  const models::Model& model;
  const clusters::Cluster& cluster;
  const profiles::CostModel& costs;
  StepOptions options;
  Bytes reserve;  ///< memory no task may use
  std::int64_t global_batch = 512;
};

/// The strategy of a configuration with a batch's rows dealt out, in the order
/// of the list; rules say the lengths.
///
/// Errors: input, when a grid does not fit model or cluster.
Result<strategy::Plan> hot_plan(const HotConfiguration& configuration,
                                std::span<const BucketRows> buckets,
                                const models::Model& model,
                                const clusters::Cluster& cluster);

/// Performs one experiment with all its baselines.
///
/// Model:  baselines pack all documents into rows of the longest bound and
///         run them under one grid: every dp x tp x pp that uses all devices,
///         with tp up to 16 and pp up to 8 that divide heads, FFN and layers.
/// Errors: as `perform_step`.
Result<HotResult> perform_hotspa(const HotConfiguration& configuration,
                                 const LengthLaw& corpus,
                                 const HotSetting& setting);

}  // namespace troupe::runs
