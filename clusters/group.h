// One group of equal nodes as a cluster file describes it, before it is
// expanded into devices and links.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/units.h"
#include "clusters/cluster.h"
#include "clusters/kinds.h"

namespace troupe::clusters {

/// Limits that keep an expanded cluster in memory.
inline constexpr std::int64_t kMostDevices = 1 << 18;
inline constexpr int kMostPerNode = 256;

/// NVLink between the GPUs of a node: a port per GPU into a switch or mesh.
struct NvlinkSpec {
  bool present = false;
  Bandwidth bandwidth;  ///< of a port, one direction
  Time latency;         ///< of a port
  int group = 0;        ///< consecutive GPUs that reach each other
};

struct PcieSpec {
  Bandwidth slot;           ///< one direction
  Time latency;             ///< of a slot
  int gpus_per_switch = 0;  ///< 0: every GPU at the root
  Bandwidth uplink;         ///< of a switch to the root
  int sockets = 1;
  Bandwidth socket;  ///< between two sockets, one direction
};

struct NicSpec {
  bool present = false;
  bool per_gpu = true;
  int count = 1;        ///< cards of the node unless per GPU
  Bandwidth bandwidth;  ///< of a card, one direction
  Time latency;
  bool behind_pcie = true;
};

struct GroupSpec {
  const DeviceKind* kind = nullptr;
  std::string name;  ///< nodes are called so with a number
  int per_node = 0;  ///< GPUs of a full node
  int nodes = 0;
  std::int64_t gpus = 0;  ///< in all; the last node may be partly filled
  NvlinkSpec nvlink;
  PcieSpec pcie;
  NicSpec nic;
  double price_per_node_hour = 0;
  std::vector<std::string> addresses;
};

/// The network between nodes.
struct NetworkSpec {
  Time latency;  ///< of a message between nodes, beside cards and slots
  Time hop;      ///< more when it passes the spine, per leaf link
  int nodes_per_leaf = 0;  ///< 0: one leaf, or one per rail
  double oversubscription = 1;
  bool rails = false;  ///< card i of every node is on leaf i
};

/// Reads one element of "nodes". `kinds` must outlive the result.
GroupSpec parse_group(JsonObject& object, const KindTable& kinds);
/// Reads "network"; the defaults when there is none.
NetworkSpec parse_network(JsonObject* object, Findings& findings);

}  // namespace troupe::clusters
