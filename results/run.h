// The answer of one run: what a simulation, an emulation or an execution has
// to say about one training step, whoever performed it.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "base/units.h"

namespace troupe::results {

/// Where a step's time goes on one device; the parts sum to the step.
struct Breakdown {
  Time compute;        ///< matrix products, attention, pointwise work
  Time tp;             ///< exposed tensor/sequence-parallel collectives
  Time cp;             ///< exposed context-parallel exchange
  Time pp;             ///< waiting for a stage hand-over in flight
  Time bubble;         ///< waiting for another stage to compute
  Time dp;             ///< exposed gradient sync and parameter gather
  Time optimizer;      ///< optimizer step
  Time layout_switch;  ///< hot switching ("switch" in JSON)
  Time other;
  Time total() const {
    return compute + tp + cp + pp + bubble + dp + optimizer + layout_switch +
           other;
  }
  bool operator==(const Breakdown&) const = default;
};

/// Memory of one device of a stage at its peak, by what fills it.
struct StageMemory {
  Bytes parameters;
  Bytes gradients;
  Bytes optimizer;
  Bytes activations;
  Bytes workspace;  ///< largest temporary of an operator, send buffers
  Bytes reserve;    ///< driver context and communication library
  Bytes peak;       ///< of the sum over time
  Bytes limit;      ///< of the device
  bool operator==(const StageMemory&) const = default;
};

struct StageSummary {
  int pipeline = 0;
  int stage = 0;
  std::string kind;          ///< device kind; "h20+h800" when mixed
  std::vector<int> devices;  ///< global device numbers
  int tp = 1;
  int cp = 1;
  std::string layers;  ///< "0-9" or "0-4,20-24"
  int layer_count = 0;
  int micro_batches = 0;
  Breakdown breakdown;
  StageMemory memory;
  bool out_of_memory = false;
  bool operator==(const StageSummary&) const = default;
};

/// One bar of the pipeline picture: what a stage does when.
struct Bar {
  int pipeline = 0;
  int stage = 0;
  std::string kind;  ///< "forward", "backward", "transfer", "gradient_sync"...
  int micro_batch = -1;
  Time start;
  Time end;
  bool operator==(const Bar&) const = default;
};

/// A node of the cluster map.
struct NodeSummary {
  std::string name;
  std::string kind;
  int devices = 0;
  int used = 0;
  std::vector<int> pipelines;  ///< of each device, -1 when idle
  std::string address = {};    ///< of a host list; empty without one
  bool operator==(const NodeSummary&) const = default;
};

struct RunResult {
  std::string id;                         ///< set by the store
  std::string created;                    ///< UTC, ISO 8601; set by the store
  std::string performance = "simulated";  ///< or "emulated", "executed"
  std::string name, model, cluster, phase;
  std::string schedule;  ///< content hash
  /// Content hashes of what went in: "strategy", "model", "cluster",
  /// "profiles".
  std::map<std::string, std::string> inputs;
  std::vector<std::string> command;  ///< to run it again
  int gpus = 0;                      ///< devices the strategy uses
  int cluster_gpus = 0;              ///< devices of the cluster
  Time step_time;
  std::int64_t tokens = 0;
  double tokens_per_s = 0;
  double mfu = 0;                 ///< model FLOPs, causal half, devices used
  double mfu_full_attention = 0;  ///< causal attention counted in full
  double mfu_whole_cluster = 0;   ///< against every device of the cluster
  double hfu = 0;                 ///< hardware FLOPs, recomputation included
  double model_flops = 0;
  double usd_per_step = 0;  ///< 0 when prices are unknown
  Breakdown breakdown;      ///< of the critical device
  int critical_pipeline = 0, critical_stage = 0;
  std::vector<StageSummary> stages;
  bool out_of_memory = false;
  /// Shares of the critical path by provenance, in the order measured,
  /// interpolated, derived, roofline; they sum to 1.
  std::array<double, 4> provenance{};
  std::int64_t events = 0;
  double wall_time_s = 0;
  std::vector<std::string> warnings;
  std::vector<Bar> bars;  ///< of a few pipelines, for the picture
  std::vector<NodeSummary> nodes;
  bool operator==(const RunResult&) const = default;
};

/// The object that `--json` prints; keys are documented in results/FORMAT.md.
/// Never holds NaN or infinity: such a value becomes 0 and a warning.
Json to_json(const RunResult& run);

/// The run that `to_json` wrote, equal in every field (times to the
/// picosecond). `name` stands for the file in messages.
///
/// Errors: input, for anything that `to_json` would not write, and for a step
///         of less than a picosecond.
Result<RunResult> run_from_json(const Json& json, const std::string& name);

/// Text of a run's JSON that reads well: one line per member, and one per
/// stage, bar or node, instead of one per number.
std::string to_json_text(const RunResult& run);

}  // namespace troupe::results
