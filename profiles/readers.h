// Readers of other projects' formats. Each turns a text into rows; none
// touches the database or other files.
#pragma once

#include <string>
#include <string_view>

#include "base/json.h"
#include "base/result.h"
#include "profiles/gather.h"
#include "profiles/ingest.h"

namespace troupe::profiles {

/// The value of a key, or null when `json` is no object or has no such key.
const Json* member(const Json* json, const char* key);

/// A foreign file at hand.
struct Foreign {
  std::string path;  ///< as given, for messages and for names in it
  std::string hash;
  const IngestOptions& options;

  /// Last part of the path, and the folder above it.
  std::string name() const;
  std::string folder() const;
  /// A source with the file's name and hash, named after it.
  Source source(std::string_view project) const;
  /// The option, else the alias of `foreign`.
  ///
  /// Errors: input, asking for the option.
  Result<std::string> device(std::string_view foreign) const;
};

/// {strategies: [{tp, pp, a, b, c}], memory_regression, model_config,
/// cluster_config} in milliseconds: stage rows. The longest valid sequence
/// is what fits beside bf16 weights and gradients.
Result<void> read_scheme_pool(const Json& json, const Foreign& file,
                              Gather& gather);

/// {layer_profiles: [{model, gpu, tp, values, layer_types}]}: forward layer
/// rows. `scaling` (null when absent) holds factors to larger micro-batches.
Result<void> read_layer_profiles(const Json& json, const Json& scaling,
                                 const Foreign& file, Gather& gather);

/// time_stats.*: linear operators in ms by tokens and tensor parallelism.
Result<void> read_vidur_compute(std::string_view text, const Foreign& file,
                                Gather& gather);
/// time_stats.COLLECTIVE.* in ms by size, workers and devices per node.
Result<void> read_vidur_network(std::string_view text, const Foreign& file,
                                Gather& gather);
/// NCCL all-reduce tables: size, count, type, time (ns), bus bandwidth, twice.
Result<void> read_vtrain_allreduce(std::string_view text, const Foreign& file,
                                   Gather& gather);
/// accelerator.op.*.accurate_efficient_factor: efficiency by shape.
Result<void> read_simumax(const Json& json, const Foreign& file,
                          Gather& gather);
/// A PyTorch profiler trace: operators, and collectives of NCCL.
Result<void> read_kineto(std::string_view text, const Foreign& file,
                         Gather& gather);
/// An SQLite export of Nsight Systems, opened by its path.
Result<void> read_nsys(const Foreign& file, Gather& gather);
/// What all_reduce_perf and its like print.
Result<void> read_nccl_tests(std::string_view text, const Foreign& file,
                             Gather& gather);

/// Whether an object has Galvatron's keys of times.
bool looks_like_galvatron(const Json& json);
/// COLLECTIVE_size_RANKS_SIZEMB_time in ms.
Result<void> read_galvatron_collectives(const Json& json, const Foreign& file,
                                        Gather& gather);
/// layernum[N]_bszB_seqS in ms.
Result<void> read_galvatron_layers(const Json& json, const Foreign& file,
                                   Gather& gather);

/// Sailor's profiles by Aceso: products by operator name in us; collectives by
/// size in MB and ms; bandwidths of messages.
Result<void> read_sailor_operators(std::string_view text, const Foreign& file,
                                   Gather& gather);
Result<void> read_sailor_collectives(std::string_view text, const Foreign& file,
                                     Gather& gather);
Result<void> read_sailor_messages(std::string_view text, const Foreign& file,
                                  Gather& gather);

/// A model that other projects profiled, by their name; null when unknown.
struct ProfiledModel {
  const char* name;
  int hidden, heads, head_dim, ffn;
  bool gated;
  int vocab, seq_len;
};
const ProfiledModel* profiled_model(std::string_view name);
LayerKey profiled_key(const ProfiledModel& model, Part part, int tp,
                      int micro_batch, kernels::DType dtype);

/// [micro-batch][tp][layer] = [forward, backward, update] seconds.
Result<void> read_sailor_layers(const Json& json, const Foreign& file,
                                Gather& gather);

}  // namespace troupe::profiles
