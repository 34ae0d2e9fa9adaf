#include "sim/sharing.h"

#include <algorithm>
#include <limits>

namespace troupe::sim {

std::vector<double> max_min_fractions(std::span<const FlowDemand> flows,
                                      std::size_t links) {
  std::vector<double> fraction(flows.size(), 0.0);
  std::vector<char> frozen(flows.size(), 0);
  std::vector<double> left(links, 1.0);   // capacity not yet given away
  std::vector<double> slope(links, 0.0);  // use per byte/s of fair rate
  std::vector<int> rising(links, 0);      // flows not yet frozen
  for (const FlowDemand& f : flows) {
    for (const Share& s : f.shares) {
      slope[static_cast<std::size_t>(s.link)] += s.of_capacity / f.peak_rate;
      ++rising[static_cast<std::size_t>(s.link)];
    }
  }
  std::size_t active = flows.size();
  constexpr double kSlack = 1e-12;  // relative; rounding of the divisions
  while (active > 0) {
    double rate = std::numeric_limits<double>::infinity();
    for (std::size_t l = 0; l < links; ++l) {
      if (rising[l] > 0) {
        rate = std::min(rate, std::max(left[l], 0.0) / slope[l]);
      }
    }
    for (std::size_t f = 0; f < flows.size(); ++f) {
      if (!frozen[f]) rate = std::min(rate, flows[f].peak_rate);
    }
    const double limit = rate * (1 + kSlack);
    // Freeze those whose own speed or one of whose links is reached.
    std::vector<std::size_t> freezing;
    for (std::size_t f = 0; f < flows.size(); ++f) {
      if (frozen[f]) continue;
      bool stops = flows[f].peak_rate <= limit;
      for (const Share& s : flows[f].shares) {
        const auto l = static_cast<std::size_t>(s.link);
        stops = stops || std::max(left[l], 0.0) <= limit * slope[l];
      }
      if (stops) freezing.push_back(f);
    }
    for (const std::size_t f : freezing) {
      frozen[f] = 1;
      --active;
      fraction[f] = std::min(1.0, rate / flows[f].peak_rate);
      for (const Share& s : flows[f].shares) {
        const auto l = static_cast<std::size_t>(s.link);
        left[l] -= s.of_capacity * fraction[f];
        slope[l] -= s.of_capacity / flows[f].peak_rate;
        --rising[l];
      }
    }
    if (freezing.empty()) break;  // nothing limits the rest: full speed
  }
  for (std::size_t f = 0; f < flows.size(); ++f) {
    if (!frozen[f]) fraction[f] = 1.0;
  }
  return fraction;
}

}  // namespace troupe::sim
