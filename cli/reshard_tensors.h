// Where `troupe reshard` takes the layouts of a whole model's tensors from.
#pragma once

#include <string>
#include <vector>

#include "cli/reshard_switch.h"
#include "clusters/cluster.h"
#include "reshard/switch.h"
#include "strategy/tensor_layouts.h"

namespace troupe::cli {

/// What a file, or the name of a strategy, may hold.
enum class SideKind : std::uint8_t {
  tensor,     ///< the layout of one tensor
  layouts,    ///< of all tensors of a model, as `troupe annotate` prints them
  ds_config,  ///< of all tensors, as HSPMD and HotSPa write them
  strategy,   ///< neither: something to load
};
/// Errors: io, input for a file that is no JSON.
Result<SideKind> kind_of_side(const std::string& given);

/// One side of a switch.
struct TensorSide {
  std::string name;
  std::vector<strategy::TensorLayout> tensors;
  std::optional<clusters::Cluster> cluster;  ///< of a strategy
};

/// Reads or derives the layouts for `use` of phase `phase` (or `otherwise`).
///
/// Errors: input, also for a ds_parallel_config without a model to give the
///         shapes, or for another use than compute.
Result<TensorSide> tensors_of(const SwitchCommand& command,
                              const std::string& given,
                              const std::string& phase,
                              const std::string& otherwise, strategy::Use use);

/// Tensor by tensor.
///
/// Errors: input, naming what one side lacks or holds in another shape.
Result<std::vector<reshard::TensorChange>> changes_between(
    const TensorSide& from, const TensorSide& to, kernels::DType dtype);

/// The cluster that was named, or a strategy's, or enough nodes of eight H100.
Result<clusters::Cluster> cluster_of(
    const SwitchCommand& command, const TensorSide& from, const TensorSide& to,
    const std::vector<reshard::TensorChange>& changes);
/// Enough nodes of eight H100 for a device.
Result<clusters::Cluster> nodes_for(clusters::DeviceId last);

}  // namespace troupe::cli
