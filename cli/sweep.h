// One field of a strategy or its cluster over several values.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "cli/options.h"
#include "cli/simulation.h"
#include "results/sweep.h"

namespace troupe::cli {

/// "gpus=64,128,...,1024" as field and values. Three dots continue the ratio
/// or the difference of the two values before them up to the one after.
///
/// Errors: input, for another form or more than 10,000 values.
Result<std::pair<std::string, std::vector<std::string>>> parse_sweep(
    const std::string& text);

/// What a swept `gpus` keeps: the work of a pipeline, or of the step.
enum class KeepWork { per_pipeline, per_step };

/// Simulates every point, several at a time; a point that fails holds its
/// error. `gpus` changes the number of pipelines; every other field is set as
/// `--set field=value` does.
///
/// Errors: input, for a base strategy that cannot be read; interrupted.
Result<results::Sweep> sweep(const StrategyOptions& base,
                             const std::string& field,
                             const std::vector<std::string>& values,
                             KeepWork keep, const std::string& profiles,
                             const SimulationOptions& options,
                             const std::string& phase = {});

/// The plan with as many pipelines as make `gpus` devices.
///
/// Errors: input, when whole pipelines cannot give that number.
Result<strategy::Plan> with_gpus(strategy::Plan plan, std::int64_t gpus,
                                 KeepWork keep);

}  // namespace troupe::cli
