// A run as one HTML file that needs nothing else: no script, no network, fit
// for a screen (light or dark) and for paper.
#pragma once

#include <filesystem>
#include <string>

#include "base/result.h"
#include "results/run.h"

namespace troupe::results {

/// Headline numbers, where the step goes, the pipelines over time, memory,
/// the cluster map, provenance, inputs and warnings. Under 5 MB.
std::string html_report(const RunResult& run);

/// Errors: io, with the system's reason.
Result<void> write_report(const std::filesystem::path& path,
                          const RunResult& run);

}  // namespace troupe::results
