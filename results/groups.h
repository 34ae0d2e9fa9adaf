// Stages that are alike, put together, so that 16 equal pipelines read as one.
#pragma once

#include <string>
#include <vector>

#include "results/run.h"

namespace troupe::results {

/// Stages of the same number in pipelines that are built alike: the same
/// devices' kind, degrees, layers, micro-batches and memory, stage by stage.
/// Times may differ between them; `slowest` has the most work.
struct StageGroup {
  std::vector<int> pipelines;  ///< ascending
  const StageSummary* slowest = nullptr;
  bool out_of_memory = false;  ///< of any of them
};

/// Groups in the order of their first pipeline, then of stages. Points into
/// `run`, which must outlive them.
std::vector<StageGroup> group_stages(const RunResult& run);

/// Seconds a stage computes and communicates, not waiting for other stages.
double busy_seconds(const Breakdown& breakdown);

/// "pipeline 3" or "pipelines 0-3, 8" (at most a few runs, then "...").
std::string pipelines_text(const std::vector<int>& pipelines,
                           int most_runs = 6);
/// The same without the word: "0-3,8".
std::string ranges_text(const std::vector<int>& numbers, int most_runs = 6);

}  // namespace troupe::results
