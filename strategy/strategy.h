// What a person asks for: which devices do which layers and which
// micro-batches, in one or several phases.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "clusters/cluster.h"
#include "kernels/operator.h"

namespace troupe::strategy {

using clusters::DeviceId;

/// Layers [first, last).
struct LayerRange {
  int first = 0;
  int last = 0;
  int count() const { return last - first; }
  auto operator<=>(const LayerRange&) const = default;
};

enum class Recompute : std::uint8_t {
  none,
  selective,  ///< attention core (or what `selective` of the source means)
  full,       ///< only the layer's input is kept
};

/// Which layers of a stage recompute, and how. `layers` empty: all of them.
struct RecomputeRule {
  Recompute mode = Recompute::none;
  std::vector<int> layers;  ///< global layer numbers
  bool operator==(const RecomputeRule&) const = default;
};

/// One context-parallel member: a tensor-parallel group that holds a share of
/// every sequence.
struct Member {
  std::vector<DeviceId> devices;  ///< in tensor-parallel order
  double share = 1.0;  ///< of the sequence; shares of a stage sum to 1
  int tp() const { return static_cast<int>(devices.size()); }
  bool operator==(const Member&) const = default;
};

/// A contiguous run of layers (several, when interleaved) on one group.
struct Stage {
  std::vector<Member> members;             ///< one unless context parallel
  std::vector<LayerRange> chunks;          ///< one unless interleaved
  std::optional<RecomputeRule> recompute;  ///< else the strategy's
  int layers() const;
  int device_count() const;
  bool operator==(const Stage&) const = default;
};

/// A chain of stages that holds every layer once: one data-parallel replica.
struct Pipeline {
  std::vector<Stage> stages;
  int micro_batches = 1;
  int micro_batch_size = 1;  ///< sequences per micro-batch
  int seq_len = 0;           ///< 0: the strategy's
  /// Sequence length of each micro-batch when they differ; empty: all equal.
  std::vector<int> micro_batch_seq_lens;
  bool operator==(const Pipeline&) const = default;
};

enum class ScheduleKind : std::uint8_t {
  one_f_one_b,
  gpipe,
  interleaved,  ///< interleaved 1F1B; chunks > 1 per stage
  custom,       ///< order read from `order_file`
};

/// When a phase applies.
struct PhaseRule {
  enum class Kind : std::uint8_t {
    always,
    seq_len,
    steps,
    event
  } kind = Kind::always;
  std::int64_t from = 0;  ///< seq_len: lengths in (from, to]; steps: [from, to)
  std::int64_t to = 0;
  std::string event;  ///< name of a cluster event
  bool operator==(const PhaseRule&) const = default;
};

/// One way to run a step (or the part of a step that its rule selects).
struct Phase {
  std::string name;
  PhaseRule rule;
  std::vector<Pipeline> pipelines;
  bool operator==(const Phase&) const = default;
};

enum class Zero : std::uint8_t { none = 0, one = 1, two = 2, three = 3 };

/// How a framework performs what is not a product or attention.
enum class Pointwise : std::uint8_t {
  fused,  ///< few kernels, of Apex, TransformerEngine or a compiler
  eager,  ///< one kernel per step: every intermediate goes through memory
  /// As eager, with fp32 parameters, gradients and residual stream that are
  /// cast at every product (PyTorch's automatic mixed precision).
  autocast,
};

/// How stages pass activations on where the ranks of a tensor-parallel group
/// all need the same rows.
enum class HandOver : std::uint8_t {
  cheapest,  ///< of the following, by nominal bandwidths
  batched,   ///< every rank gets all of them
  leader,    ///< one rank gets them and broadcasts
  scatter,   ///< every rank gets a part, then they all-gather
};
std::string_view name_of(HandOver way);

/// The whole strategy file. `model` and `cluster` are names or paths.
struct Strategy {
  std::string name;
  std::string source;
  std::string model;
  std::string cluster;
  int seq_len = 0;
  kernels::DType dtype = kernels::DType::bf16;
  kernels::DType gradient_dtype = kernels::DType::fp32;
  Zero zero = Zero::none;
  bool sequence_parallel = true;
  /// Attention is one kernel that never writes the score matrix; else batched
  /// products, softmax and dropout go through memory, as before 2023.
  bool flash_attention = true;
  /// Which fused attention, when it is fused.
  kernels::AttentionKernel attention_kernel = kernels::AttentionKernel::tuned;
  Pointwise pointwise = Pointwise::fused;
  /// Gradient sync runs while the last backwards do.
  bool overlap_gradient_sync = false;
  /// Stage hand-over runs beside compute (else the sender waits for it).
  bool overlap_hand_over = true;
  HandOver hand_over = HandOver::cheapest;
  /// Most that a switch between phases packs and receives on a device; 0: any.
  Bytes switch_memory;
  ScheduleKind schedule = ScheduleKind::one_f_one_b;
  std::string order_file;  ///< for ScheduleKind::custom
  RecomputeRule recompute;
  std::vector<Phase> phases;
  bool operator==(const Strategy&) const = default;
};

/// Devices that any pipeline of the phase uses, ascending.
std::vector<DeviceId> used_devices(const Phase& phase);
/// Tokens one step of the phase trains on.
std::int64_t tokens_per_step(const Strategy& strategy, const Phase& phase);
/// Sequence length of micro-batch `index` of a pipeline.
int sequence_length(const Strategy& strategy, const Pipeline& pipeline,
                    int index);

}  // namespace troupe::strategy
