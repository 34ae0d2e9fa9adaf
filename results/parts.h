// The parts that a run's numbers are made of, each named once for JSON,
// tables, charts and comparison.
#pragma once

#include <array>
#include <string_view>

#include "results/run.h"

namespace troupe::results {

/// One share of a step.
struct TimePart {
  std::string_view key;    ///< in JSON, and of the colour in a report
  std::string_view label;  ///< for a reader
  Time Breakdown::* member;
};
inline constexpr std::array<TimePart, 9> kTimeParts{{
    {"compute", "compute", &Breakdown::compute},
    {"tp", "tensor parallel", &Breakdown::tp},
    {"cp", "context parallel", &Breakdown::cp},
    {"pp", "pipeline transfer", &Breakdown::pp},
    {"bubble", "pipeline bubble", &Breakdown::bubble},
    {"dp", "gradient sync", &Breakdown::dp},
    {"optimizer", "optimizer", &Breakdown::optimizer},
    {"switch", "layout switch", &Breakdown::layout_switch},
    {"other", "other", &Breakdown::other},
}};

/// One thing that fills a device's memory.
struct MemoryPart {
  std::string_view key;
  std::string_view label;
  Bytes StageMemory::* member;
};
inline constexpr std::array<MemoryPart, 6> kMemoryParts{{
    {"parameters", "parameters", &StageMemory::parameters},
    {"gradients", "gradients", &StageMemory::gradients},
    {"optimizer", "optimizer", &StageMemory::optimizer},
    {"activations", "activations", &StageMemory::activations},
    {"workspace", "workspace", &StageMemory::workspace},
    {"reserve", "reserve", &StageMemory::reserve},
}};

/// Keys of RunResult::provenance, in its order.
inline constexpr std::array<std::string_view, 4> kProvenanceKeys{
    "measured", "interpolated", "derived", "roofline"};

/// The customs of counting utilisation, each under its own name.
struct Custom {
  std::string_view key;
  std::string_view label;
  std::string_view meaning;
  double RunResult::* member;
};
inline constexpr std::array<Custom, 4> kCustoms{{
    {"mfu", "MFU", "model FLOPs, causal attention as half, GPUs used",
     &RunResult::mfu},
    {"mfu_full_attention", "MFU, full attention",
     "causal attention counted in full", &RunResult::mfu_full_attention},
    {"mfu_whole_cluster", "MFU, whole cluster", "against every GPU there is",
     &RunResult::mfu_whole_cluster},
    {"hfu", "HFU", "recomputation counted too", &RunResult::hfu},
}};

/// Seconds as the double nearest to the exact decimal, so that it prints with
/// at most twelve decimals.
inline double seconds_of(Time time) {
  return static_cast<double>(time.v) / 1e12;
}

/// Calls `visit` with every time of a run, in a fixed order.
template <typename Run, typename Visit>
void for_each_time(Run& run, Visit visit) {
  visit(run.step_time);
  for (const TimePart& part : kTimeParts) visit(run.breakdown.*part.member);
  for (auto& stage : run.stages) {
    for (const TimePart& part : kTimeParts) {
      visit(stage.breakdown.*part.member);
    }
  }
  for (auto& bar : run.bars) {
    visit(bar.start);
    visit(bar.end);
  }
}

/// The stage whose peak is the largest share of its limit; nullptr without
/// stages.
inline const StageSummary* fullest_stage(const RunResult& run) {
  const StageSummary* fullest = nullptr;
  double most = -1;
  for (const StageSummary& stage : run.stages) {
    const double share =
        stage.memory.limit.v > 0 ? stage.memory.peak / stage.memory.limit : 0;
    if (share > most) {
      most = share;
      fullest = &stage;
    }
  }
  return fullest;
}

}  // namespace troupe::results
