// Chooses devices for tensor-parallel groups, node by node.
#pragma once

#include <optional>
#include <vector>

#include "clusters/cluster.h"
#include "strategy/strategy.h"

namespace troupe::strategy {

/// The devices of a cluster that are not taken, by node.
class NodeFiller {
 public:
  explicit NodeFiller(const clusters::Cluster& cluster);

  /// Devices for the `stages` groups of one pipeline, `size` each. A group
  /// stays in one node; nodes are tried from the fullest to the emptiest,
  /// and a pass over the nodes puts at most one group of the pipeline into
  /// each, so that stages spread. A group larger than a node takes whole
  /// empty nodes. Nothing when they do not fit; then nothing is taken.
  ///
  /// Source: Hydraulis' placement of a strategy.
  std::optional<std::vector<std::vector<DeviceId>>> place_pipeline(int stages,
                                                                   int size);
  /// One group in the first node that has room for it.
  std::optional<std::vector<DeviceId>> place_group(int size);

 private:
  std::vector<DeviceId> take(std::size_t node, int size);
  std::optional<std::vector<DeviceId>> take_nodes(int size);

  const clusters::Cluster* cluster_;
  std::vector<int> used_;  ///< devices taken of each node, from its first
};

}  // namespace troupe::strategy
