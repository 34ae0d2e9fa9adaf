// The state of a cluster between two events: which devices are there, how
// slow they and the links are. Devices keep their numbers.
#pragma once

#include <string>
#include <vector>

#include "profiles/cost.h"
#include "runs/elastic_trace.h"

namespace troupe::runs {

/// How a cluster differs from its description.
struct Condition {
  std::vector<bool> present;          ///< by device: not lost, not yet to come
  std::vector<double> device_slower;  ///< by device; 1 is healthy
  std::vector<double> link_slower;    ///< by link
  std::vector<bool> link_lost;        ///< by link

  /// A healthy cluster but for the devices that come later.
  static Condition of(const clusters::Cluster& cluster,
                      const std::vector<DeviceId>& absent);

  bool operator==(const Condition&) const = default;
};

/// Applies an event.
///
/// Errors: input: something lost that is not there, or back that is not lost;
///         a link that cannot be lost by itself.
[[nodiscard]] Result<void> apply(const Event& event,
                                 const clusters::Cluster& cluster,
                                 Condition& condition);

/// Devices that can be used, ascending: present, and with a network card that
/// works when there are several nodes (their own or another of their node).
std::vector<DeviceId> usable(const clusters::Cluster& cluster,
                             const Condition& condition);

/// The cluster in this condition.
///
/// Model: a slow device is of a kind of its own, with equal peaks, whose name
///        says the factor; a slow link has less bandwidth. Without its NVLink
///        port a device goes through PCIe; without its card it uses the next
///        one of its node. Lost devices stay, for numbers must not change.
clusters::Cluster in_condition(const clusters::Cluster& cluster,
                               const Condition& condition);

/// Costs of a cluster in a condition from those of the healthy one: what a
/// slow device does takes longer by its factor. Measured collectives are
/// taken only while no link is slow or lost.
class ConditionCosts final : public profiles::CostModel {
 public:
  /// `healthy` must outlive it.
  ConditionCosts(const profiles::CostModel& healthy,
                 const clusters::Cluster& cluster, const Condition& condition);

  profiles::Cost operator_cost(const kernels::OpShape& op,
                               const clusters::DeviceKind& kind) const override;
  std::optional<profiles::Cost> layer_cost(
      const profiles::LayerKey& key,
      const clusters::DeviceKind& kind) const override;
  profiles::LinkEfficiency link_efficiency(
      clusters::LinkClass link_class) const override;
  std::optional<profiles::Cost> collective_cost(
      clusters::Collective collective, int ranks, int per_node, Bytes bytes,
      const clusters::DeviceKind& kind) const override;
  std::string content_hash() const override;

 private:
  struct Slow {
    std::string name;
    clusters::DeviceKind healthy;
    double factor = 1;
  };
  const Slow* slow_of(const clusters::DeviceKind& kind) const;

  const profiles::CostModel& healthy_;
  std::vector<Slow> slow_;
  bool links_as_measured_ = true;
};

}  // namespace troupe::runs
