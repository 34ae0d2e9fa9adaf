// The layer and stage measurements of one device kind.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "profiles/cost.h"
#include "profiles/curve.h"
#include "profiles/rows.h"

namespace troupe::profiles {

/// Answers from layer rows first, then from stage rows.
class LayerTable {
 public:
  LayerTable() = default;
  /// Where a key occurs twice, the first row counts.
  LayerTable(const std::vector<LayerRow>& layers, std::vector<StageRow> stages);

  /// Model:  A layer row with the same micro-batch and length is measured;
  ///         between two micro-batches (or, of other lengths, between two
  ///         token counts) it is interpolated; above the largest micro-batch
  ///         it grows at most in proportion. A backward nobody measured is
  ///         at most twice its forward. (`Cost::least`.) A stage row gives pp x
  ///         T(s) for the whole model, shared by layers and head in proportion
  ///         to their FLOPs, a third of it forward. 16-bit types stand for each
  ///         other.
  std::optional<Cost> find(const LayerKey& key) const;

 private:
  struct Family {
    Curve by_batch;
    std::vector<LayerKey> exact;  ///< keys as they were measured
  };
  std::optional<Cost> from_layers(const LayerKey& key) const;
  std::optional<Cost> from_stages(const LayerKey& key) const;

  std::map<LayerKey, Family> by_batch_;  ///< micro_batch is 0
  std::map<LayerKey, Curve> by_tokens_;  ///< seq_len is 0 as well
  std::vector<StageRow> stages_;
};

}  // namespace troupe::profiles
