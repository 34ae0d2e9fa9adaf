// The order of one stage's compute tasks: 1F1B, GPipe, interleaved 1F1B, or
// one that a person wrote.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "schedule/schedule.h"
#include "strategy/strategy.h"

namespace troupe::schedule {

/// One compute task of a stage before it has an id.
struct Slot {
  TaskKind kind = TaskKind::forward;
  int chunk = 0;
  int micro_batch = 0;
  auto operator<=>(const Slot&) const = default;
};

/// One-forward-one-backward: stage `stage` of `stages` warms up with
/// min(M, stages - 1 - stage) forwards, alternates, then drains. Also right
/// for fewer micro-batches than stages.
///
/// Source: Narayanan et al., PipeDream-Flush, ICML 2021.
std::vector<Slot> one_f_one_b(int stage, int stages, int micro_batches);

/// All forwards, then all backwards, both in order.
///
/// Source: Huang et al., GPipe, NeurIPS 2019.
std::vector<Slot> gpipe(int micro_batches);

/// Interleaved 1F1B with `chunks` virtual stages per stage: micro-batches go
/// in groups of `stages` through one chunk after another. A last group that
/// is smaller is allowed.
///
/// Source: Narayanan et al., SC 2021, section 2.2.
std::vector<Slot> interleaved(int stage, int stages, int chunks,
                              int micro_batches);

/// Reads a task order: `{"stages": [["F0","F1","B0",...], ...]}` for every
/// pipeline alike, or `{"pipelines": [{"stages": ...}, ...]}`. A slot is
/// F (forward), B (backward), I (input gradient) or W (weight gradient), a
/// micro-batch and, when interleaved, ".chunk".
///
/// Errors: input, for a spelling, a missing, repeated or misplaced slot.
Result<std::vector<std::vector<std::vector<Slot>>>> parse_order(
    const Json& json, const std::string& where, const strategy::Phase& phase);

/// "F3", "B0.1".
std::string to_string(const Slot& slot);

}  // namespace troupe::schedule
