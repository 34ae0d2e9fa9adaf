// What all ranks of a run share: the schedule and the plans that carry
// parameters and gradients between layouts.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "clusters/cluster.h"
#include "exec/transform.h"
#include "reshard/resolve.h"
#include "schedule/placement.h"
#include "schedule/schedule.h"

namespace troupe::exec {

/// A parameter with the plans of one training step.
struct Weight {
  schedule::Placement placement;
  reshard::Plan reduce;  ///< gradient to optimizer layout
  reshard::Plan gather;  ///< optimizer to compute layout
};

/// A schedule that interpreters can perform. Immutable, shared by all ranks.
struct Program {
  schedule::Schedule schedule;
  std::vector<Weight> weights;
  kernels::DType dtype = kernels::DType::fp32;
  RankOf rank_of;
  /// Hand-overs that start when a task has ended, by task.
  std::vector<std::vector<schedule::TaskId>> sends;
  /// Whether a later task of the same stage takes a task's output.
  std::vector<bool> kept;
  /// Tasks after the last backward, in an order that suits every rank.
  std::vector<schedule::TaskId> step_end;
  std::string hash;  ///< of the schedule's content
};

/// Errors: input for a schedule without arithmetic (Numerics::unsupported,
///         context-parallel members of unequal tensor parallelism, heads that
///         tensor parallelism does not divide), and as reshard::resolve.
Result<Program> make_program(schedule::Schedule schedule,
                             std::vector<schedule::Placement> placements,
                             const clusters::Cluster& cluster);

/// Full name of a block's parameter: "layers.3.mlp.up".
std::string parameter_name(int layer, std::string_view name);

}  // namespace troupe::exec
