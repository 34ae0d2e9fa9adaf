// A performed schedule as a Chrome trace: tasks by stage, or operators of
// one rank per stage of the first pipelines.
#pragma once

#include <filesystem>
#include <span>
#include <vector>

#include "base/result.h"
#include "schedule/schedule.h"
#include "sim/engine.h"

namespace troupe::cli {

inline constexpr std::size_t kMostTracedOperators = 2'000'000;

/// The first rank of each stage of the first two pipelines, ascending.
std::vector<schedule::RankId> traced_ranks(const schedule::Schedule& schedule);

/// A process per pipeline, a track per stage and stream; gzip when the name
/// ends in .gz. `cut`: some operators were left out.
Result<void> write_trace(const std::filesystem::path& path,
                         const schedule::Schedule& schedule,
                         const sim::Run& run,
                         std::span<const sim::OperatorRecord> operators,
                         bool cut = false);

}  // namespace troupe::cli
