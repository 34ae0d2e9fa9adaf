// Who sends what somebody needs and several have: the choice that decides
// how busy links are. One balance over all tensors that move together.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "reshard/price.h"

namespace troupe::reshard {

/// How senders are chosen. All but `balanced` are those of HSPMD and HotSPa
/// (SWITCH_ALGORITHM), applied to our pieces in their order.
enum class SenderRule : std::uint8_t {
  minimum_index,     ///< MIN_IDX: the owner with the smallest id
  first_come,        ///< FCFS: the first owner
  round_robin,       ///< ROUND_ROBIN: a counter for each piece
  node_round_robin,  ///< MULTI_NODE_ROUND_ROBIN: the same, own node first
  greedy,            ///< GREEDY: the pair with the fewest messages so far
  new_greedy,        ///< NEW_GREEDY: the owner that sent least so far, own
                     ///< node first, counted apart inside and between nodes
  balanced,          ///< ours: least predicted makespan
};
inline constexpr int kSenderRules = 7;
std::string_view name_of(SenderRule rule);
std::optional<SenderRule> parse_sender_rule(std::string_view name);

/// A piece that device `to` needs and does not have.
struct Demand {
  DeviceId to;
  std::uint32_t owners = 0;  ///< where its owners begin
  std::uint32_t count = 0;   ///< of owners, at least 1
  std::int32_t piece = 0;    ///< demands of one piece share a counter
  std::int64_t bytes = 0;
  std::int64_t rows = 1;  ///< along which it may be divided
};

/// Demands in the order in which the rules see them.
struct Demands {
  std::vector<Demand> list;
  std::vector<DeviceId> owners;
};

/// `from` sends rows [first, last) of a demand.
struct Share {
  std::uint32_t demand = 0;
  DeviceId from;
  std::int64_t first = 0, last = 0;
};

/// What an assignment would cost.
struct Makespan {
  double seconds = 0;  ///< of the busiest link
  Time latency;        ///< of the device with most messages, one per pair
  std::array<double, kLinkClasses> bytes{};  ///< over links of each class
  Time total() const;
  bool operator==(const Makespan&) const = default;
};

struct Assignment {
  std::vector<Share> shares;               ///< in order of demands, then rows
  SenderRule rule = SenderRule::balanced;  ///< whose it is
  Makespan makespan;
};

/// The makespan of every rule, and the chosen assignment.
struct Senders {
  Assignment chosen;
  std::vector<Makespan> by_rule;  ///< by SenderRule; empty when not asked
};

/// Assigns by one rule. `balanced` is never worse than the best of the others:
/// they are tried as well, and the best is taken.
///
/// Model:  balanced: pieces with fewest owners first, each to the owner whose
///         route is least busy afterwards; then passes in which a piece moves
///         to another owner, wholly or in part, where that lowers the busiest
///         link of its route.
Senders choose_senders(const Demands& demands, SenderRule rule,
                       const Routes& routes, bool compare = false);

Makespan makespan_of(const Demands& demands, std::span<const Share> shares,
                     const Routes& routes);

}  // namespace troupe::reshard
