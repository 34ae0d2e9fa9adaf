// The answer of an elastic run, as JSON and as a table.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "runs/elastic_run.h"

namespace troupe::runs {

/// The trace under the policy of the trace (first) and under the baselines.
struct Comparison {
  std::vector<Outcome> outcomes;
};

/// Predicted seconds of all changes of an outcome by sender rule, in one
/// bucket each; by SenderRule. Empty when no change was compared.
std::vector<Time> sender_totals(const Outcome& outcome);

/// Runs the trace as it is and, with `baselines`, under each of them.
///
/// Errors: as `run_trace`.
[[nodiscard]] Result<Comparison> compare_policies(const Trace& trace,
                                                  const Machinery& machinery,
                                                  bool baselines = true);

/// "troupe.elastic/1" of FORMAT.md.
Json to_json(const Trace& trace, const Comparison& comparison);
std::string to_table(const Trace& trace, const Comparison& comparison);

}  // namespace troupe::runs
