// What a cluster is: devices, the nodes they sit in, and directed links with
// bandwidth and latency. Nothing of models.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/id.h"
#include "base/units.h"
#include "kernels/operator.h"

namespace troupe::clusters {

using DeviceId = Id<struct DeviceTag>;  ///< global, dense, node by node
using NodeId = Id<struct NodeTag>;
using KindId = Id<struct KindTag>;
using LinkId = Id<struct LinkTag>;

/// One type of GPU.
struct DeviceKind {
  std::string name;  ///< "h100-sxm", the key of profile rows
  std::string full_name;
  std::string source;                       ///< datasheet
  std::map<kernels::DType, FlopRate> peak;  ///< dense, per dtype
  Bytes memory;
  Bandwidth memory_bandwidth;
  Bandwidth nvlink;            ///< all its NVLinks, one direction; 0 when none
  bool nvlink_bridge = false;  ///< a card whose NVLink only bridges pairs
  Bandwidth pcie;              ///< its slot, one direction, nominal
  int sm_count = 0;
  double price_per_hour = 0;  ///< USD per device, 0 when unknown

  bool operator==(const DeviceKind&) const = default;
};

/// What a link is made of; efficiency curves and reports go by class.
enum class LinkClass : std::uint8_t {
  nvlink,  ///< a GPU's port into NVSwitch or an NVLink mesh
  pcie,    ///< a GPU's PCIe slot
  bridge,  ///< a PCIe switch's uplink, or the path between sockets
  nic,     ///< a network card, one direction
  fabric,  ///< leaf and spine of the network between nodes
};
std::string_view name_of(LinkClass link_class);

/// One direction of a shared resource that data crosses.
struct Link {
  std::string name;  ///< "node3/gpu5/nvlink/out"
  LinkClass link_class = LinkClass::nvlink;
  Bandwidth bandwidth;  ///< nominal
  Time latency;
};

struct Device {
  KindId kind;
  NodeId node;
  int index = 0;  ///< within its node
};

struct Node {
  std::string name;
  std::string address;  ///< of a hostfile, else empty
  std::vector<DeviceId> devices;
  double price_per_hour = 0;  ///< USD per node; 0 when unknown
};

/// A list of at most 8 links that allocates nothing; the longest route is
/// slot, switch, card, leaf and the same again on the other side.
class LinkList {
 public:
  static constexpr std::size_t kMost = 8;

  /// Requires: size() < kMost.
  void push_back(LinkId link) { links_[count_++] = link; }
  std::size_t size() const { return count_; }
  bool empty() const { return count_ == 0; }
  LinkId operator[](std::size_t i) const { return links_[i]; }
  const LinkId* begin() const { return links_.data(); }
  const LinkId* end() const { return links_.data() + count_; }
  bool operator==(const LinkList&) const = default;

 private:
  std::array<LinkId, kMost> links_{};
  std::uint32_t count_ = 0;
};

/// The links a message crosses, in order.
struct Route {
  LinkList links;
  Time latency;  ///< sum over the links
};

/// A cluster with everything expanded. Built by `parse_cluster`
/// (clusters/read.h); `route` answers how two devices are connected.
class Cluster {
 public:
  std::string name;
  std::string source;
  std::vector<DeviceKind> kinds;
  std::vector<Node> nodes;
  std::vector<Device> devices;
  std::vector<Link> links;
  /// What looked odd while reading, such as a peak like a sparse figure.
  std::vector<std::string> warnings;

  const DeviceKind& kind_of(DeviceId device) const {
    return kinds[devices[device.at()].kind.at()];
  }
  bool same_node(DeviceId a, DeviceId b) const {
    return devices[a.at()].node == devices[b.at()].node;
  }
  /// Links from `from` to `to`; empty with zero latency when they are equal.
  ///
  /// Model: the same NVLink group: out and in port. Else the same node: PCIe
  ///        slots, with the switch uplinks and the path between sockets where
  ///        they differ. Else: slot (unless the NIC has its own path) and the
  ///        uplink of its switch if the NIC is at the root, NIC out, leaf up
  ///        and down when the leaves differ and are oversubscribed, NIC in and
  ///        the way to the slot.
  Route route(DeviceId from, DeviceId to) const;

  /// How a device reaches its node and the network; filled by the reader.
  struct Port {
    LinkId nvlink_out, nvlink_in;  ///< invalid when there is no NVLink
    int nvlink_group = -1;         ///< equal groups reach each other; global
    LinkId pcie_out, pcie_in;
    int pcie_switch = -1;         ///< switch within the node, -1 for the root
    LinkId nic_out, nic_in;       ///< invalid when it has no network
    bool nic_behind_pcie = true;  ///< false when the NIC has its own path
    bool nic_at_root = false;     ///< the way to it crosses switch uplinks
    int leaf = -1;                ///< network switch of its NIC
  };
  struct PcieSwitch {
    LinkId up_out, up_in;  ///< to the root complex; invalid for the root
    int socket = 0;
  };
  struct NodePaths {
    std::vector<PcieSwitch> switches;
    LinkId socket_out, socket_in;  ///< socket 0 to 1 and back, if modelled
  };
  struct Leaf {
    LinkId up_out, up_in;  ///< to the spine; invalid when not a bottleneck
  };
  std::vector<Port> ports;       ///< by device
  std::vector<NodePaths> paths;  ///< by node
  std::vector<Leaf> leaves;
};

/// Sum of the devices' dense peaks for `dtype`; a kind without the dtype
/// adds nothing.
FlopRate peak_of(const Cluster& cluster, kernels::DType dtype);

/// "8 x h20 per node, 96 nodes, 400 Gbit/s per GPU + ...": the short form
/// that `read_cluster` understands, with kinds, counts and network cards.
std::string describe(const Cluster& cluster);

}  // namespace troupe::clusters
