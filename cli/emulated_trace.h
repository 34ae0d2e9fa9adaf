// A trace of cluster events (runs/FORMAT.md) performed by ranks.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cli/emulation.h"
#include "cli/options.h"

namespace troupe::cli {

/// A trace with the course that it comes to.
struct TraceCourse {
  runs::Trace trace;
  std::vector<std::unique_ptr<strategy::Plan>> plans;
  Course course;
};

/// Strategies that no event names are chosen by simulated steps, whose prices
/// come from the database `profiles`.
///
/// Errors: as runs::load_trace and runs::script_of.
Result<TraceCourse> load_course(const StrategyOptions& source,
                                const std::string& profiles);

/// "stretches" and "events", and "stopped" where the run did not go on.
void add_history(const Course& course, const runs::History& history, Json& out);
/// The same for people.
std::string history_text(const Course& course, const runs::History& history);

}  // namespace troupe::cli
