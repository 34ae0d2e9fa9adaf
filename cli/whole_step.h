// A whole step, whoever performed it, as a run and as a timeline: kept,
// traced, compared.
#pragma once

#include <filesystem>
#include <span>

#include "cli/virtual_clock.h"
#include "results/run.h"
#include "results/timeline.h"

namespace troupe::cli {

/// The devices whose operators stand for a step: the first of every stage.
std::vector<clusters::DeviceId> stage_heads(const schedule::Schedule& schedule);

/// Start and end of every task that `tasks` knows, by the step's numbers.
sim::Run run_of(const schedule::Schedule& graph,
                const std::map<schedule::TaskId, exec::Span>& tasks);

/// The answer of a step. Of several parts: headline, no stages; its parts are
/// those of the device that is busiest, with what it waits for as "bubble".
results::RunResult whole_run(const VirtualJob& job, const SimulatedStep& step,
                             const sim::Run& run);

/// Tasks as `run` has them, operators as they were recorded.
results::Timeline timeline_of(const SimulatedStep& step, const sim::Run& run,
                              const std::vector<emu::DeviceTimes>& recorded);

/// The same of a simulated step, every operator of the stages' first devices.
results::Timeline simulated_timeline(const VirtualJob& job,
                                     const SimulatedStep& step,
                                     const sim::Run& run);

/// An emulated step as a Chrome trace. Of one part as `write_trace` does; of
/// several a process for each recorded device: its streams, its tasks, and the
/// switches that it takes part in.
///
/// Errors: io.
Result<void> write_emulated(const std::filesystem::path& path,
                            const VirtualJob& job, const SimulatedStep& step,
                            const sim::Run& run,
                            const std::vector<emu::DeviceTimes>& recorded);

}  // namespace troupe::cli
