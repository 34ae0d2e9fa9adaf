// An emulated step as a run like any other: kept, traced, compared.
#pragma once

#include <filesystem>

#include "emu/emulate.h"
#include "results/run.h"
#include "sim/engine.h"

namespace troupe::cli {

/// The ranks whose tasks make up a step: the first of every stage.
std::vector<exec::RankId> stage_heads(const schedule::Schedule& schedule);

/// Start and end of every task, as the recorded ranks had them.
///
/// Requires: `stage_heads` were recorded.
sim::Run run_of(const schedule::Schedule& schedule,
                const std::vector<emu::RankTimes>& recorded);

/// Operators of the recorded ranks, as a trace wants them.
std::vector<sim::OperatorRecord> records_of(
    const std::vector<emu::RankTimes>& recorded);

}  // namespace troupe::cli
