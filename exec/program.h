// What all ranks of a run share: the schedule and the plans that carry
// parameters and gradients between layouts.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "clusters/cluster.h"
#include "exec/sharing.h"
#include "exec/transform.h"
#include "reshard/resolve.h"
#include "schedule/placement.h"
#include "schedule/schedule.h"

namespace troupe::exec {

/// What one device holds of a parameter.
struct Share {
  std::vector<Box> compute, optimizer;
  /// Boxes of `optimizer` that count for sums over the parameter: no other
  /// device counts the same numbers.
  std::vector<bool> counted;
  Sharing sharing;  ///< of a parameter that is gathered or scattered
};

/// A parameter with the plans of one training step. Equal parameters of
/// several layers share their plans.
struct Weight {
  schedule::Placement placement;
  std::shared_ptr<const reshard::Plan> reduce;  ///< gradient to optimizer
  std::shared_ptr<const reshard::Plan> gather;  ///< optimizer to compute
  /// ZeRO 3: blocks gather it and there is no `gather`; ZeRO 2 and 3: blocks
  /// reduce its gradients to their owners and there is no `reduce`.
  bool gathered = false, scattered = false;
  std::shared_ptr<const std::map<reshard::DeviceId, Share>> shares;
};

/// Where the tensors of a block lie: in memory that is made anew for each
/// layer, or in what a forward keeps for its backward.
struct BlockMemory {
  /// By tensor: an offset, or -1 for one that lies elsewhere.
  std::vector<std::int64_t> temporary, saved;
  /// By tensor: a number that tensors of the same name share.
  std::vector<std::int32_t> name;
  Bytes temporaries, kept;  ///< in all
};

/// A schedule that interpreters can perform. Immutable, shared by all ranks.
struct Program {
  schedule::Schedule schedule;
  std::vector<Weight> weights;
  std::vector<BlockMemory> memory;  ///< by block
  kernels::DType dtype = kernels::DType::fp32;
  RankOf rank_of;
  /// Hand-overs that start when a task has ended, by task.
  std::vector<std::vector<schedule::TaskId>> sends;
  /// Whether a later task of the same stage takes a task's output.
  std::vector<bool> kept;
  /// Tasks after the last backward, in an order that suits every rank.
  std::vector<schedule::TaskId> step_end;
  std::string hash;  ///< of the schedule's content
  /// How often in a step a stage's ranks give gradients, by stage and number
  /// of the weight.
  std::map<std::pair<std::int32_t, std::size_t>, int> gifts;
  bool shares = false;  ///< some weight is gathered or scattered

  int gifts_of(RankId rank, std::size_t weight) const {
    const auto it = gifts.find({schedule.rank(rank).stage.v, weight});
    return it == gifts.end() ? 0 : it->second;
  }
};

/// Errors: input for a schedule without arithmetic (Numerics::unsupported,
///         context-parallel members of unequal tensor parallelism, heads that
///         tensor parallelism does not divide) or whose blocks do not bring
///         weights and gradients where they belong (schedule/check.h), and as
///         reshard::resolve.
Result<Program> make_program(schedule::Schedule schedule,
                             std::vector<schedule::Placement> placements,
                             const clusters::Cluster& cluster);

/// Full name of a block's parameter: "layers.3.mlp.up".
std::string parameter_name(int layer, std::string_view name);

}  // namespace troupe::exec
