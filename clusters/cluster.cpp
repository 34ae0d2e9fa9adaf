#include "clusters/cluster.h"

#include <fmt/format.h>

#include <algorithm>

namespace troupe::clusters {
namespace {

/// Between a device's slot and its network card: only when the card is at
/// the root and the device behind a switch with an uplink.
LinkId to_root(const Cluster& c, DeviceId device, bool out) {
  const Cluster::Port& port = c.ports[device.at()];
  if (!port.nic_at_root || port.pcie_switch < 0) return {};
  const auto& switches = c.paths[c.devices[device.at()].node.at()].switches;
  const auto& s = switches[static_cast<std::size_t>(port.pcie_switch)];
  return out ? s.up_out : s.up_in;
}

/// Adds `link` to the route unless it is not modelled.
struct Adder {
  const Cluster& cluster;
  Route& route;
  void operator()(LinkId link) const {
    if (!link) return;
    route.links.push_back(link);
    route.latency += cluster.links[link.at()].latency;
  }
};

void inside_node(const Cluster& c, DeviceId from, DeviceId to,
                 const Adder& add) {
  const Cluster::Port& a = c.ports[from.at()];
  const Cluster::Port& b = c.ports[to.at()];
  add(a.pcie_out);
  if (a.pcie_switch != b.pcie_switch) {
    const Cluster::NodePaths& paths = c.paths[c.devices[from.at()].node.at()];
    const auto& sa = paths.switches[static_cast<std::size_t>(a.pcie_switch)];
    const auto& sb = paths.switches[static_cast<std::size_t>(b.pcie_switch)];
    add(sa.up_out);
    if (sa.socket < sb.socket) add(paths.socket_out);
    if (sa.socket > sb.socket) add(paths.socket_in);
    add(sb.up_in);
  }
  add(b.pcie_in);
}

void between_nodes(const Cluster& c, DeviceId from, DeviceId to,
                   const Adder& add) {
  const Cluster::Port& a = c.ports[from.at()];
  const Cluster::Port& b = c.ports[to.at()];
  if (a.nic_behind_pcie) {
    add(a.pcie_out);
    add(to_root(c, from, true));
  }
  add(a.nic_out);
  if (a.leaf != b.leaf && a.leaf >= 0 && b.leaf >= 0) {
    add(c.leaves[static_cast<std::size_t>(a.leaf)].up_out);
    add(c.leaves[static_cast<std::size_t>(b.leaf)].up_in);
  }
  add(b.nic_in);
  if (b.nic_behind_pcie) {
    add(to_root(c, to, false));
    add(b.pcie_in);
  }
}

/// "400 Gbit/s per GPU" or "2 x 50 Gbit/s per node", or empty.
std::string describe_nics(const Cluster& c, const Node& node) {
  std::vector<LinkId> nics;
  for (const DeviceId d : node.devices) {
    const LinkId nic = c.ports[d.at()].nic_out;
    if (nic && std::find(nics.begin(), nics.end(), nic) == nics.end()) {
      nics.push_back(nic);
    }
  }
  if (nics.empty()) return {};
  const double gbit = c.links[nics[0].at()].bandwidth.v * 8e-9;
  if (nics.size() == node.devices.size() && nics.size() > 1) {
    return fmt::format(", {:.12g} Gbit/s per GPU", gbit);
  }
  return fmt::format(", {} x {:.12g} Gbit/s per node", nics.size(), gbit);
}

}  // namespace

std::string_view name_of(LinkClass link_class) {
  switch (link_class) {
    case LinkClass::nvlink:
      return "nvlink";
    case LinkClass::pcie:
      return "pcie";
    case LinkClass::bridge:
      return "bridge";
    case LinkClass::nic:
      return "nic";
    case LinkClass::fabric:
      return "fabric";
  }
  return "";
}

Route Cluster::route(DeviceId from, DeviceId to) const {
  Route route;
  if (from == to) return route;
  const Adder add{*this, route};
  const Port& a = ports[from.at()];
  const Port& b = ports[to.at()];
  if (a.nvlink_group >= 0 && a.nvlink_group == b.nvlink_group) {
    add(a.nvlink_out);
    add(b.nvlink_in);
  } else if (same_node(from, to)) {
    inside_node(*this, from, to, add);
  } else {
    between_nodes(*this, from, to, add);
  }
  return route;
}

FlopRate peak_of(const Cluster& cluster, kernels::DType dtype) {
  std::vector<std::int64_t> counts(cluster.kinds.size(), 0);
  for (const Device& device : cluster.devices) ++counts[device.kind.at()];
  double sum = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const auto peak = cluster.kinds[i].peak.find(dtype);
    if (peak == cluster.kinds[i].peak.end()) continue;
    sum += static_cast<double>(counts[i]) * peak->second.v;
  }
  return {sum};
}

std::string describe(const Cluster& cluster) {
  std::string out;
  std::size_t i = 0;
  while (i < cluster.nodes.size()) {
    const auto text_of = [&](const Node& node) {
      return fmt::format("{} x {} per node{}", node.devices.size(),
                         cluster.kind_of(node.devices.front()).name,
                         describe_nics(cluster, node));
    };
    const std::string text = text_of(cluster.nodes[i]);
    std::size_t same = 1;
    while (i + same < cluster.nodes.size() &&
           text_of(cluster.nodes[i + same]) == text) {
      ++same;
    }
    out += fmt::format("{}{}, {} node{}", out.empty() ? "" : " + ", text, same,
                       same == 1 ? "" : "s");
    i += same;
  }
  return out;
}

}  // namespace troupe::clusters
