// The messages that collectives are made of: rings and two-level schemes.
#pragma once

#include <span>
#include <utility>
#include <vector>

#include "reshard/plan.h"

namespace troupe::reshard {

class Routes;

struct Flow {
  DeviceId from, to;
  double bytes = 0;
};

/// What groups send, and the latency of the steps that each device takes.
struct Traffic {
  std::vector<Flow> flows;
  std::vector<std::pair<DeviceId, Time>> latency;
};

/// Adds a group's collective to `traffic`.
///
/// Model:  ring: members in order of devices, node after node, as many rings
///         as the emptiest node has members, each through another card. Each
///         hop of an all-gather carries all but what the next member has, of
///         a reduce-scatter all but what the next member keeps, of an
///         all-reduce both. Two-level: as many members of each node as the
///         emptiest has take an equal share each; inside the node members
///         send them their part, they form rings between nodes, and give the
///         result to their node.
/// Source: NCCL's rings and its hierarchical all-reduce do the same.
void add_group(const Group& group, Operation operation, Algorithm algorithm,
               const Routes& routes, double element_bytes, Traffic& traffic);

/// Whether some group has members in two nodes and two in one of them: the
/// condition for a second level.
bool spans_nodes(std::span<const Group> groups,
                 const clusters::Cluster& cluster);

}  // namespace troupe::reshard
