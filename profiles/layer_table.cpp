#include "profiles/layer_table.h"

#include <algorithm>
#include <cstdlib>

#include "models/model.h"

namespace troupe::profiles {
namespace {

using kernels::DType;

/// Forward share of forward plus backward: two of six matrix products.
constexpr double kForward = 1.0 / 3;
/// Vocabularies are padded for tensor parallelism; within this share they
/// count as the same.
constexpr double kSameVocab = 0.015;

/// What makes two layers the same work: heads only by their total width.
LayerKey shape_of(LayerKey key) {
  key.kv_heads *= key.head_dim;
  key.heads *= key.head_dim;
  key.head_dim = 0;
  key.micro_batch = 0;
  key.vocab = 0;
  if (key.dtype == DType::bf16) key.dtype = DType::fp16;
  if (key.part != Part::layer) {
    key.heads = key.kv_heads = key.ffn = 0;
    key.gated = false;
  }
  return key;
}

bool same_vocab(const LayerKey& a, const LayerKey& b) {
  if (a.part == Part::layer) return true;
  return std::abs(a.vocab - b.vocab) <= kSameVocab * std::max(a.vocab, b.vocab);
}

/// Equal but for the direction: what a measurement of `b` says of `a`
/// without any reservation.
bool as_measured(const LayerKey& a, const LayerKey& b) {
  if (a.part != Part::layer) return a.vocab == b.vocab && a.dtype == b.dtype;
  return a.heads == b.heads && a.kv_heads == b.kv_heads && a.dtype == b.dtype;
}

double tokens_of(const LayerKey& key) {
  return static_cast<double>(key.micro_batch) * key.seq_len;
}

models::Model model_of(const StageRow& row, int vocab) {
  models::Model m;
  m.name = row.model;
  m.layers = row.layers;
  m.hidden = row.hidden;
  m.heads = row.heads;
  m.kv_heads = row.kv_heads;
  m.head_dim = row.head_dim;
  m.ffn = row.ffn;
  m.vocab = vocab;
  m.activation =
      row.gated ? models::Activation::swiglu : models::Activation::gelu;
  return m;
}

bool describes(const StageRow& row, const LayerKey& key) {
  const auto half = [](DType t) {
    return t == DType::bf16 || t == DType::fp16;
  };
  if (row.hidden != key.hidden || row.tp != key.tp) return false;
  if (key.cross || key.window > 0) return false;
  if (row.dtype != key.dtype && !(half(row.dtype) && half(key.dtype))) {
    return false;
  }
  if (key.part == Part::head) return row.vocab > 0 && key.vocab > 0;
  return key.part == Part::layer && row.ffn == key.ffn &&
         row.gated == key.gated &&
         row.heads * row.head_dim == key.heads * key.head_dim &&
         row.kv_heads * row.head_dim == key.kv_heads * key.head_dim;
}

/// Seconds of the whole model, forward and backward; nothing outside of what
/// was measured.
std::optional<double> whole_model(const StageRow& row, const LayerKey& key) {
  if (row.seq_len > 0) {
    if (row.seq_len != key.seq_len || row.micro_batch != key.micro_batch) {
      return {};
    }
    return row.pp * row.time_s;
  }
  if (key.seq_len > row.max_seq) return {};
  const double s = key.seq_len;
  return row.pp * (key.micro_batch * (row.a * s * s + row.b * s) + row.c);
}

}  // namespace

LayerTable::LayerTable(const std::vector<Stored<LayerRow>>& layers,
                       std::vector<Stored<StageRow>> stages)
    : stages_(std::move(stages)) {
  // Of a source the fewest stages first: they say most about a layer by
  // itself.
  for (auto at = stages_.begin(); at != stages_.end();) {
    const auto end = std::find_if(at, stages_.end(), [&](const auto& s) {
      return s.source != at->source;
    });
    std::stable_sort(at, end, [](const auto& a, const auto& b) {
      return a.row.pp < b.row.pp;
    });
    at = end;
  }
  std::map<LayerKey, PointsBySource> tokens;
  std::map<LayerKey, std::vector<std::pair<LayerKey, PointsBySource>>> batches;
  for (const auto& [source, row] : layers) {
    LayerKey shape = shape_of(row.key);
    LayerKey same = row.key;
    same.micro_batch = 0;
    auto& families = batches[shape];
    auto family = std::ranges::find(families, same,
                                    [](const auto& f) { return f.first; });
    if (family == families.end()) {
      family = families.insert(family, {same, {}});
    }
    add_point(family->second, source,
              {static_cast<double>(row.key.micro_batch), row.time_s, row.spread,
               row.scaled});
    if (row.key.part != Part::layer) continue;
    shape.seq_len = 0;
    add_point(tokens[shape], source,
              {tokens_of(row.key), row.time_s, row.spread, row.scaled});
  }
  for (auto& [shape, families] : batches) {
    for (auto& [key, points] : families) {
      by_batch_[shape].push_back({key, SourcedCurve(std::move(points))});
    }
  }
  for (auto& [shape, points] : tokens) {
    by_tokens_[shape] = SourcedCurve(std::move(points));
  }
}

/// The very layer first.
std::vector<const LayerTable::Family*> LayerTable::families_for(
    const LayerKey& key) const {
  std::vector<const Family*> families;
  const auto at = by_batch_.find(shape_of(key));
  if (at == by_batch_.end()) return families;
  for (const Family& family : at->second) {
    if (same_vocab(key, family.key)) families.push_back(&family);
  }
  std::ranges::stable_partition(families, [&](const Family* family) {
    return as_measured(key, family->key);
  });
  return families;
}

std::optional<Cost> LayerTable::from_layers(const LayerKey& key) const {
  const auto families = families_for(key);
  const double batch = key.micro_batch;
  for (const Family* family : families) {
    const auto found = family->by_batch.at(batch);
    if (!found) continue;
    const bool same = as_measured(key, family->key);
    return Cost{seconds(found->time), found->spread,
                found->derived || (found->exact && !same) ? Provenance::derived
                : found->exact                            ? Provenance::measured
                               : Provenance::interpolated};
  }
  for (const Family* family : families) {
    if (const auto end = family->by_batch.end_below(batch)) {
      return Cost{seconds(end->time * batch / end->x), end->spread,
                  Provenance::derived, seconds(end->time)};
    }
  }
  LayerKey shape = shape_of(key);
  shape.seq_len = 0;
  const auto at = by_tokens_.find(shape);
  if (at == by_tokens_.end()) return {};
  const auto found = at->second.at(tokens_of(key));
  if (!found) return {};
  return Cost{seconds(found->time), found->spread,
              found->derived ? Provenance::derived : Provenance::interpolated};
}

std::optional<Cost> LayerTable::below_layers(const LayerKey& key) const {
  const double batch = key.micro_batch;
  for (const Family* family : families_for(key)) {
    if (const auto end = family->by_batch.end_above(batch)) {
      return Cost{seconds(end->time), end->spread, Provenance::derived,
                  seconds(end->time * batch / end->x)};
    }
  }
  return {};
}

std::optional<Cost> LayerTable::from_stages(const LayerKey& key) const {
  for (const auto& [source, row] : stages_) {
    if (!describes(row, key)) continue;
    const auto whole = whole_model(row, key);
    if (!whole) continue;
    const std::int64_t tokens = std::int64_t{key.micro_batch} * key.seq_len;
    const models::Model model = model_of(row, row.vocab);
    const double layer =
        models::layer_forward_flops(model, models::LayerKind::decoder, tokens,
                                    key.seq_len)
            .v;
    const double head = models::head_forward_flops(model, tokens).v;
    double part = layer;
    if (key.part == Part::head) {
      part = models::head_forward_flops(model_of(row, key.vocab), tokens).v;
    }
    const double share = part / (row.layers * layer + head);
    const double direction = key.backward ? 1 - kForward : kForward;
    return Cost{seconds(*whole * share * direction), 0, Provenance::derived};
  }
  return {};
}

std::optional<Cost> LayerTable::find(const LayerKey& key) const {
  if (key.micro_batch < 1 || key.seq_len < 1) return {};
  if (auto found = from_layers(key)) return found;
  if (auto found = from_stages(key)) return found;
  if (auto found = below_layers(key)) return found;
  if (!key.backward) return {};
  LayerKey forward = key;
  forward.backward = false;
  auto found = from_layers(forward);
  if (!found) return {};
  const Time least = found->least.v > 0 ? found->least : found->time;
  return Cost{found->time * 2, found->spread, Provenance::derived, least};
}

}  // namespace troupe::profiles
