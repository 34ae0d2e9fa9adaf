// What a cluster is: devices, the nodes they sit in, and directed links with
// bandwidth and latency. Nothing of models.
#pragma once

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
  int sm_count = 0;
  double price_per_hour = 0;  ///< USD per device, 0 when unknown
};

/// What a link is made of; efficiency curves and reports go by class.
enum class LinkClass : std::uint8_t {
  nvlink,   ///< a GPU's port into NVSwitch or an NVLink mesh
  pcie,     ///< a GPU's PCIe slot
  bridge,   ///< a PCIe switch's uplink, or the path between sockets
  nic,      ///< a network card, one direction
  fabric,   ///< leaf and spine of the network between nodes
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

/// The links a message crosses, in order; at most 8.
struct Route {
  std::vector<LinkId> links;
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

  const DeviceKind& kind_of(DeviceId device) const {
    return kinds[devices[device.at()].kind.at()];
  }
  bool same_node(DeviceId a, DeviceId b) const {
    return devices[a.at()].node == devices[b.at()].node;
  }
  /// Links from `from` to `to`; empty with zero latency when they are equal.
  Route route(DeviceId from, DeviceId to) const;

  /// How a device reaches its node and the network; filled by the reader.
  struct Port {
    LinkId nvlink_out, nvlink_in;  ///< invalid when there is no NVLink
    int nvlink_group = -1;         ///< equal groups reach each other
    LinkId pcie_out, pcie_in;
    int pcie_switch = -1;  ///< switch within the node, -1 for the root
    LinkId nic_out, nic_in;
    bool nic_behind_pcie = true;  ///< false when the NIC has its own path
    int leaf = -1;                ///< network switch of its NIC
  };
  struct PcieSwitch {
    LinkId up_out, up_in;  ///< to the root complex; invalid for the root
    int socket = 0;
  };
  struct NodePaths {
    std::vector<PcieSwitch> switches;
    LinkId socket_out, socket_in;  ///< between the two sockets, if modelled
  };
  struct Leaf {
    LinkId up_out, up_in;  ///< to the spine; invalid when not a bottleneck
  };
  std::vector<Port> ports;       ///< by device
  std::vector<NodePaths> paths;  ///< by node
  std::vector<Leaf> leaves;
};

/// Sum of the devices' dense peaks for `dtype`.
FlopRate peak_of(const Cluster& cluster, kernels::DType dtype);

}  // namespace troupe::clusters
