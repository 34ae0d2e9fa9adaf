// The schedule: everything that an interpreter needs to perform one training
// step (operators, tensors, groups, order), and nothing of time. Simulation,
// emulation and execution read the same one.
//
// Two levels. A *task* is what one stage does at once: a forward, a backward,
// a hand-over, a gradient sync, an optimizer step. A *block* is the operator
// list of one layer's forward or backward under one layout; thousands of
// tasks share one block.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/id.h"
#include "base/units.h"
#include "clusters/cluster.h"
#include "clusters/collective.h"
#include "kernels/call.h"
#include "kernels/operator.h"
#include "profiles/cost.h"

namespace troupe::schedule {

using clusters::DeviceId;
using RankId = Id<struct RankTag>;    ///< dense over the devices in use
using StageId = Id<struct StageTag>;  ///< dense over all pipelines' stages
using BlockId = Id<struct BlockTag>;
using BodyId = Id<struct BodyTag>;
using TaskId = Id<struct TaskTag>;

inline constexpr int kFormatVersion = 2;

/// In-order queues of a device. Operators of one stream run one after
/// another; streams run beside each other.
enum class Stream : std::uint8_t { compute, tensor, context, data, pipeline };
inline constexpr int kStreams = 5;
std::string_view name_of(Stream stream);

/// What an operator does to its operands, beyond what it costs. Operands are
/// (inputs) -> (outputs) in this order, those in brackets where the model or
/// layout has them; sizes are the tensors' shapes. Gradients of parameters are
/// added to what is there.
enum class Action : std::uint8_t {
  none,            ///< only a cost; or a collective, which `collective` defines
  embed,           ///< (tokens, table) -> (rows)
  add_positions,   ///< (rows, table) -> (sum)
  embed_gradient,  ///< (tokens, d_rows [, d_shard]) -> (d_table [,
                   ///< d_positions])
  norm,            ///< (x, scale [, bias]) -> (out, rstd [, mean])
  norm_gradient,   ///< (d_out, x, scale, rstd [, mean]) -> (d_x, d_scale [,
                   ///< d_bias])
  product,         ///< (x, weight [, bias]) -> (x weight' + bias)
  input_gradient,  ///< (d_out, weight) -> (d_out weight)
  /// (x, d_out [, d_rows]) -> (d_weight [, d_bias]): the bias's gradient is
  /// the column sum of d_rows, or else of d_out.
  weight_gradient,
  rotary,              ///< (qkv) -> (qkv), in place
  rotary_gradient,     ///< (d_qkv) -> (d_qkv), in place
  attention,           ///< (qkv) -> (out, statistics)
  attention_gradient,  ///< (d_out, qkv, out, statistics) -> (d_qkv)
  /// Round `round` of a ring over the context-parallel members, see
  /// `schedule/tokens.h`: (qkv [, kv]) -> (out, statistics, sum).
  attention_round,
  /// (d_out, qkv, out, statistics [, kv]) -> (d_qkv [, kv]).
  attention_round_gradient,
  ring_shift,           ///< (qkv or kv) -> (kv): keys and values move on
  ring_shift_gradient,  ///< the same with their gradients; the last gradients
                        ///< only
  ring_home,   ///< (kv, d_qkv) -> (d_qkv): the gradients that came home
  activation,  ///< (up) -> (out)
  activation_gradient,     ///< (d_out, up) -> (d_up)
  add,                     ///< (a, b [, bias]) -> (sum)
  cross_entropy,           ///< (logits) -> (shares [, loss])
  merge_loss,              ///< (shares) -> (loss): over the ranks of the member
  cross_entropy_gradient,  ///< (logits, loss) -> (d_logits)
  square_sum,              ///< of all gradients of the rank
  adamw,                   ///< on all parameters of the rank
  /// () -> (weights...): brings what this layer's tensors of Role::gathered
  /// hold, read from the ranks that keep it between steps. Nobody else takes
  /// part: a rank gathers when it comes to it.
  gather_weights,
  /// (gradients...) -> (): sends what is in tensors of Role::scattered to the
  /// ranks that keep its sum. Nobody waits for another here.
  reduce_gradients,
};
inline constexpr int kActions = 28;

/// What a tensor of a block is for.
enum class Role : std::uint8_t {
  input,      ///< is the block's input and not kept
  output,     ///< is the block's output
  parameter,  ///< lives for the whole step
  gradient,   ///< of a parameter; accumulates over micro-batches
  /// Made by a forward (or an input gradient), needed by its backward, which
  /// has a tensor of the same name.
  saved,
  temporary,  ///< lives inside the block
  /// A parameter that is here from its gather to its release (ZeRO 3).
  gathered,
  /// A parameter's gradient of this block alone, zero at first; reduced to
  /// its owners before the block ends (ZeRO 2 and 3).
  scattered,
};
inline constexpr int kRoles = 8;
std::string_view name_of(Role role);

/// A tensor as one rank holds it: row-major, at most three dimensions.
///
/// A parameter is named as in `models::parameter_list`, without its layer's
/// prefix ("attention.output"); "a+b" is b's rows after a's, as matrices. Sizes
/// are those of the rank that holds most; others have zeros at the end.
struct Tensor {
  std::string name;
  std::vector<std::int64_t> shape;
  kernels::DType dtype = kernels::DType::bf16;
  Role role = Role::temporary;
  bool operator==(const Tensor&) const = default;
};
Bytes size_of(const Tensor& tensor);

/// Who takes part in a collective inside a block.
enum class Scope : std::uint8_t {
  tensor,   ///< the ranks of this member
  context,  ///< the ranks with this tensor-parallel index in all members
  data,     ///< the replicas of this rank in all pipelines
  ends,     ///< the same in the first and last stages, for a tied table
};
inline constexpr int kScopes = 4;

/// One operator of a block: either compute or communication.
struct Operator {
  std::string name;  ///< "qkv", "attention", "mlp_up.weight_gradient", ...
  Stream stream = Stream::compute;
  bool communicates = false;
  kernels::OpShape shape;  ///< compute only
  clusters::Collective collective = clusters::Collective::all_reduce;
  Scope scope = Scope::tensor;
  /// Communication only: the whole tensor's bytes (all-reduce: what each rank
  /// holds; all-gather: the result; reduce-scatter: the input; ring shift:
  /// what each rank sends).
  Bytes bytes;
  std::vector<std::uint16_t> inputs;   ///< into Block::tensors
  std::vector<std::uint16_t> outputs;  ///< into Block::tensors
  /// Earlier operators of the block, on other streams, that must have ended.
  std::vector<std::uint16_t> after;
  /// Gathered tensors whose memory goes back when the operator has ended.
  std::vector<std::uint16_t> releases;
  /// Parameter prefetch of ZeRO 3: issued one block early, as soon as the
  /// block two before this one in the body has ended.
  bool prefetch = false;
  Action action = Action::none;
  std::uint16_t round = 0;  ///< of a ring
  bool operator==(const Operator&) const = default;
};

/// The operators of one layer (or the embedding, head, optimizer) in one
/// direction under one layout.
struct Block {
  std::string name;  ///< "layer.forward tp8 4096x1"
  std::vector<Tensor> tensors;
  std::vector<Operator> operators;
  std::int16_t input = -1;   ///< tensor that the block before (or the
                             ///< hand-over) gives, or -1
  std::int16_t output = -1;  ///< tensor for the block after, or -1
  profiles::LayerKey key;    ///< to price it by a coarser measurement
  bool has_key = false;      ///< false: only its operators have a price
  bool recomputes = false;   ///< a backward that runs its forward again first
  Bytes saved;               ///< kept for the backward (forward blocks)
  Bytes workspace;           ///< most temporaries alive at once
  Flops flops;               ///< of its compute operators
  bool operator==(const Block&) const = default;
};

/// `count` layers from `first_layer` on that share a block.
struct BlockRun {
  BlockId block;
  int first_layer = 0;  ///< -1 embedding, -2 head, -3 optimizer
  int count = 1;
  bool operator==(const BlockRun&) const = default;
};

/// What a compute task performs: one list of runs for each context-parallel
/// member, or a single list when the members are equal.
struct Body {
  std::vector<std::vector<BlockRun>> members;
  Bytes saved;  ///< of the member that keeps most
  bool operator==(const Body&) const = default;
  const std::vector<BlockRun>& of(std::size_t member) const {
    return members[members.size() == 1 ? 0 : member];
  }
};

enum class TaskKind : std::uint8_t {
  forward,
  backward,         ///< input and weight gradients
  backward_input,   ///< input gradient only
  backward_weight,  ///< weight gradient only
  transfer,         ///< activations forward, gradients backward
  gradient_sync,    ///< across pipelines (and context-parallel members)
  optimizer,
  parameter_gather,  ///< of sharded parameters after the optimizer
  layout_switch,
};
std::string_view name_of(TaskKind kind);
bool computes(TaskKind kind);

/// One node of the task graph. Dependencies are explicit; tasks of a stage's
/// `order` follow each other besides.
struct Task {
  TaskKind kind = TaskKind::forward;
  std::uint8_t chunk = 0;  ///< virtual stage, when interleaved
  bool backward = false;   ///< transfers: carries gradients
  /// The last backward is cut into parts when gradient sync overlaps it:
  /// part `part` of `parts`, deepest layers first.
  std::uint8_t part = 0, parts = 1;
  StageId stage;  ///< transfers: the sender; syncs: invalid
  std::int32_t micro_batch = -1;
  std::int32_t what = -1;  ///< body, transfer or sync, by kind
  std::uint32_t first_dependency = 0;
  std::uint32_t dependencies = 0;
  bool operator==(const Task&) const = default;
};

/// One message of a hand-over. Each end packs the tokens that both hold, in
/// the order of the sequences (`schedule/tokens.h`) that the sender is to
/// send: a whole number of rows.
struct Message {
  RankId from, to;
  Bytes bytes;
  /// Rows at the sender and at the receiver that are equal, as triples
  /// (sender's first, receiver's first, count).
  std::vector<std::int32_t> rows;
  bool operator==(const Message&) const = default;
};

/// One collective of several that start together.
struct SyncGroup {
  std::vector<RankId> ranks;
  Bytes bytes;
  bool operator==(const SyncGroup&) const = default;
};

/// A hand-over between two stages, in one direction, for one size. Where all
/// ranks of a member need the same rows it may be two transfers: messages,
/// then one from the stage to itself in which the ranks of each member share
/// what they got.
struct Transfer {
  StageId from, to;
  std::vector<Message> messages;
  /// Of the second transfer: an all-gather, to which rank i of n brings
  /// `row_shard` i of the member's rows, or a broadcast by the first rank.
  clusters::Collective collective = clusters::Collective::all_gather;
  std::vector<SyncGroup> groups;
  bool operator==(const Transfer&) const = default;
  bool shares() const { return from == to; }
};

/// Collectives that start together: the gradient sync (or parameter gather)
/// of the layers that one set of stages shares.
struct Sync {
  std::string name;  ///< "layers 0-9"
  clusters::Collective collective = clusters::Collective::all_reduce;
  std::vector<StageId> stages;
  std::vector<SyncGroup> groups;
  bool operator==(const Sync&) const = default;
};

/// A rank is a device at work.
struct Rank {
  DeviceId device;
  StageId stage;
  std::int16_t member = 0;
  std::int16_t tp_index = 0;
  bool operator==(const Rank&) const = default;
};

struct ChunkRange {
  int first = 0, last = 0;  ///< layers [first, last)
  bool operator==(const ChunkRange&) const = default;
};

/// What lives on each rank of a stage for the whole step.
struct StaticMemory {
  Bytes parameters, gradients, optimizer;
  bool operator==(const StaticMemory&) const = default;
};

/// The micro-batches of a pipeline.
struct MicroBatches {
  int sequences = 1;                  ///< in each
  std::vector<std::int32_t> seq_len;  ///< tokens of each one's sequences
  bool operator==(const MicroBatches&) const = default;
};

/// What arithmetic needs to know of the model besides tensor shapes.
struct Numerics {
  std::int32_t layers = 0, hidden = 0, heads = 0, kv_heads = 0, head_dim = 0;
  std::int32_t vocab = 0;
  std::int32_t max_positions = 0;  ///< rows of a position table, else 0
  bool causal = true;
  bool rms = true;  ///< RMSNorm, else LayerNorm
  bool gated = true;
  kernels::Pointwise activation = kernels::Pointwise::silu;
  double epsilon = 1e-5;       ///< of norms
  double rotary_base = 10000;  ///< Su et al., arXiv 2104.09864
  kernels::RotaryScaling rotary_scaling;
  /// Why no interpreter can run it; empty: it can.
  std::string unsupported;
  bool operator==(const Numerics&) const = default;
};

/// A stage of a pipeline: its ranks, its layers and the order of its tasks.
struct Stage {
  int pipeline = 0;
  int index = 0;                             ///< in the pipeline
  std::vector<std::vector<RankId>> members;  ///< tensor-parallel groups
  std::vector<double> shares;                ///< of every sequence, by member
  std::vector<ChunkRange> chunks;
  int micro_batches = 0;
  StaticMemory memory;        ///< of its fullest rank
  Bytes workspace;            ///< most temporaries alive at once
  std::vector<TaskId> order;  ///< compute tasks, first to last
  bool operator==(const Stage&) const = default;

  int tp() const;
  int ranks() const;
};

/// One training step of one phase.
struct Schedule {
  std::string model;  ///< names, for reports
  std::string cluster;
  std::string phase;
  int pipelines = 0;
  std::vector<MicroBatches> micro_batches;  ///< by pipeline
  Numerics numerics;
  std::int64_t tokens = 0;  ///< of the step
  Flops model_flops;        ///< causal attention as half
  Flops model_flops_full;   ///< causal attention in full
  kernels::DType dtype = kernels::DType::bf16;
  bool sequence_parallel = true;
  std::vector<Rank> ranks;
  std::vector<Stage> stages;
  std::vector<Block> blocks;
  std::vector<Body> bodies;
  std::vector<Transfer> transfers;
  std::vector<Sync> syncs;
  std::vector<Task> tasks;
  std::vector<TaskId> dependencies;  ///< sliced by Task::first_dependency
  bool operator==(const Schedule&) const = default;

  const Rank& rank(RankId id) const { return ranks[id.at()]; }
  const Stage& stage(StageId id) const { return stages[id.at()]; }
  const Block& block(BlockId id) const { return blocks[id.at()]; }
  /// What `task` waits for, besides the task before it in its stage.
  std::span<const TaskId> dependencies_of(const Task& task) const {
    return {dependencies.data() + task.first_dependency, task.dependencies};
  }
};

}  // namespace troupe::schedule
