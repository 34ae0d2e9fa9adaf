#include "clusters/build.h"

#include <fmt/compile.h>
#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace troupe::clusters {
namespace {

/// Which PCIe switch of a full node a GPU is behind. Switches never span
/// sockets; without switches a root port per socket stands in for one.
struct PcieLayout {
  int per_socket;
  int per_switch;

  explicit PcieLayout(const GroupSpec& group)
      : per_socket((group.per_node + group.pcie.sockets - 1) /
                   group.pcie.sockets),
        per_switch(group.pcie.gpus_per_switch > 0
                       ? std::min(group.pcie.gpus_per_switch, per_socket)
                       : per_socket) {}
  int socket_of(int gpu) const { return gpu / per_socket; }
  int switch_of(int gpu) const {
    const int per_socket_switches = (per_socket + per_switch - 1) / per_switch;
    return socket_of(gpu) * per_socket_switches + gpu % per_socket / per_switch;
  }
};

/// Makes the links of a cluster, node by node.
class Builder {
 public:
  Builder(Cluster& cluster, const NetworkSpec& network)
      : c_(cluster), network_(network) {}

  void add_group(const GroupSpec& group) {
    const KindId kind = kind_id(*group.kind);
    for (int i = 0; i < group.nodes; ++i) {
      const std::int64_t left = group.gpus - std::int64_t{i} * group.per_node;
      const int gpus =
          static_cast<int>(std::min<std::int64_t>(left, group.per_node));
      add_node(group, kind, gpus);
      if (!group.addresses.empty()) {
        c_.nodes.back().address = group.addresses[static_cast<std::size_t>(i)];
      }
    }
  }

  /// Gives every leaf its links to the spine, when they are a bottleneck.
  void finish_leaves() {
    if (network_.oversubscription <= 1) return;
    for (std::size_t i = 0; i < c_.leaves.size(); ++i) {
      const Bandwidth up{leaf_nics_[i].v / network_.oversubscription};
      if (up.v <= 0) continue;
      c_.leaves[i].up_out = link(fmt::format("leaf{}/up/out", i),
                                 LinkClass::fabric, up, network_.hop);
      c_.leaves[i].up_in = link(fmt::format("leaf{}/up/in", i),
                                LinkClass::fabric, up, network_.hop);
    }
  }

 private:
  LinkId link(std::string name, LinkClass link_class, Bandwidth bandwidth,
              Time latency) {
    c_.links.push_back({std::move(name), link_class, bandwidth, latency});
    return make_id<LinkId>(c_.links.size() - 1);
  }

  /// "node3/gpu5/nvlink/out" and ".../in".
  void pair(std::string_view node, const char* what, int index,
            const char* part, LinkClass link_class, Bandwidth bandwidth,
            Time latency, LinkId& out, LinkId& in) {
    std::string name;
    fmt::format_to(std::back_inserter(name), FMT_COMPILE("{}/{}{}{}/"), node,
                   what, index, part);
    out = link(name + "out", link_class, bandwidth, latency);
    in = link(std::move(name) + "in", link_class, bandwidth, latency);
  }

  KindId kind_id(const DeviceKind& kind) {
    for (std::size_t i = 0; i < c_.kinds.size(); ++i) {
      if (c_.kinds[i].name == kind.name) return make_id<KindId>(i);
    }
    c_.kinds.push_back(kind);
    return make_id<KindId>(c_.kinds.size() - 1);
  }

  void add_node(const GroupSpec& group, KindId kind, int gpus) {
    const NodeId id = make_id<NodeId>(c_.nodes.size());
    Node node{.name = fmt::format("{}{}", group.name, id.v),
              .address = {},
              .devices = {},
              .price_per_hour = group.price_per_node_hour};
    if (node.price_per_hour == 0) {
      node.price_per_hour = group.kind->price_per_hour * gpus;
    }
    const std::size_t first = c_.ports.size();
    for (int g = 0; g < gpus; ++g) {
      node.devices.push_back(make_id<DeviceId>(c_.devices.size()));
      c_.devices.push_back({kind, id, g});
      c_.ports.emplace_back();
    }
    add_nvlink(group, node.name, first, gpus);
    add_pcie(group, node.name, first, gpus);
    if (group.nic.present) add_nics(group, node.name, id, first, gpus);
    c_.nodes.push_back(std::move(node));
  }

  void add_nvlink(const GroupSpec& group, std::string_view node,
                  std::size_t first, int gpus) {
    const NvlinkSpec& spec = group.nvlink;
    if (!spec.present) return;
    for (int g = 0; g < gpus; ++g) {
      Cluster::Port& port = c_.ports[first + static_cast<std::size_t>(g)];
      pair(node, "gpu", g, "/nvlink", LinkClass::nvlink, spec.bandwidth,
           spec.latency, port.nvlink_out, port.nvlink_in);
      if (g % spec.group == 0) ++nvlink_groups_;
      port.nvlink_group = nvlink_groups_ - 1;
    }
  }

  void add_pcie(const GroupSpec& group, std::string_view node,
                std::size_t first, int gpus) {
    const PcieSpec& spec = group.pcie;
    const PcieLayout layout(group);
    Cluster::NodePaths paths;
    const bool real = spec.gpus_per_switch > 0;
    for (int g = 0; g < gpus; ++g) {
      Cluster::Port& port = c_.ports[first + static_cast<std::size_t>(g)];
      pair(node, "gpu", g, "/pcie", LinkClass::pcie, spec.slot, spec.latency,
           port.pcie_out, port.pcie_in);
      if (!real && spec.sockets == 1) continue;
      port.pcie_switch = layout.switch_of(g);
      if (port.pcie_switch < static_cast<int>(paths.switches.size())) continue;
      Cluster::PcieSwitch& s = paths.switches.emplace_back();
      s.socket = layout.socket_of(g);
      if (!real) continue;
      pair(node, "switch", port.pcie_switch, "/up", LinkClass::bridge,
           spec.uplink, {}, s.up_out, s.up_in);
    }
    if (spec.sockets > 1 && gpus > layout.per_socket) {
      pair(node, "socket", 0, "", LinkClass::bridge, spec.socket, {},
           paths.socket_out, paths.socket_in);
    }
    c_.paths.push_back(std::move(paths));
  }

  /// True when the card `nic` of a node is used behind several switches.
  static bool at_root(const GroupSpec& group, int nic) {
    if (group.nic.per_gpu || group.pcie.gpus_per_switch == 0) return false;
    const PcieLayout layout(group);
    int first = -1;
    for (int g = 0; g < group.per_node; ++g) {
      if (g * group.nic.count / group.per_node != nic) continue;
      if (first < 0) first = layout.switch_of(g);
      if (layout.switch_of(g) != first) return true;
    }
    return false;
  }

  void add_nics(const GroupSpec& group, std::string_view node, NodeId id,
                std::size_t first, int gpus) {
    const NicSpec& spec = group.nic;
    const int cards = spec.per_gpu ? group.per_node : spec.count;
    int last = -1;
    LinkId out;
    LinkId in;
    int leaf = -1;
    bool root = false;
    for (int g = 0; g < gpus; ++g) {
      const int card = g * cards / group.per_node;
      if (card != last) {
        // A message passes two cards; the switches between them are charged
        // to the sender's.
        pair(node, "nic", card, "", LinkClass::nic, spec.bandwidth,
             spec.latency, out, in);
        c_.links[out.at()].latency += network_.latency;
        leaf = leaf_of(id, card, spec.bandwidth);
        root = at_root(group, card);
        last = card;
      }
      Cluster::Port& port = c_.ports[first + static_cast<std::size_t>(g)];
      port.nic_out = out;
      port.nic_in = in;
      port.nic_behind_pcie = spec.behind_pcie;
      port.nic_at_root = root;
      port.leaf = leaf;
    }
  }

  /// Pods of `nodes_per_leaf` nodes have a leaf, or one for each rail.
  int leaf_of(NodeId node, int card, Bandwidth bandwidth) {
    const int pod =
        network_.nodes_per_leaf > 0 ? node.v / network_.nodes_per_leaf : 0;
    const std::pair<int, int> key{pod, network_.rails ? card : 0};
    const auto found =
        std::find_if(pod_leaves_.begin(), pod_leaves_.end(),
                     [&](const auto& entry) { return entry.first == key; });
    std::size_t leaf = c_.leaves.size();
    if (found != pod_leaves_.end()) {
      leaf = found->second;
    } else {
      // Nodes come pod by pod, so only this pod's leaves are ever looked for.
      if (!pod_leaves_.empty() && pod_leaves_[0].first.first != pod) {
        pod_leaves_.clear();
      }
      pod_leaves_.emplace_back(key, leaf);
      c_.leaves.emplace_back();
      leaf_nics_.emplace_back();
    }
    leaf_nics_[leaf] += bandwidth;
    return static_cast<int>(leaf);
  }

  Cluster& c_;
  const NetworkSpec& network_;
  std::vector<Bandwidth> leaf_nics_;  ///< sum of the cards, by leaf
  std::vector<std::pair<std::pair<int, int>, std::size_t>> pod_leaves_;
  int nvlink_groups_ = 0;
};

}  // namespace

void build(Cluster& cluster, std::span<const GroupSpec> groups,
           const NetworkSpec& network) {
  std::size_t nodes = 0;
  std::size_t devices = 0;
  for (const GroupSpec& group : groups) {
    nodes += static_cast<std::size_t>(group.nodes);
    devices += static_cast<std::size_t>(group.gpus);
  }
  cluster.nodes.reserve(nodes);
  cluster.paths.reserve(nodes);
  cluster.devices.reserve(devices);
  cluster.ports.reserve(devices);
  cluster.links.reserve(6 * devices);
  Builder builder(cluster, network);
  for (const GroupSpec& group : groups) builder.add_group(group);
  builder.finish_leaves();
}

}  // namespace troupe::clusters
