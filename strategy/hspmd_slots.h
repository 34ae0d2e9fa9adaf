// HSPMD's rank slots: which device works in which place of which stage.
#pragma once

#include <vector>

#include "base/json.h"
#include "clusters/cluster.h"
#include "strategy/strategy.h"

namespace troupe::strategy {

struct HspmdSlots {
  struct Stage {
    std::vector<std::int64_t> slots;  ///< working ones
    std::vector<DeviceId> devices;    ///< one for each
  };
  std::vector<std::vector<Stage>> stages;  ///< by pipeline and stage
  bool mapped = false;                     ///< by rank_to_device_mapping
  bool good = true;                        ///< complete enough to go on
};

/// Reads unused_rank, rank_to_device_mapping, num_gpus and rank_slots for
/// stages of `tp` slots each.
///
/// Without a mapping slot i is device i; when that leads beyond the cluster,
/// stages take free devices node by node instead, with a warning.
HspmdSlots read_slots(JsonObject& object,
                      const std::vector<std::vector<std::int64_t>>& layers,
                      int tp, const clusters::Cluster& cluster);

}  // namespace troupe::strategy
