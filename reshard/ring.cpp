#include "reshard/ring.h"

#include <algorithm>

#include "reshard/price.h"

namespace troupe::reshard {
namespace {

/// One member with the elements that are its own: what it brings to an
/// all-gather or keeps of a reduce-scatter.
struct Member {
  DeviceId device;
  double own = 0;
};
using Node = std::vector<Member>;

struct Sizes {
  std::vector<Node> nodes;  ///< members by node, ascending
  double whole = 0;         ///< bytes of the collective
  std::size_t members = 0;
  std::size_t rails = 0;  ///< members of the emptiest node
};

/// What is reduced and what is gathered.
struct Kind {
  bool reduces = false;
  bool gathers = false;
};
Kind kind_of(Operation operation) {
  switch (operation) {
    case Operation::all_reduce:
    case Operation::split_all_reduce:
      return {true, true};
    case Operation::reduce_scatter:
    case Operation::split_reduce_scatter:
      return {true, false};
    case Operation::all_gather:
    case Operation::split_all_gather:
      return {false, true};
    case Operation::identity:
    case Operation::slice:
    case Operation::send_receive:
    case Operation::all_to_all:
    case Operation::batched_send_receive:
    case Operation::local_sum:
      return {};
  }
  return {};
}

Sizes sizes_of(const Group& group, Kind kind, const Routes& routes,
               double element_bytes) {
  std::vector<Member> all;
  for (const DeviceId device : group.devices) all.push_back({device, 0});
  const auto& own = kind.gathers ? group.reads : group.writes;
  for (const Part& part : own) {
    all[static_cast<std::size_t>(part.member)].own +=
        static_cast<double>(strategy::elements(part.box)) * element_bytes;
  }
  Sizes sizes;
  sizes.members = all.size();
  if (kind.reduces) {
    for (const Part& part : group.reads) {
      if (part.member != 0) continue;
      sizes.whole +=
          static_cast<double>(strategy::elements(part.box)) * element_bytes;
    }
  } else {
    for (const Member& member : all) sizes.whole += member.own;
  }
  if (kind.reduces && kind.gathers) {
    for (Member& member : all) {
      member.own = sizes.whole / static_cast<double>(all.size());
    }
  }
  std::ranges::sort(all, {}, &Member::device);
  const clusters::Cluster& cluster = routes.cluster();
  for (const Member& member : all) {
    const bool next =
        sizes.nodes.empty() ||
        !cluster.same_node(sizes.nodes.back().back().device, member.device);
    if (next) sizes.nodes.emplace_back();
    sizes.nodes.back().push_back(member);
  }
  sizes.rails = sizes.nodes.front().size();
  for (const Node& node : sizes.nodes) {
    sizes.rails = std::min(sizes.rails, node.size());
  }
  return sizes;
}

Time hop_latency(DeviceId from, DeviceId to, const Routes& routes) {
  return routes.latency(routes.of(from, to));
}

void add_rings(const Sizes& sizes, Kind kind, const Routes& routes,
               Traffic& traffic) {
  const std::size_t rings = sizes.nodes.size() == 1 ? 1 : sizes.rails;
  Time slowest;
  for (std::size_t r = 0; r < rings; ++r) {
    std::vector<Member> ring;
    for (const Node& node : sizes.nodes) {
      for (std::size_t i = 0; i < node.size(); ++i) {
        ring.push_back(node[(i + r) % node.size()]);
      }
    }
    for (std::size_t i = 0; i < ring.size(); ++i) {
      const Member& from = ring[i];
      const Member& to = ring[(i + 1) % ring.size()];
      // A reduce-scatter is an all-gather in reverse.
      const double gathered = kind.gathers ? sizes.whole - to.own : 0;
      const double reduced = kind.reduces ? sizes.whole - from.own : 0;
      traffic.flows.push_back(
          {from.device, to.device,
           (gathered + reduced) / static_cast<double>(rings)});
      slowest = std::max(slowest, hop_latency(from.device, to.device, routes));
    }
  }
  const auto steps = static_cast<std::int64_t>(sizes.members - 1) *
                     (kind.gathers && kind.reduces ? 2 : 1);
  for (const Node& node : sizes.nodes) {
    for (const Member& member : node) {
      traffic.latency.emplace_back(member.device, slowest * steps);
    }
  }
}

/// Between the nodes: rail j is the j-th member of each.
Time add_rails(const Sizes& sizes, Kind kind, const Routes& routes,
               Traffic& traffic) {
  Time slowest;
  const auto rails = static_cast<double>(sizes.rails);
  for (std::size_t n = 0; n < sizes.nodes.size(); ++n) {
    const Node& from = sizes.nodes[n];
    const Node& to = sizes.nodes[(n + 1) % sizes.nodes.size()];
    const auto own = [](const Node& node) {
      double sum = 0;
      for (const Member& member : node) sum += member.own;
      return sum;
    };
    double bytes = 0;
    if (kind.gathers) bytes += sizes.whole - own(to);
    if (kind.reduces) bytes += sizes.whole - own(from);
    for (std::size_t j = 0; j < sizes.rails; ++j) {
      traffic.flows.push_back({from[j].device, to[j].device, bytes / rails});
      slowest =
          std::max(slowest, hop_latency(from[j].device, to[j].device, routes));
    }
  }
  return slowest;
}

/// Inside a node: shares go to the rails, or what the rails have to all.
Time add_inside(const Node& node, std::size_t rails, double whole, Kind kind,
                const Routes& routes, Traffic& traffic) {
  Time slowest;
  const double share = whole / static_cast<double>(rails);
  for (std::size_t j = 0; j < rails; ++j) {
    for (std::size_t i = 0; i < node.size(); ++i) {
      if (i == j) continue;
      const DeviceId rail = node[j].device;
      const DeviceId other = node[i].device;
      if (kind.reduces) traffic.flows.push_back({other, rail, share});
      if (kind.gathers) traffic.flows.push_back({rail, other, share});
      slowest = std::max(slowest, hop_latency(rail, other, routes));
    }
  }
  // What a member that is no rail brings or keeps alone.
  for (std::size_t i = rails; i < node.size(); ++i) {
    const DeviceId rail = node[i % rails].device;
    const DeviceId other = node[i].device;
    if (!kind.reduces) traffic.flows.push_back({other, rail, node[i].own});
    if (!kind.gathers) traffic.flows.push_back({rail, other, node[i].own});
  }
  return slowest;
}

void add_two_level(const Sizes& sizes, Kind kind, const Routes& routes,
                   Traffic& traffic) {
  const int both = kind.gathers && kind.reduces ? 2 : 1;
  const Time between =
      add_rails(sizes, kind, routes, traffic) *
      (static_cast<std::int64_t>(sizes.nodes.size() - 1) * both);
  for (const Node& node : sizes.nodes) {
    const Time inside =
        add_inside(node, sizes.rails, sizes.whole, kind, routes, traffic);
    const auto steps = static_cast<std::int64_t>(node.size() - 1) * both;
    for (const Member& member : node) {
      traffic.latency.emplace_back(member.device, between + inside * steps);
    }
  }
}

void add_direct(const Group& group, const Routes& routes, double element_bytes,
                Traffic& traffic) {
  for (const Part& write : group.writes) {
    for (const Part& read : group.reads) {
      if (read.member == write.member) continue;
      const DeviceId from =
          group.devices[static_cast<std::size_t>(read.member)];
      const DeviceId to = group.devices[static_cast<std::size_t>(write.member)];
      const auto common =
          strategy::elements(strategy::overlap(read.box, write.box));
      if (common == 0) continue;
      traffic.flows.push_back(
          {from, to, static_cast<double>(common) * element_bytes});
    }
  }
  for (const DeviceId a : group.devices) {
    Time sum;
    for (const DeviceId b : group.devices) {
      if (a != b) sum += hop_latency(a, b, routes);
    }
    traffic.latency.emplace_back(a, sum);
  }
}

}  // namespace

void add_group(const Group& group, Operation operation, Algorithm algorithm,
               const Routes& routes, double element_bytes, Traffic& traffic) {
  if (group.devices.size() < 2) return;
  const Kind kind = kind_of(operation);
  if (algorithm == Algorithm::direct) {
    add_direct(group, routes, element_bytes, traffic);
    return;
  }
  const Sizes sizes = sizes_of(group, kind, routes, element_bytes);
  if (algorithm == Algorithm::two_level && sizes.nodes.size() > 1) {
    add_two_level(sizes, kind, routes, traffic);
  } else {
    add_rings(sizes, kind, routes, traffic);
  }
}

bool spans_nodes(std::span<const Group> groups,
                 const clusters::Cluster& cluster) {
  for (const Group& group : groups) {
    std::vector<clusters::NodeId> nodes;
    for (const DeviceId d : group.devices) {
      nodes.push_back(cluster.devices[d.at()].node);
    }
    std::ranges::sort(nodes);
    const bool several = !nodes.empty() && nodes.front() != nodes.back();
    if (several && std::ranges::adjacent_find(nodes) != nodes.end()) {
      return true;
    }
  }
  return false;
}

}  // namespace troupe::reshard
