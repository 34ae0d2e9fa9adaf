// What a plan costs on a cluster: seconds of every link it crosses, and the
// latency of what each device does one after another.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "clusters/cluster.h"
#include "profiles/cost.h"
#include "reshard/plan.h"

namespace troupe::reshard {

inline constexpr std::size_t kLinkClasses = 5;

/// Bytes per second of every link, and what a message adds to its latency.
struct Rates {
  std::vector<double> capacity;  ///< by LinkId
  std::array<Time, kLinkClasses> overhead{};
};
/// Nominal bandwidths.
Rates rates_of(const clusters::Cluster& cluster);
/// The achieved shares of them that profiles know.
Rates rates_of(const clusters::Cluster& cluster,
               const profiles::CostModel& costs);

/// Routes between devices, remembered while devices are few.
class Routes {
 public:
  Routes(const clusters::Cluster& cluster, const Rates& rates);

  clusters::Route of(DeviceId from, DeviceId to) const;
  /// Latency of a message with its overhead.
  Time latency(const clusters::Route& route) const;
  const clusters::Cluster& cluster() const { return *cluster_; }
  const Rates& rates() const { return *rates_; }

 private:
  const clusters::Cluster* cluster_;
  const Rates* rates_;
};

/// Seconds that every link is busy, and bytes by link class.
class LinkLoad {
 public:
  explicit LinkLoad(const Routes& routes);

  void add(DeviceId from, DeviceId to, double bytes);
  void add(const clusters::Route& route, double bytes);
  double at(clusters::LinkId link) const { return busy_[link.at()]; }
  /// The busiest link.
  double most() const;
  /// Bytes over links of each class; a message over two nvlink ports counts
  /// once.
  const std::array<double, kLinkClasses>& bytes() const { return bytes_; }

 private:
  const Routes* routes_;
  std::vector<double> busy_;
  std::vector<clusters::LinkId> touched_;
  std::array<double, kLinkClasses> bytes_{};
};

/// What a call of the communication library takes before its first byte.
/// Source: base latency of the ring, LL row, in the tuning table of NCCL 2.18
/// to 2.27 (src/graph/tuning.cc): 6.6 us.
inline constexpr Time kStart{6'600'000};

/// Predicted time of a plan; sets the algorithm of its collective steps.
///
/// Model: waves one after another. A wave takes as long as its busiest link,
///        plus the longest latency of a device, which starts its messages and
///        ring steps one after another, plus kStart when it communicates, plus
///        the longest local copying at memory bandwidth. Collectives are
///        direct exchanges, rings (one for each network card that all nodes of
///        the group can use) or two-level, whichever is predicted fastest.
Time price(Plan& plan, const Routes& routes);

}  // namespace troupe::reshard
