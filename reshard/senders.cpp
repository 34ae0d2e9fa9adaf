#include "reshard/senders.h"

#include <algorithm>
#include <numeric>
#include <unordered_map>

#include "reshard/sender_rules.h"

namespace troupe::reshard {
namespace {

using clusters::LinkId;
using clusters::Route;

constexpr std::array<std::string_view, kSenderRules> kNames{
    "min-idx", "fcfs",       "round-robin", "multi-node-round-robin",
    "greedy",  "new-greedy", "balanced"};

double bytes_of(const Demand& demand, const Share& share) {
  return static_cast<double>(demand.bytes) *
         static_cast<double>(share.last - share.first) /
         static_cast<double>(demand.rows);
}

bool contains(const Route& route, LinkId link) {
  return std::ranges::find(route.links, link) != route.links.end();
}

/// Shares with the links they keep busy.
class Balance {
 public:
  Balance(const Demands& demands, const Routes& routes)
      : demands_(demands),
        routes_(routes),
        busy_(routes.rates().capacity.size(), 0.0) {}

  /// Every demand to the owner whose route is least busy afterwards.
  void assign_all() {
    std::vector<std::uint32_t> order(demands_.list.size());
    std::iota(order.begin(), order.end(), 0U);
    std::ranges::stable_sort(order, [&](std::uint32_t a, std::uint32_t b) {
      const Demand& x = demands_.list[a];
      const Demand& y = demands_.list[b];
      if (x.count != y.count) return x.count < y.count;
      return x.bytes > y.bytes;
    });
    for (const std::uint32_t i : order) {
      const Demand& demand = demands_.list[i];
      const DeviceId from = least_busy(demand);
      shares_.push_back({i, from, 0, demand.rows});
      add(routes_.of(from, demand.to), static_cast<double>(demand.bytes));
    }
  }

  /// Passes over all shares while the makespan shrinks.
  void improve() {
    const std::size_t work = std::max<std::size_t>(shares_.size(), 1);
    const std::size_t passes = std::clamp<std::size_t>(400'000 / work, 1, 12);
    double before = most();
    for (std::size_t pass = 0; pass < passes && before > 0; ++pass) {
      const std::size_t count = shares_.size();
      for (std::size_t i = 0; i < count; ++i) improve_share(i, before);
      const double after = most();
      if (after > before * (1 - 1e-6)) break;
      before = after;
    }
  }

  std::vector<Share> take() {
    std::ranges::sort(shares_, [](const Share& a, const Share& b) {
      return std::pair(a.demand, a.first) < std::pair(b.demand, b.first);
    });
    return std::move(shares_);
  }

 private:
  std::span<const DeviceId> owners_of(const Demand& demand) const {
    return {demands_.owners.data() + demand.owners, demand.count};
  }
  double capacity(LinkId link) const {
    return routes_.rates().capacity[link.at()];
  }
  void add(const Route& route, double bytes) {
    for (const LinkId link : route.links) {
      busy_[link.at()] += bytes / capacity(link);
    }
  }
  double most() const {
    return busy_.empty() ? 0.0 : *std::ranges::max_element(busy_);
  }

  DeviceId least_busy(const Demand& demand) const {
    const auto owners = owners_of(demand);
    if (owners.size() == 1) return owners[0];
    const auto bytes = static_cast<double>(demand.bytes);
    DeviceId best;
    std::pair<double, double> least;
    for (const DeviceId owner : owners) {
      double worst = 0;
      double sum = 0;
      for (const LinkId link : routes_.of(owner, demand.to).links) {
        const double after = busy_[link.at()] + bytes / capacity(link);
        worst = std::max(worst, after);
        sum += bytes / capacity(link) + after * 1e-3;
      }
      const std::pair<double, double> key{worst, sum};
      if (best && !(key < least)) continue;
      best = owner;
      least = key;
    }
    return best;
  }

  /// The busiest of the links that `route` has and `other` has not.
  LinkId busiest(const Route& route, const Route& other) const {
    LinkId found;
    for (const LinkId link : route.links) {
      if (contains(other, link)) continue;
      if (!found || busy_[link.at()] > busy_[found.at()]) found = link;
    }
    return found;
  }

  /// Moves a share, or as many of its rows as level both routes.
  void improve_share(std::size_t i, double makespan) {
    const Share share = shares_[i];
    const Demand& demand = demands_.list[share.demand];
    if (demand.count < 2) return;
    const Route route = routes_.of(share.from, demand.to);
    double here = 0;
    for (const LinkId link : route.links) {
      here = std::max(here, busy_[link.at()]);
    }
    if (here < 0.7 * makespan) return;
    DeviceId best;
    double most_bytes = 0;
    const double bytes = bytes_of(demand, share);
    for (const DeviceId owner : owners_of(demand)) {
      if (owner == share.from) continue;
      const Route other = routes_.of(owner, demand.to);
      const LinkId from = busiest(route, other);
      const LinkId to = busiest(other, route);
      if (!from || !to) continue;
      // Rows that level the two busiest links; at most what there is.
      const double gap = busy_[from.at()] - busy_[to.at()];
      if (busy_[from.at()] < 0.7 * makespan || gap <= 1e-9 * makespan) continue;
      const double level = gap / (1 / capacity(from) + 1 / capacity(to));
      const double move = std::min(level, bytes);
      if (move > most_bytes * (1 + 1e-9)) {
        most_bytes = move;
        best = owner;
      }
    }
    if (!best) return;
    const double per_row =
        static_cast<double>(demand.bytes) / static_cast<double>(demand.rows);
    const auto rows = static_cast<std::int64_t>(most_bytes / per_row + 1e-6);
    if (rows > 0) move_rows(i, rows, best);
  }

  void move_rows(std::size_t i, std::int64_t rows, DeviceId to) {
    const Demand& demand = demands_.list[shares_[i].demand];
    const auto bytes = static_cast<double>(demand.bytes) *
                       static_cast<double>(rows) /
                       static_cast<double>(demand.rows);
    add(routes_.of(shares_[i].from, demand.to), -bytes);
    add(routes_.of(to, demand.to), bytes);
    if (rows >= shares_[i].last - shares_[i].first) {
      shares_[i].from = to;
      return;
    }
    Share part = shares_[i];
    part.from = to;
    part.first = part.last - rows;
    shares_[i].last -= rows;
    shares_.push_back(part);
  }

  const Demands& demands_;
  const Routes& routes_;
  std::vector<Share> shares_;
  std::vector<double> busy_;
};

}  // namespace

std::string_view name_of(SenderRule rule) {
  return kNames[static_cast<std::size_t>(rule)];
}

std::optional<SenderRule> parse_sender_rule(std::string_view name) {
  const auto found = std::ranges::find(kNames, name);
  if (found == kNames.end()) return {};
  return static_cast<SenderRule>(found - kNames.begin());
}

Time Makespan::total() const { return troupe::seconds(seconds) + latency; }

Makespan makespan_of(const Demands& demands, std::span<const Share> shares,
                     const Routes& routes) {
  LinkLoad load(routes);
  std::vector<Time> sent(routes.cluster().devices.size());
  std::vector<Time> received(sent.size());
  std::vector<std::uint64_t> pairs;
  pairs.reserve(shares.size());
  for (const Share& share : shares) {
    const Demand& demand = demands.list[share.demand];
    load.add(share.from, demand.to, bytes_of(demand, share));
    pairs.push_back((static_cast<std::uint64_t>(share.from.v) << 32) |
                    static_cast<std::uint32_t>(demand.to.v));
  }
  std::ranges::sort(pairs);
  pairs.erase(std::unique(pairs.begin(), pairs.end()), pairs.end());
  for (const std::uint64_t pair : pairs) {
    const DeviceId from{static_cast<std::int32_t>(pair >> 32)};
    const DeviceId to{static_cast<std::int32_t>(pair & 0xffffffffU)};
    const Time latency = routes.latency(routes.of(from, to));
    sent[from.at()] += latency;
    received[to.at()] += latency;
  }
  Makespan out{load.most(), {}, load.bytes()};
  for (std::size_t d = 0; d < sent.size(); ++d) {
    out.latency = std::max({out.latency, sent[d], received[d]});
  }
  return out;
}

Senders choose_senders(const Demands& demands, SenderRule rule,
                       const Routes& routes, bool compare) {
  Senders out;
  const bool ours = rule == SenderRule::balanced;
  if (compare) out.by_rule.resize(kSenderRules);
  const auto offer = [&](std::vector<Share> shares, SenderRule whose) {
    const Makespan makespan = makespan_of(demands, shares, routes);
    if (compare) out.by_rule[static_cast<std::size_t>(whose)] = makespan;
    const bool wanted = ours || whose == rule;
    const bool better = out.chosen.shares.empty() ||
                        makespan.total() < out.chosen.makespan.total();
    if (wanted && better) out.chosen = {std::move(shares), whose, makespan};
  };
  if (ours || compare) {
    Balance balance(demands, routes);
    balance.assign_all();
    balance.improve();
    offer(balance.take(), SenderRule::balanced);
  }
  const bool choice = std::ranges::any_of(
      demands.list, [](const Demand& demand) { return demand.count > 1; });
  for (int r = 0; r < kSenderRules - 1; ++r) {
    const auto one = static_cast<SenderRule>(r);
    // Without a choice all rules agree.
    if (one != rule && !compare && !(ours && choice)) continue;
    offer(shares_by_rule(demands, one, routes.cluster()), one);
  }
  if (compare && ours) {
    out.by_rule[kSenderRules - 1] = out.chosen.makespan;
  }
  return out;
}

}  // namespace troupe::reshard
