// What one device alone comes to in every step of a job's segments.
#pragma once

#include "emu/emulate.h"

namespace troupe::emu {

/// A snapshot for each step. Steps that live until the end are one run without
/// an interruption; steps that are undone later are the end of a run of their
/// own.
///
/// Errors: as `run_alone`.
Result<std::vector<Snapshot>> truth_of(std::span<const Segment> segments,
                                       const std::vector<StepBatches>& batches,
                                       const EmulationOptions& options,
                                       const ProgramFor& program_for);

}  // namespace troupe::emu
