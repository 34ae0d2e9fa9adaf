// The layer and stage measurements of one device kind.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "profiles/cost.h"
#include "profiles/curve.h"
#include "profiles/database.h"
#include "profiles/rows.h"

namespace troupe::profiles {

/// Answers from layer rows first, then from stage rows.
class LayerTable {
 public:
  LayerTable() = default;
  /// The rows of the newest source first; each source has its own curves.
  LayerTable(const std::vector<Stored<LayerRow>>& layers,
             std::vector<Stored<StageRow>> stages);

  /// Model:  A layer row with the same micro-batch and length is measured;
  ///         between two micro-batches (or, of other lengths, between two
  ///         token counts) it is interpolated; above the largest micro-batch
  ///         it grows at most in proportion, below the least one it shrinks at
  ///         most in proportion. A backward nobody measured is
  ///         at most twice its forward. (`Cost::least`.) A stage row gives pp x
  ///         T(s) for the whole model, shared by layers and head in proportion
  ///         to their FLOPs, a third of it forward; of one source the row of
  ///         the fewest stages. 16-bit types stand for each other.
  std::optional<Cost> find(const LayerKey& key) const;

 private:
  /// Layers that differ in nothing but their micro-batch.
  struct Family {
    LayerKey key;  ///< as measured; micro_batch is 0
    SourcedCurve by_batch;
  };
  std::optional<Cost> from_layers(const LayerKey& key) const;
  /// Of fewer sequences than were measured.
  std::optional<Cost> below_layers(const LayerKey& key) const;
  std::optional<Cost> from_stages(const LayerKey& key) const;

  std::vector<const Family*> families_for(const LayerKey& key) const;

  /// Families of the same work; those of the newest source first.
  std::map<LayerKey, std::vector<Family>> by_batch_;
  std::map<LayerKey, SourcedCurve> by_tokens_;  ///< seq_len is 0 as well
  std::vector<Stored<StageRow>> stages_;
};

}  // namespace troupe::profiles
