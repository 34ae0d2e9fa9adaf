// Expands groups of nodes into devices, links and ports.
#pragma once

#include <span>

#include "clusters/cluster.h"
#include "clusters/group.h"

namespace troupe::clusters {

/// Adds the nodes of `groups`, in order, to `cluster`, whose name and source
/// are set. Ids are dense and in the order of the file.
///
/// Requires: every group valid, at most kMostDevices GPUs in all.
void build(Cluster& cluster, std::span<const GroupSpec> groups,
           const NetworkSpec& network);

}  // namespace troupe::clusters
