// The simulate command, as others repeat it.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "results/run.h"

namespace troupe::cli {

/// Simulates what a kept run's command says, on the inputs as they are now.
/// Relative paths begin in `folder`; `phase` is the run's, for a command that
/// ran all of them.
///
/// Errors: input, for a command that is not of a simulation; as simulate.
Result<results::RunResult> simulate_again(
    const std::vector<std::string>& command, const std::string& phase,
    const std::string& folder);

}  // namespace troupe::cli
