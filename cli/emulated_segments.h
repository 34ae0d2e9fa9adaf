// From strategies and what happens between them to the segments that ranks
// perform.
#pragma once

#include <memory>
#include <vector>

#include "cli/emulation.h"

namespace troupe::cli {

/// A phase as ranks perform it. `like`: the schedule that hand-overs are to be
/// performed as in.
Result<exec::Program> program_of(const strategy::Plan& plan, std::size_t phase,
                                 const schedule::Schedule* like = {});

/// Segments with everything that they refer to.
struct Rehearsal {
  /// By strategy of the course: small, in the arithmetic's type.
  std::vector<strategy::Plan> plans;
  std::vector<std::unique_ptr<exec::Job>> jobs;
  std::vector<std::unique_ptr<exec::PeerCopies>> copies;
  runs::History history;
  std::vector<emu::Segment> segments;
};

/// Errors: input, for what has no arithmetic; infeasible, for a model too
///         large to hold here, and without a trace for state that is lost.
Result<Rehearsal> rehearse(const Course& course,
                           const EmulationRequest& request);

}  // namespace troupe::cli
