#include "sim/network.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace troupe::sim {

using clusters::Collective;
using clusters::LinkClass;
using clusters::LinkId;

/// Bytes by link, gathered in any order.
struct Network::Tally {
  std::vector<std::pair<std::int32_t, double>> entries;

  void add(LinkId link, double b) { entries.emplace_back(link.v, b); }
  /// Sorts by link and adds up equal ones.
  void settle() {
    std::stable_sort(
        entries.begin(), entries.end(),
        [](const auto& a, const auto& b) { return a.first < b.first; });
    std::size_t kept = 0;
    for (std::size_t i = 0; i < entries.size(); ++i) {
      if (kept > 0 && entries[kept - 1].first == entries[i].first) {
        entries[kept - 1].second += entries[i].second;
      } else {
        entries[kept++] = entries[i];
      }
    }
    entries.resize(kept);
  }
};

Network::Network(const clusters::Cluster& cluster,
                 const profiles::CostModel& costs)
    : cluster_(cluster), costs_(costs) {
  constexpr std::array kClasses{LinkClass::nvlink, LinkClass::pcie,
                                LinkClass::bridge, LinkClass::nic,
                                LinkClass::fabric};
  std::array<double, kClasses.size()> fraction{};
  overhead_.resize(kClasses.size());
  for (const LinkClass c : kClasses) {
    const auto efficiency = costs.link_efficiency(c);
    fraction[static_cast<std::size_t>(c)] = efficiency.fraction;
    overhead_[static_cast<std::size_t>(c)] = efficiency.latency;
  }
  capacity_.reserve(cluster.links.size());
  for (const clusters::Link& link : cluster.links) {
    capacity_.push_back(link.bandwidth.v *
                        fraction[static_cast<std::size_t>(link.link_class)]);
  }
}

Time Network::step_of(DeviceId from, DeviceId to) const {
  const auto route = cluster_.route(from, to);
  Time overhead;
  for (const LinkId link : route.links) {
    const auto c =
        static_cast<std::size_t>(cluster_.links[link.at()].link_class);
    overhead = std::max(overhead, overhead_[c]);
  }
  return route.latency + overhead;
}

Activity Network::finish(Tally& tally, Time latency) const {
  tally.settle();
  Activity out;
  out.latency = latency;
  double worst = 0;
  for (const auto& [link, bytes] : tally.entries) {
    const double capacity = capacity_[static_cast<std::size_t>(link)];
    if (bytes / capacity > worst) {
      worst = bytes / capacity;
      out.peak_rate = capacity;
    }
  }
  if (worst <= 0) return out;  // no bytes: only the latency
  out.work = seconds(worst);
  out.shares.reserve(tally.entries.size());
  for (const auto& [link, bytes] : tally.entries) {
    const double capacity = capacity_[static_cast<std::size_t>(link)];
    out.shares.push_back({link, bytes / capacity / worst});
  }
  return out;
}

Activity Network::messages(std::span<const Message> messages) const {
  Tally tally;
  Time latency;
  for (const Message& m : messages) {
    if (m.from == m.to || m.bytes.v == 0) continue;
    latency = std::max(latency, step_of(m.from, m.to));
    for (const LinkId link : cluster_.route(m.from, m.to).links) {
      tally.add(link, static_cast<double>(m.bytes.v));
    }
  }
  Activity out = finish(tally, latency);
  override_by_measurement(messages, out);
  return out;
}

// Measurements know a kind of device and one way between two of them.
std::optional<profiles::Cost> Network::measured(const Message& m) const {
  const clusters::DeviceKind& kind = cluster_.kind_of(m.from);
  if (!cluster_.same_node(m.from, m.to) ||
      kind.name != cluster_.kind_of(m.to).name) {
    return {};
  }
  bool nvlink = true;
  for (const LinkId link : cluster_.route(m.from, m.to).links) {
    nvlink =
        nvlink && cluster_.links[link.at()].link_class == LinkClass::nvlink;
  }
  // Rows of two ranks are of the best way that two devices of a node have.
  if (nvlink || kind.nvlink.v <= 0) {
    if (const auto sent = costs_.collective_cost(Collective::send_receive, 2, 2,
                                                 m.bytes, kind)) {
      return sent;
    }
  }
  return costs_.copy_cost(nvlink ? profiles::CopyRoute::peer_nvlink
                                 : profiles::CopyRoute::peer_pcie,
                          m.bytes, kind);
}

void Network::override_by_measurement(std::span<const Message> messages,
                                      Activity& activity) const {
  std::vector<std::int32_t> used;
  Time longest;
  auto provenance = profiles::Provenance::measured;
  for (const Message& m : messages) {
    if (m.from == m.to || m.bytes.v == 0) continue;
    const auto cost = measured(m);
    if (!cost) return;
    longest = std::max(longest, cost->time);
    provenance = std::max(provenance, cost->provenance);
    for (const LinkId link : cluster_.route(m.from, m.to).links) {
      used.push_back(link.v);
    }
  }
  std::sort(used.begin(), used.end());
  const bool shared =
      std::adjacent_find(used.begin(), used.end()) != used.end();
  if (shared || used.empty()) return;
  activity.latency = std::min(activity.latency, longest);
  activity.work = longest - activity.latency;
  activity.provenance = provenance;
}

std::vector<Network::Hop> Network::hops(std::span<const DeviceId> devices,
                                        int& rings, int& per_node) const {
  // Ranks by node: a ring visits node after node; as many rings as the
  // emptiest node has ranks, each entering and leaving by another rank, so
  // that all network cards work.
  std::vector<DeviceId> sorted(devices.begin(), devices.end());
  std::sort(sorted.begin(), sorted.end());
  std::vector<std::span<const DeviceId>> nodes;
  for (std::size_t i = 0; i < sorted.size();) {
    std::size_t j = i;
    while (j < sorted.size() && cluster_.same_node(sorted[i], sorted[j])) ++j;
    nodes.emplace_back(sorted.data() + i, j - i);
    i = j;
  }
  per_node = static_cast<int>(sorted.size());
  for (const auto& n : nodes) {
    per_node = std::min(per_node, static_cast<int>(n.size()));
  }
  rings = nodes.size() == 1 ? 1 : per_node;
  std::vector<Hop> out;
  out.reserve(sorted.size() * static_cast<std::size_t>(rings));
  for (int r = 0; r < rings; ++r) {
    DeviceId first, previous;
    for (const auto& n : nodes) {
      for (std::size_t i = 0; i < n.size(); ++i) {
        const DeviceId d = n[(i + static_cast<std::size_t>(r)) % n.size()];
        if (previous) out.push_back({previous, d});
        if (!first) first = d;
        previous = d;
      }
    }
    if (sorted.size() > 1) out.push_back({previous, first});
  }
  return out;
}

RingCost Network::ring(std::span<const DeviceId> devices,
                       std::span<const std::int32_t> sharers) const {
  RingCost out;
  out.ranks = static_cast<int>(devices.size());
  if (devices.size() < 2) return out;
  int rings = 1;
  const auto list = hops(devices, rings, out.per_node);
  Tally tally;
  for (const Hop& h : list) {
    out.step = std::max(out.step, step_of(h.from, h.to));
    for (const LinkId link : cluster_.route(h.from, h.to).links) {
      tally.add(link, 1.0 / rings);
    }
  }
  tally.settle();
  for (const auto& [link, bytes] : tally.entries) {
    const auto i = static_cast<std::size_t>(link);
    const double users =
        sharers.empty() ? 1.0 : std::max<double>(1.0, sharers[i]);
    out.seconds_per_byte =
        std::max(out.seconds_per_byte, users * bytes / capacity_[i]);
  }
  return out;
}

void Network::count_sharers(std::span<const DeviceId> devices,
                            std::vector<std::int32_t>& sharers) const {
  if (devices.size() < 2) return;
  sharers.resize(capacity_.size(), 0);
  int rings = 1;
  int per_node = 1;
  std::vector<std::int32_t> touched;
  for (const Hop& h : hops(devices, rings, per_node)) {
    for (const LinkId link : cluster_.route(h.from, h.to).links) {
      touched.push_back(link.v);
    }
  }
  std::sort(touched.begin(), touched.end());
  touched.erase(std::unique(touched.begin(), touched.end()), touched.end());
  for (const std::int32_t l : touched) ++sharers[static_cast<std::size_t>(l)];
}

double ring_volume(Collective collective, int ranks) {
  const double n = ranks;
  switch (collective) {
    case Collective::all_reduce:
      return 2 * (n - 1) / n;
    case Collective::all_gather:
    case Collective::reduce_scatter:
    case Collective::all_to_all:
      return (n - 1) / n;
    case Collective::broadcast:
    case Collective::send_receive:
    case Collective::ring_shift:
      return 1.0;
  }
  return 1.0;
}

std::int64_t ring_steps(Collective collective, int ranks) {
  const auto tree = static_cast<std::int64_t>(
      std::bit_width(static_cast<unsigned>(std::max(ranks - 1, 1))));
  switch (collective) {
    case Collective::all_reduce:
      return 2 * std::min<std::int64_t>(ranks - 1, tree);
    case Collective::all_gather:
    case Collective::reduce_scatter:
    case Collective::all_to_all:
      return ranks - 1;
    case Collective::broadcast:
      return tree;
    case Collective::send_receive:
    case Collective::ring_shift:
      return 1;
  }
  return 1;
}

Time collective_time(Collective collective, const RingCost& ring, Bytes bytes) {
  if (ring.ranks < 2) return {};
  const double volume =
      ring_volume(collective, ring.ranks) * static_cast<double>(bytes.v);
  return seconds(volume * ring.seconds_per_byte) +
         ring.step * ring_steps(collective, ring.ranks);
}

Activity Network::collectives(Collective collective,
                              std::span<const Group> groups) const {
  Tally tally;
  Time latency;
  for (const Group& g : groups) {
    const int n = static_cast<int>(g.devices.size());
    if (n < 2) continue;
    int rings = 1;
    int per_node = 1;
    const double carried =
        ring_volume(collective, n) * static_cast<double>(g.bytes.v);
    Time step;
    for (const Hop& h : hops(g.devices, rings, per_node)) {
      const auto route = cluster_.route(h.from, h.to);
      step = std::max(step, step_of(h.from, h.to));
      for (const LinkId link : route.links) tally.add(link, carried / rings);
    }
    latency = std::max(latency, step * ring_steps(collective, n));
  }
  if (tally.entries.empty()) return {};
  Activity out = finish(tally, latency);
  override_by_measurement(collective, groups, out);
  return out;
}

void Network::override_by_measurement(Collective collective,
                                      std::span<const Group> groups,
                                      Activity& activity) const {
  // Curves are measured with one group on an otherwise idle node; they hold
  // for groups that lie in one node each.
  const Group& g = groups.front();
  for (const DeviceId d : g.devices) {
    if (!cluster_.same_node(d, g.devices.front())) return;
  }
  const int n = static_cast<int>(g.devices.size());
  const auto measured = costs_.collective_cost(
      collective, n, n, g.bytes, cluster_.kind_of(g.devices.front()));
  if (!measured) return;
  activity.latency = std::min(activity.latency, measured->time);
  activity.work = measured->time - activity.latency;
  activity.provenance = measured->provenance;
}

}  // namespace troupe::sim
