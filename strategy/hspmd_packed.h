// The numbers of HSPMD's packed lists, before they become stages.
#pragma once

#include <vector>

#include "base/json.h"
#include "strategy/foreign_readers.h"

namespace troupe::strategy {

/// Layers of a stage or model, as its files may say them.
inline constexpr Limits kHspmdLayers{0, 1 << 14};
/// The experiments train with 64 sequences of 4096 tokens, one to a
/// micro-batch; the fields are not in every file.
inline constexpr int kHspmdSequences = 64;
inline constexpr int kHspmdSeqLen = 4096;

struct HspmdPacked {
  int dp = 1;
  int tp = 1;
  std::vector<std::int64_t> cp_list;              ///< pipelines by DP group
  std::vector<std::vector<std::int64_t>> layers;  ///< by pipeline and stage
  std::vector<std::int64_t> micro_batches;        ///< by DP group
  std::vector<std::int64_t> seq_lens;             ///< by pipeline; empty: equal
  int seq_len = kHspmdSeqLen;
  int micro_batch_size = 1;
};

/// True for a missing, null or empty list: the artifact's "default".
bool absent(const Json* value);

/// dp, tp and cp_list; false when they contradict each other.
bool read_groups(JsonObject& object, HspmdPacked& packed);
/// layers_num_list; false when it cannot be told which stages there are.
/// Sets `shaped` when there is a list for every pipeline.
bool read_layers(ForeignContext& context, JsonObject& object,
                 HspmdPacked& packed, bool& shaped);
/// Lengths: of the whole sequence, and of each pipeline under context
/// parallelism.
void read_lengths(JsonObject& object, HspmdPacked& packed);
void read_micro_batches(JsonObject& object, HspmdPacked& packed);

}  // namespace troupe::strategy
