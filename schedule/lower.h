// Lowers a strategy's phase to a schedule.
#pragma once

#include <vector>

#include "base/result.h"
#include "clusters/cluster.h"
#include "models/model.h"
#include "schedule/order.h"
#include "schedule/schedule.h"
#include "strategy/strategy.h"

namespace troupe::schedule {

/// Slots of every stage of every pipeline, for ScheduleKind::custom.
using Orders = std::vector<std::vector<std::vector<Slot>>>;

/// Name of the sync that every optimizer task waits for: the norm is of all
/// gradients.
inline constexpr std::string_view kGradientNorm = "gradient norm";

/// The schedule of one step of `phase`. Stages without layers are left out.
/// `like`: hand-overs are performed as in this schedule, of the same strategy
/// for a model of another size.
///
/// Requires: a strategy that `strategy::validate` found no error in.
/// Errors: input, when the phase is too large to address.
Result<Schedule> lower(const strategy::Strategy& strategy,
                       const strategy::Phase& phase, const models::Model& model,
                       const clusters::Cluster& cluster,
                       const Orders& orders = {},
                       const Schedule* like = nullptr);

}  // namespace troupe::schedule
