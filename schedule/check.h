// Verifies a schedule without running it.
#pragma once

#include "base/findings.h"
#include "clusters/cluster.h"
#include "schedule/schedule.h"

namespace troupe::schedule {

/// Indices in range, slices inside their arrays, orders that hold every
/// compute task of a stage exactly once. The other checks assume it.
Findings check_structure(const Schedule& schedule);

/// Operand shapes fit their operators; saved bytes and FLOPs add up.
Findings check_shapes(const Schedule& schedule);

/// Every hand-over has one producer and one consumer on the stages it
/// connects, its messages go between ranks of those stages, and each stage
/// does every micro-batch of every chunk once forward and once backward.
Findings check_messages(const Schedule& schedule);

/// Some order of all tasks satisfies every dependency.
Findings check_deadlock(const Schedule& schedule);

/// Devices exist, no device has two ranks, and no stage needs more memory
/// than its devices have beyond `reserve`: a warning, for a simulation is
/// still of interest.
Findings check_memory(const Schedule& schedule,
                      const clusters::Cluster& cluster, Bytes reserve);

/// All of the above; stops after the structure when that is broken.
Findings check_schedule(const Schedule& schedule,
                        const clusters::Cluster* cluster, Bytes reserve);

/// What is wrong with the operands of an operator's action, or empty: number,
/// roles and shapes as `Action` says. An interpreter may rely on it.
std::string action_problem(const Block& block, const Operator& op);

/// What is wrong with the block's weights and gradients under ZeRO, or empty:
/// weights that are read are gathered before and released afterwards,
/// gradients that are made are reduced once, when they are complete.
std::string sharing_problem(const Block& block);

}  // namespace troupe::schedule
