// The pictures of a report, each an SVG element with its legend.
#pragma once

#include <string>

#include "results/run.h"

namespace troupe::results {

/// The critical device's step as one bar, then one per group of equal stages.
std::string breakdown_chart(const RunResult& run);

/// What each group of equal stages does when: rows are stages, time runs to
/// the right. At most 48 rows; beyond 12,000 bars without tooltips, bars that
/// would touch on the screen drawn as one.
std::string timeline_chart(const RunResult& run);

/// Memory at its peak against the limit, for each group of equal stages.
std::string memory_chart(const RunResult& run);

/// Nodes as boxes coloured by kind, devices coloured by pipeline; a square
/// per node beyond 512 nodes, and at most 8,192 of them.
std::string cluster_chart(const RunResult& run);

/// Shares of the critical path by how its costs are known.
std::string provenance_chart(const RunResult& run);

}  // namespace troupe::results
