#include "runs/elastic_condition.h"

#include <fmt/format.h>

#include <algorithm>

namespace troupe::runs {
namespace {

using clusters::Cluster;
using clusters::DeviceKind;
using clusters::LinkClass;

std::string slow_name(const DeviceKind& kind, double factor) {
  return fmt::format("{} {:g}x slower", kind.name, factor);
}

/// Whether a port's link is given and works.
bool works(LinkId link, const Condition& condition) {
  return link && !condition.link_lost[link.at()];
}

/// The first device of the node, from `device` on and around, whose card
/// works; invalid when there is none.
DeviceId lender(const Cluster& cluster, const Condition& condition,
                DeviceId device) {
  const auto& d = cluster.devices[device.at()];
  const auto& peers = cluster.nodes[d.node.at()].devices;
  for (std::size_t i = 0; i < peers.size(); ++i) {
    const DeviceId other =
        peers[(static_cast<std::size_t>(d.index) + i) % peers.size()];
    const Cluster::Port& port = cluster.ports[other.at()];
    if (works(port.nic_out, condition) && works(port.nic_in, condition)) {
      return other;
    }
  }
  return {};
}

Result<void> apply_device(const Event& event, DeviceId device,
                          Condition& condition) {
  const bool there = condition.present[device.at()];
  switch (event.kind) {
    case EventKind::lost:
      if (!there) {
        return fail(Fault::input,
                    fmt::format("{}: device {} is not there any more (or not "
                                "yet); it cannot be lost",
                                event.where, device.v));
      }
      condition.present[device.at()] = false;
      condition.device_slower[device.at()] = 1;
      return {};
    case EventKind::back:
      if (there) {
        return fail(Fault::input,
                    fmt::format("{}: device {} is there already; it cannot "
                                "come back (a slow one recovers by "
                                "\"slowed\" with factor 1)",
                                event.where, device.v));
      }
      condition.present[device.at()] = true;
      return {};
    case EventKind::slowed:
      if (!there) {
        return fail(Fault::input,
                    fmt::format("{}: device {} is not there; it cannot slow "
                                "down",
                                event.where, device.v));
      }
      condition.device_slower[device.at()] = event.factor;
      return {};
  }
  return {};
}

Result<void> apply_link(const Event& event, LinkId id, const Cluster& cluster,
                        Condition& condition) {
  const clusters::Link& link = cluster.links[id.at()];
  const bool lost = condition.link_lost[id.at()];
  const bool may =
      link.link_class == LinkClass::nvlink || link.link_class == LinkClass::nic;
  switch (event.kind) {
    case EventKind::lost:
      if (!may) {
        return fail(Fault::input,
                    fmt::format("{}: {} has no other way around; name the "
                                "devices behind it as lost",
                                event.where, link.name));
      }
      if (lost) {
        return fail(Fault::input, fmt::format("{}: {} is lost already",
                                              event.where, link.name));
      }
      condition.link_lost[id.at()] = true;
      return {};
    case EventKind::back:
      if (!lost) {
        return fail(Fault::input,
                    fmt::format("{}: {} is not lost", event.where, link.name));
      }
      condition.link_lost[id.at()] = false;
      return {};
    case EventKind::slowed:
      condition.link_slower[id.at()] = event.factor;
      return {};
  }
  return {};
}

}  // namespace

Condition Condition::of(const Cluster& cluster,
                        const std::vector<DeviceId>& absent) {
  Condition out;
  out.present.assign(cluster.devices.size(), true);
  out.device_slower.assign(cluster.devices.size(), 1.0);
  out.link_slower.assign(cluster.links.size(), 1.0);
  out.link_lost.assign(cluster.links.size(), false);
  for (const DeviceId d : absent) out.present[d.at()] = false;
  return out;
}

Result<void> apply(const Event& event, const Cluster& cluster,
                   Condition& condition) {
  for (const DeviceId d : event.devices) {
    TRY_DO(apply_device(event, d, condition));
  }
  for (const LinkId l : event.links) {
    TRY_DO(apply_link(event, l, cluster, condition));
  }
  return {};
}

std::vector<DeviceId> usable(const Cluster& cluster,
                             const Condition& condition) {
  std::vector<DeviceId> out;
  for (std::size_t i = 0; i < cluster.devices.size(); ++i) {
    const auto d = make_id<DeviceId>(i);
    if (!condition.present[i]) continue;
    const bool networked = cluster.nodes.size() > 1 && cluster.ports[i].nic_out;
    if (networked && !lender(cluster, condition, d)) continue;
    out.push_back(d);
  }
  return out;
}

Cluster in_condition(const Cluster& cluster, const Condition& condition) {
  Cluster out = cluster;
  for (std::size_t i = 0; i < out.devices.size(); ++i) {
    const double factor = condition.device_slower[i];
    if (factor == 1) continue;
    DeviceKind kind = cluster.kinds[cluster.devices[i].kind.at()];
    kind.name = slow_name(kind, factor);
    const auto found =
        std::ranges::find(out.kinds, kind.name, &DeviceKind::name);
    out.devices[i].kind = make_id<clusters::KindId>(
        static_cast<std::size_t>(found - out.kinds.begin()));
    if (found == out.kinds.end()) out.kinds.push_back(std::move(kind));
  }
  for (std::size_t l = 0; l < out.links.size(); ++l) {
    out.links[l].bandwidth.v /= condition.link_slower[l];
  }
  for (std::size_t i = 0; i < out.ports.size(); ++i) {
    Cluster::Port& port = out.ports[i];
    if (port.nvlink_group >= 0 && !(works(port.nvlink_out, condition) &&
                                    works(port.nvlink_in, condition))) {
      port.nvlink_group = -1;
      port.nvlink_out = port.nvlink_in = LinkId{};
    }
    if (!port.nic_out) continue;
    const DeviceId card = lender(cluster, condition, make_id<DeviceId>(i));
    if (!card) continue;
    const Cluster::Port& lent = cluster.ports[card.at()];
    port.nic_out = lent.nic_out;
    port.nic_in = lent.nic_in;
    port.leaf = lent.leaf;
    // Through another's card the way leads over the root.
    if (card.at() != i) port.nic_at_root = port.pcie_switch >= 0;
  }
  return out;
}

ConditionCosts::ConditionCosts(const profiles::CostModel& healthy,
                               const Cluster& cluster,
                               const Condition& condition)
    : healthy_(healthy) {
  for (std::size_t i = 0; i < cluster.devices.size(); ++i) {
    const double factor = condition.device_slower[i];
    if (factor == 1) continue;
    const DeviceKind& kind = cluster.kinds[cluster.devices[i].kind.at()];
    Slow slow{slow_name(kind, factor), kind, factor};
    const auto same = [&](const Slow& s) { return s.name == slow.name; };
    if (std::ranges::none_of(slow_, same)) slow_.push_back(std::move(slow));
  }
  links_as_measured_ =
      std::ranges::all_of(condition.link_slower,
                          [](double factor) { return factor == 1; }) &&
      std::ranges::none_of(condition.link_lost, [](bool lost) { return lost; });
}

const ConditionCosts::Slow* ConditionCosts::slow_of(
    const DeviceKind& kind) const {
  const auto found = std::ranges::find(slow_, kind.name, &Slow::name);
  return found == slow_.end() ? nullptr : &*found;
}

profiles::Cost ConditionCosts::operator_cost(const kernels::OpShape& op,
                                             const DeviceKind& kind) const {
  const Slow* slow = slow_of(kind);
  if (slow == nullptr) return healthy_.operator_cost(op, kind);
  profiles::Cost cost = healthy_.operator_cost(op, slow->healthy);
  cost.time = cost.time * slow->factor;
  cost.least = cost.least * slow->factor;
  return cost;
}

std::optional<profiles::Cost> ConditionCosts::layer_cost(
    const profiles::LayerKey& key, const DeviceKind& kind) const {
  const Slow* slow = slow_of(kind);
  if (slow == nullptr) return healthy_.layer_cost(key, kind);
  auto cost = healthy_.layer_cost(key, slow->healthy);
  if (!cost) return cost;
  cost->time = cost->time * slow->factor;
  cost->least = cost->least * slow->factor;
  return cost;
}

profiles::LinkEfficiency ConditionCosts::link_efficiency(
    LinkClass link_class) const {
  return healthy_.link_efficiency(link_class);
}

std::optional<profiles::Cost> ConditionCosts::collective_cost(
    clusters::Collective collective, int ranks, int per_node, Bytes bytes,
    const DeviceKind& kind) const {
  if (!links_as_measured_) return {};
  const Slow* slow = slow_of(kind);
  return healthy_.collective_cost(collective, ranks, per_node, bytes,
                                  slow == nullptr ? kind : slow->healthy);
}

std::string ConditionCosts::content_hash() const {
  return healthy_.content_hash();
}

}  // namespace troupe::runs
