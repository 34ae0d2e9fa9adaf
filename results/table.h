// What a terminal shows of runs. Plain ASCII: no colours, no box drawing, so
// that it pastes anywhere.
#pragma once

#include <string>
#include <vector>

#include "results/run.h"
#include "results/store.h"

namespace troupe::results {

/// The answer of `troupe simulate`: headline, customs of MFU, where the step
/// goes, stages (equal pipelines together), provenance, warnings. About 40
/// lines for 16 pipelines of 8 stages; at most 48 rows of stages.
std::string to_table(const RunResult& run);

/// The list of `troupe runs`, a line each.
std::string to_table(const std::vector<StoredRun>& runs);

}  // namespace troupe::results
