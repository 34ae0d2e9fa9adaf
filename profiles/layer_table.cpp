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

LayerTable::LayerTable(const std::vector<LayerRow>& layers,
                       std::vector<StageRow> stages)
    : stages_(std::move(stages)) {
  // Fewest stages first: they say most about a layer by itself.
  std::ranges::stable_sort(stages_, {}, &StageRow::pp);
  std::map<LayerKey, std::vector<Curve::Point>> batches, tokens;
  for (const LayerRow& row : layers) {
    LayerKey shape = shape_of(row.key);
    batches[shape].push_back({static_cast<double>(row.key.micro_batch),
                              row.time_s, row.spread, row.scaled});
    by_batch_[shape].exact.push_back(row.key);
    if (row.key.part != Part::layer) continue;
    shape.seq_len = 0;
    tokens[shape].push_back(
        {tokens_of(row.key), row.time_s, row.spread, row.scaled});
  }
  for (auto& [shape, points] : batches) {
    by_batch_[shape].by_batch = Curve(std::move(points));
  }
  for (auto& [shape, points] : tokens) {
    by_tokens_[shape] = Curve(std::move(points));
  }
}

std::optional<Cost> LayerTable::from_layers(const LayerKey& key) const {
  LayerKey shape = shape_of(key);
  if (const auto at = by_batch_.find(shape); at != by_batch_.end()) {
    const Family& family = at->second;
    if (!same_vocab(key, family.exact.front())) return {};
    const bool same = as_measured(key, family.exact.front());
    const Curve& curve = family.by_batch;
    if (const auto found = curve.at(key.micro_batch)) {
      return Cost{seconds(found->time), found->spread,
                  found->derived || (found->exact && !same)
                      ? Provenance::derived
                  : found->exact ? Provenance::measured
                                 : Provenance::interpolated};
    }
    if (key.micro_batch > curve.back().x) {
      return Cost{seconds(curve.last_time() * key.micro_batch / curve.back().x),
                  curve.back().spread, Provenance::derived,
                  seconds(curve.last_time())};
    }
  }
  shape.seq_len = 0;
  const auto at = by_tokens_.find(shape);
  if (at == by_tokens_.end()) return {};
  const auto found = at->second.at(tokens_of(key));
  if (!found) return {};
  return Cost{seconds(found->time), found->spread,
              found->derived ? Provenance::derived : Provenance::interpolated};
}

std::optional<Cost> LayerTable::from_stages(const LayerKey& key) const {
  for (const StageRow& row : stages_) {
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
  if (!key.backward) return {};
  LayerKey forward = key;
  forward.backward = false;
  auto found = from_layers(forward);
  if (!found) return {};
  const Time least = found->least.v > 0 ? found->least : found->time;
  return Cost{found->time * 2, found->spread, Provenance::derived, least};
}

}  // namespace troupe::profiles
