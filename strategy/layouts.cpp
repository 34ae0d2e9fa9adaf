#include "strategy/layouts.h"

#include <algorithm>

namespace troupe::strategy {
namespace {

bool holds(const Stage& stage, int layer) {
  return std::ranges::any_of(stage.chunks, [&](const LayerRange& chunk) {
    return chunk.first <= layer && layer < chunk.last;
  });
}

/// The local layout of a parameter on a tensor-parallel group of `tp`.
States local_layout(const models::Parameter& parameter, int tp) {
  States states;
  if (tp == 1) return states;
  if (parameter.cut == models::Cut::none) {
    states.duplicate = tp;
    return states;
  }
  const auto dimension = static_cast<std::size_t>(parameter.dimension);
  const std::int64_t units = parameter.shape[dimension];
  const bool shared = parameter.cut == models::Cut::kv_heads && units < tp;
  const int parts = shared ? static_cast<int>(units) : tp;
  if (parts > 1) states.split = {{parameter.dimension, parts}};
  if (shared) {
    // Neighbouring ranks share a head: the copies vary fastest.
    states.duplicate = tp / parts;
    states.order = parts > 1 ? std::vector<int>{parameter.dimension, kDuplicate}
                             : std::vector<int>{kDuplicate};
  }
  return states;
}

bool is_tied(const models::Parameter& parameter, const models::Model& model) {
  return model.tied_embeddings && parameter.name == "embedding.tokens";
}

}  // namespace

Layouts::Layouts(const Strategy& strategy, const Phase& phase,
                 const models::Model& model)
    : phase_(phase),
      model_(model),
      zero_(strategy.zero),
      sequence_parallel_(strategy.sequence_parallel) {}

std::vector<std::vector<DeviceId>> Layouts::groups(int layer) const {
  const int wanted = layer == models::kEmbedding ? 0
                     : layer == models::kHead    ? model_.layers - 1
                                                 : layer;
  std::vector<std::vector<DeviceId>> found;
  for (const Pipeline& pipeline : phase_.pipelines) {
    for (const Stage& stage : pipeline.stages) {
      if (!holds(stage, wanted)) continue;
      for (const Member& member : stage.members) {
        found.push_back(member.devices);
      }
    }
  }
  return found;
}

std::vector<std::vector<DeviceId>> Layouts::holders(
    const models::Parameter& parameter) const {
  auto found = groups(parameter.layer);
  if (!is_tied(parameter, model_)) return found;
  for (auto& group : groups(models::kHead)) {
    if (std::ranges::find(found, group) == found.end()) {
      found.push_back(std::move(group));
    }
  }
  return found;
}

void Layouts::sum_copies(const models::Parameter& parameter,
                         States& states) const {
  // A key head that ranks share meets other query heads on each of them; a
  // whole parameter meets other rows under sequence parallelism.
  const bool whole = parameter.cut == models::Cut::none;
  if (states.duplicate == 1 || (whole && !sequence_parallel_)) return;
  states.partial = states.duplicate;
  states.duplicate = 1;
  std::ranges::replace(states.order, kDuplicate, kPartial);
}

Annotation Layouts::of(const models::Parameter& parameter, Use use) const {
  Annotation annotation;
  for (auto& devices : holders(parameter)) {
    const int tp = static_cast<int>(devices.size());
    Subgroup group{std::move(devices), local_layout(parameter, tp), 1};
    if (use == Use::gradient) sum_copies(parameter, group.states);
    annotation.groups.push_back(std::move(group));
  }
  if (annotation.groups.size() < 2) return annotation;
  switch (use) {
    case Use::compute:
      break;
    case Use::gradient:
      annotation.across = Across::partial;
      break;
    case Use::optimizer:
      if (zero_ == Zero::none) break;
      annotation.across = Across::split;
      annotation.dimension = parameter.dimension;
      annotation.interleaved = true;
      break;
  }
  return annotation;
}

}  // namespace troupe::strategy
