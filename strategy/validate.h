// The whole strategy checked against its model and cluster before anything
// is built from it.
#pragma once

#include "base/findings.h"
#include "clusters/cluster.h"
#include "models/model.h"
#include "strategy/places.h"
#include "strategy/strategy.h"

namespace troupe::strategy {

/// Everything wrong with a strategy, all together. FORMAT.md lists which
/// oddities are errors, which are accepted with a warning.
///
/// `places` names the parts as the user wrote them; parts it marks as unread
/// are skipped.
Findings validate(const Strategy& strategy, const models::Model& model,
                  const clusters::Cluster& cluster, const Places& places = {});

}  // namespace troupe::strategy
