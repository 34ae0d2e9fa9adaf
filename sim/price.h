// Prices the bodies of a schedule: what each compute task takes on the
// devices it runs on, by part and by provenance. Each distinct (block, kind
// of group) is priced once.
#pragma once

#include <array>
#include <map>
#include <vector>

#include "clusters/cluster.h"
#include "profiles/cost.h"
#include "schedule/schedule.h"
#include "sim/network.h"

namespace troupe::sim {

/// Where a compute task's time goes on its compute stream; sums to the task.
struct Parts {
  Time compute, tensor, context, data;
  Time total() const { return compute + tensor + context + data; }
  Parts& operator+=(const Parts& o);
};

/// Time by provenance, in the order of profiles::Provenance; sums to the
/// task.
using ByProvenance = std::array<Time, profiles::kProvenances>;

/// One operator's price on one kind of group.
struct OperatorPrice {
  Time time;
  profiles::Provenance provenance = profiles::Provenance::roofline;
};

/// A block's operators, priced.
struct BlockPrice {
  const schedule::Block* block = nullptr;
  std::vector<OperatorPrice> operators;
  std::vector<std::uint16_t> prefetches;  ///< operators issued a block early
};

/// What a whole body takes.
struct BodyPrice {
  Time time;
  Parts parts;
  ByProvenance provenance{};
  Flops flops;
};

/// What pricing needs to know of a tensor-parallel group: equal groups have
/// equal prices.
struct GroupKind {
  std::vector<clusters::KindId> kinds;  ///< distinct, ascending
  RingCost tensor, context, data, ends;
  auto operator<=>(const GroupKind&) const = default;
};

/// Prices of a schedule on a cluster.
class PriceList {
 public:
  PriceList(const schedule::Schedule& schedule,
            const clusters::Cluster& cluster, const Network& network,
            const profiles::CostModel& costs, Time host_per_operator = {});

  /// Price of compute task `id`: of its slowest member.
  const BodyPrice& of(schedule::TaskId id) const;
  /// Priced runs of a body on a member, for operator detail.
  std::vector<std::pair<const BlockPrice*, int>> runs(schedule::TaskId id,
                                                      std::size_t member);
  const GroupKind& group(schedule::StageId stage, std::size_t member) const;

  /// What the host needs to launch a compute task's operators: it is never
  /// shorter, however fast the device.
  Time host_time(schedule::TaskId id, std::size_t member);

  /// The forward FLOPs and more that the devices really execute.
  Flops hardware_flops() const;

 private:
  int kind_of_group(schedule::StageId stage, std::size_t member) const;
  const BlockPrice& block(schedule::BlockId id, int group);
  BlockPrice price_block(const schedule::Block& block,
                         const GroupKind& group) const;
  void scale_to_layer(const schedule::Block& block, const GroupKind& group,
                      BlockPrice& price) const;
  OperatorPrice price_operator(const schedule::Operator& op,
                               const GroupKind& group) const;
  /// Rings of the ranks that hold the same weights: by the first layer of a
  /// stage, and of a tied table at both ends.
  struct ReplicaRings {
    std::map<std::int32_t, RingCost> data;
    RingCost ends;
  };
  ReplicaRings replica_rings(const Network& network) const;
  void find_groups(const Network& network);
  void price_tasks();
  BodyPrice price_slowest_member(schedule::TaskId id);

  const schedule::Schedule& schedule_;
  const clusters::Cluster& cluster_;
  const profiles::CostModel& costs_;
  Time host_per_operator_;
  std::vector<GroupKind> groups_;
  std::vector<std::vector<int>> group_of_;  ///< by stage and member
  std::map<std::pair<int, int>, BlockPrice> blocks_;
  std::vector<BodyPrice> prices_;
  std::vector<std::int32_t> price_of_;  ///< by task, -1 for communication
};

/// Runs the priced blocks on one device's streams, all idle at the start;
/// the end is when all are idle again.
BodyPrice run_body(const std::vector<std::pair<const BlockPrice*, int>>& runs);

}  // namespace troupe::sim
