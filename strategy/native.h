// Reads the native strategy file, troupe.strategy/1 (FORMAT.md).
#pragma once

#include <string>

#include "base/json.h"
#include "clusters/cluster.h"
#include "models/model.h"
#include "strategy/draft.h"

namespace troupe::strategy {

inline constexpr const char* kFormat = "troupe.strategy/1";

/// Reads and expands; problems are findings, and what could not be read is
/// marked in `places`. A model without layers or a cluster without devices
/// stands for one that could not be read itself: nothing is said about it.
Draft read_native(const Json& json, const std::string& file,
                  const models::Model& model, const clusters::Cluster& cluster);

}  // namespace troupe::strategy
