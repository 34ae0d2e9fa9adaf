// Max-min fair sharing of links among flows. Pure: knows nothing of time.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace troupe::sim {

/// What one flow takes of one link when it runs at its full speed, as a
/// share of the link's capacity (0, 1].
struct Share {
  std::int32_t link = -1;
  double of_capacity = 0;
};

/// A flow that may cross several links, one message or a whole collective.
/// `peak_rate` is its speed in bytes per second on its busiest link when it
/// is alone; fairness is between these rates.
struct FlowDemand {
  std::span<const Share> shares;
  double peak_rate = 0;
};

/// The fraction of its full speed that each flow gets.
///
/// Model:    progressive filling: all flows' rates rise together; a flow
///           stops at its full speed or when one of its links is full.
/// Requires: shares within (0, 1], positive peak rates, link numbers below
///           `links`.
/// Source:   Bertsekas and Gallager, Data Networks, section 6.5.2.
std::vector<double> max_min_fractions(std::span<const FlowDemand> flows,
                                      std::size_t links);

}  // namespace troupe::sim
