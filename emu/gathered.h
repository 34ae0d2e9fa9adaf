// What the processes of an MPI job know, put together.
#pragma once

#include "emu/emulate.h"

namespace troupe::emu {

/// Makes `mine` the answer of all ranks, on every process: losses, the
/// largest deviations, the latest time, what was recorded. Every bit is kept.
///
/// With `saved` the state of the last segment's job, of which each process has
/// what its rank counts, becomes whole.
///
/// Requires: called by all ranks; prices are equal in all processes.
Result<void> gather(exec::Communicator& communicator,
                    std::span<const Segment> segments, std::int64_t last_step,
                    Emulation& mine, Checkpoint* saved);

/// Makes a checkpoint whole of which each process has what its rank counts.
///
/// Requires: called by all ranks.
Result<void> gather(exec::Communicator& communicator, std::size_t ranks,
                    const std::vector<exec::Weight>& weights,
                    Checkpoint& saved);

}  // namespace troupe::emu
