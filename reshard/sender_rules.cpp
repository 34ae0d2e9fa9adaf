// The six rules of HSPMD and HotSPa.
#include "reshard/sender_rules.h"

#include <algorithm>
#include <map>
#include <unordered_map>

namespace troupe::reshard {
namespace {

using Owners = std::span<const DeviceId>;

std::uint64_t pair_key(DeviceId a, DeviceId b) {
  const auto low = static_cast<std::uint32_t>(std::min(a, b).v);
  const auto high = static_cast<std::uint32_t>(std::max(a, b).v);
  return (std::uint64_t{low} << 32) | high;
}

/// What the rules count while they go through the demands.
class Chooser {
 public:
  Chooser(SenderRule rule, const clusters::Cluster& cluster)
      : rule_(rule), cluster_(cluster) {}

  DeviceId choose(const Demand& demand, Owners owners) {
    switch (rule_) {
      case SenderRule::minimum_index:
        return *std::ranges::min_element(owners);
      case SenderRule::first_come:
      case SenderRule::balanced:
        return owners[0];
      case SenderRule::round_robin:
        return owners[turn_[demand.piece]++ % owners.size()];
      case SenderRule::node_round_robin:
        return by_node_turn(demand, owners);
      case SenderRule::greedy:
        return least_used_pair(demand, owners);
      case SenderRule::new_greedy:
        return least_sent(demand, owners);
    }
    return owners[0];
  }

 private:
  /// The counter goes on until it meets an owner on the needer's node, if
  /// there is one.
  DeviceId by_node_turn(const Demand& demand, Owners owners) {
    const auto near = [&](DeviceId d) {
      return cluster_.same_node(d, demand.to);
    };
    const bool some = std::ranges::any_of(owners, near);
    std::size_t& turn = turn_[demand.piece];
    while (some && !near(owners[turn % owners.size()])) ++turn;
    return owners[turn++ % owners.size()];
  }

  DeviceId least_used_pair(const Demand& demand, Owners owners) {
    DeviceId best;
    std::int64_t least = 0;
    for (const DeviceId owner : owners) {
      const auto used = pairs_.find(pair_key(owner, demand.to));
      const std::int64_t count = used == pairs_.end() ? 0 : used->second;
      if (best && count >= least) continue;
      best = owner;
      least = count;
      if (count == 0) break;
    }
    ++pairs_[pair_key(best, demand.to)];
    return best;
  }

  DeviceId least_sent(const Demand& demand, Owners owners) {
    const bool some = std::ranges::any_of(
        owners, [&](DeviceId d) { return cluster_.same_node(d, demand.to); });
    auto& sent = some ? sent_inside_ : sent_between_;
    if (sent.empty()) sent.resize(cluster_.devices.size(), 0);
    DeviceId best;
    for (const DeviceId owner : owners) {
      if (some && !cluster_.same_node(owner, demand.to)) continue;
      if (!best || sent[owner.at()] < sent[best.at()]) best = owner;
    }
    sent[best.at()] += demand.bytes;
    return best;
  }

  SenderRule rule_;
  const clusters::Cluster& cluster_;
  std::unordered_map<std::int32_t, std::size_t> turn_;
  std::unordered_map<std::uint64_t, std::int64_t> pairs_;
  std::vector<std::int64_t> sent_inside_, sent_between_;
};

}  // namespace

std::vector<Share> shares_by_rule(const Demands& demands, SenderRule rule,
                                  const clusters::Cluster& cluster) {
  Chooser chooser(rule, cluster);
  std::vector<Share> shares;
  shares.reserve(demands.list.size());
  for (std::size_t i = 0; i < demands.list.size(); ++i) {
    const Demand& demand = demands.list[i];
    const Owners owners{demands.owners.data() + demand.owners, demand.count};
    shares.push_back({static_cast<std::uint32_t>(i),
                      chooser.choose(demand, owners), 0, demand.rows});
  }
  return shares;
}

}  // namespace troupe::reshard
