// Sharding annotations in the JSON of HSPMD and HotSPa (ds_parallel_config):
// one entry per parameter with split and duplicate counts per subgroup.
#pragma once

#include <map>
#include <string>

#include "base/json.h"
#include "base/result.h"
#include "strategy/annotation.h"
#include "strategy/load.h"

namespace troupe::strategy {

/// The file that the reference systems' generators would write for a phase.
///
/// Model:  parameters carry a split of the tensor-parallel degree and as many
///         duplicates as there are tensor-parallel groups; the fused QKV and
///         the first MLP product are said to be split on dimension 1 (they
///         are stored transposed), input and label on dimension 0 by groups.
/// Errors: input for a model with an encoder, an interleaved pipeline, or a
///         phase that does not exist.
Result<Json> to_ds_config(const Plan& plan, std::size_t phase);

/// One entry of such a file, read.
struct DsEntry {
  Annotation annotation;
  bool placeholder = false;  ///< an input: subgroups split dimension 0
};
/// Every entry by its path: "llama.blocks.blocks0.attn.qkv", "lm_head".
struct DsConfig {
  std::map<std::string, DsEntry> entries;
  std::map<std::string, std::pair<int, int>> blocks;  ///< layers [first, last)
  bool zero = false;
};

/// Reads a file of either system.
///
/// Errors: input, all problems together with their JSON paths: counts that
///         are not the group's size, lists of unequal lengths, devices named
///         twice, a `dup` that is no multiple of the number of subgroups.
Result<DsConfig> read_ds_config(const Json& json, const std::string& file);

}  // namespace troupe::strategy
