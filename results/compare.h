// Two runs side by side.
#pragma once

#include <string>

#include "base/json.h"
#include "results/run.h"

namespace troupe::results {

/// Every number that a reader compares, as {"a", "b", "difference", "ratio"}.
///
/// Model: difference = b - a, ratio = b / a (null when a is 0). `stages` has
///        a row per stage when both runs have as many and in the same order,
///        else it is null with the reason in `stages_differ`. `inputs` has
///        both hashes of each role and whether they are the `same`.
Json compare(const RunResult& a, const RunResult& b);

/// The same as text: headline, parts of the step, memory, stages, inputs.
std::string compare_table(const RunResult& a, const RunResult& b);

}  // namespace troupe::results
