// The parts of the native reader. Internal to this folder.
#pragma once

#include <optional>
#include <string>

#include "clusters/cluster.h"
#include "models/model.h"
#include "strategy/draft.h"

namespace troupe::strategy {

/// What a phase takes from the file unless it says otherwise.
struct PhaseDefaults {
  std::optional<int> micro_batches;
  std::optional<int> micro_batch_size;
};

struct NativeContext {
  const models::Model& model;
  const clusters::Cluster& cluster;
  Draft& draft;
};

/// True when the object has a key that only the short form has.
bool has_short_form(const JsonObject& object);
/// Reads the short form into a phase whose part is `part`.
void read_short_form(NativeContext& context, JsonObject& object,
                     const PhaseDefaults& defaults, const std::string& part,
                     Phase& phase);

/// Reads "pipelines" of `object` into a phase whose part is `part`.
void read_pipelines(NativeContext& context, JsonObject& object,
                    const PhaseDefaults& defaults, const std::string& part,
                    Phase& phase);

/// Reads "recompute": a word, or {"mode": word, "layers": "0-3"}.
std::optional<RecomputeRule> read_recompute(JsonObject& object);

}  // namespace troupe::strategy
