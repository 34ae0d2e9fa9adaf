// What communication asks of the links: the bytes each link carries and the
// latency on top, for messages and for collectives decomposed into rings and
// trees. Prices them alone; sharing between them is the engine's.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "clusters/cluster.h"
#include "clusters/collective.h"
#include "profiles/cost.h"
#include "sim/sharing.h"

namespace troupe::sim {

using clusters::DeviceId;

/// A communication that starts at once and ends at once.
struct Activity {
  Time latency;          ///< after the last byte left its source
  Time work;             ///< of its busiest link when alone
  double peak_rate = 0;  ///< bytes/s on that link
  std::vector<Share> shares;
  profiles::Provenance provenance = profiles::Provenance::roofline;
  Time alone() const { return work + latency; }
};

/// A group of devices as a ring: the time of a step, and the time per byte
/// of the busiest link when every hop carries one byte.
struct RingCost {
  int ranks = 1;
  int per_node = 1;  ///< fewest ranks of the group in one of its nodes
  Time step;
  double seconds_per_byte = 0;
  auto operator<=>(const RingCost&) const = default;
};

/// Turns messages and collectives into activities. Pure after construction.
class Network {
 public:
  Network(const clusters::Cluster& cluster, const profiles::CostModel& costs);

  struct Message {
    DeviceId from, to;
    Bytes bytes;
  };
  /// Messages that are posted together. Those within a node that are alone on
  /// their links take measured times where there are any.
  Activity messages(std::span<const Message> messages) const;

  struct Group {
    std::vector<DeviceId> devices;
    Bytes bytes;
  };
  /// Collectives of one kind that start together.
  Activity collectives(clusters::Collective collective,
                       std::span<const Group> groups) const;

  /// The ring through `devices`; `sharers[link]` (may be empty) multiplies
  /// what a link carries, for groups that are busy at the same time.
  RingCost ring(std::span<const DeviceId> devices,
                std::span<const std::int32_t> sharers = {}) const;
  /// Counts one for each link that the group's ring crosses.
  void count_sharers(std::span<const DeviceId> devices,
                     std::vector<std::int32_t>& sharers) const;

  std::size_t links() const { return capacity_.size(); }

 private:
  struct Hop {
    DeviceId from, to;
  };
  struct Tally;  ///< bytes by link
  std::vector<Hop> hops(std::span<const DeviceId> devices, int& rings,
                        int& per_node) const;
  Time step_of(DeviceId from, DeviceId to) const;
  Activity finish(Tally& tally, Time latency) const;
  std::optional<profiles::Cost> measured(const Message& message) const;
  void override_by_measurement(std::span<const Message> messages,
                               Activity& activity) const;
  void override_by_measurement(clusters::Collective collective,
                               std::span<const Group> groups,
                               Activity& activity) const;

  const clusters::Cluster& cluster_;
  const profiles::CostModel& costs_;
  std::vector<double> capacity_;  ///< achieved bytes/s by link
  std::vector<Time> overhead_;    ///< per message, by link class
};

/// Time of a collective over a ring of known cost: ring steps, or for a small
/// all-reduce the shorter of ring and tree.
///
/// Model:  all-reduce 2(n-1)/n of the bytes over the busiest hop; all-gather
///         and reduce-scatter (n-1)/n; latency one step for each of their
///         2(n-1) or n-1 steps, or 2 ceil(log2 n) for a tree.
/// Source: Thakur et al., IJHPCA 19(1), 2005; NCCL uses both algorithms.
Time collective_time(clusters::Collective collective, const RingCost& ring,
                     Bytes bytes);
double ring_volume(clusters::Collective collective, int ranks);
std::int64_t ring_steps(clusters::Collective collective, int ranks);

}  // namespace troupe::sim
