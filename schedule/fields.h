// The fields of every part of a schedule, named once: hashing, writing and
// reading all go through these lists. For the sources of this folder only.
#pragma once

#include "schedule/schedule.h"

namespace troupe::schedule {

template <typename Archive, typename T>
  requires std::same_as<std::remove_const_t<T>, Tensor>
void fields(Archive& a, T& x) {
  a.field("name", x.name);
  a.field("shape", x.shape);
  a.field("dtype", x.dtype);
  a.field("role", x.role);
}

template <typename Archive, typename T>
  requires std::same_as<std::remove_const_t<T>, kernels::OpShape>
void fields(Archive& a, T& x) {
  a.field("kind", x.kind);
  a.field("dtype", x.dtype);
  a.field("causal", x.causal);
  a.field("gated", x.gated);
  a.field("attention", x.attention);
  a.field("window", x.window);
  a.field("dim", x.dim);
}

template <typename Archive, typename T>
  requires std::same_as<std::remove_const_t<T>, Operator>
void fields(Archive& a, T& x) {
  a.field("name", x.name);
  a.field("stream", x.stream);
  a.field("communicates", x.communicates);
  if (x.communicates || a.kReads) {
    a.field("collective", x.collective);
    a.field("scope", x.scope);
    a.field("bytes", x.bytes);
  }
  if (!x.communicates || a.kReads) a.field("shape", x.shape);
  a.field("inputs", x.inputs);
  a.field("outputs", x.outputs);
  a.field("after", x.after);
  a.field("releases", x.releases);
  a.field("prefetch", x.prefetch);
  a.field("action", x.action);
  a.field("round", x.round);
}

template <typename Archive, typename T>
  requires std::same_as<std::remove_const_t<T>, profiles::LayerKey>
void fields(Archive& a, T& x) {
  a.field("part", x.part);
  a.field("backward", x.backward);
  a.field("hidden", x.hidden);
  a.field("heads", x.heads);
  a.field("kv_heads", x.kv_heads);
  a.field("head_dim", x.head_dim);
  a.field("ffn", x.ffn);
  a.field("gated", x.gated);
  a.field("vocab", x.vocab);
  a.field("tp", x.tp);
  a.field("micro_batch", x.micro_batch);
  a.field("seq_len", x.seq_len);
  a.field("dtype", x.dtype);
  a.field("cross", x.cross);
  a.field("window", x.window);
}

template <typename Archive, typename T>
  requires std::same_as<std::remove_const_t<T>, Block>
void fields(Archive& a, T& x) {
  a.field("name", x.name);
  a.field("tensors", x.tensors);
  a.field("operators", x.operators);
  a.field("input", x.input);
  a.field("output", x.output);
  a.field("key", x.key);
  a.field("has_key", x.has_key);
  a.field("recomputes", x.recomputes);
  a.field("saved", x.saved);
  a.field("workspace", x.workspace);
  a.field("flops", x.flops);
}

template <typename Archive, typename T>
  requires std::same_as<std::remove_const_t<T>, BlockRun>
void fields(Archive& a, T& x) {
  a.field("block", x.block);
  a.field("first_layer", x.first_layer);
  a.field("count", x.count);
}

template <typename Archive, typename T>
  requires std::same_as<std::remove_const_t<T>, Body>
void fields(Archive& a, T& x) {
  a.field("members", x.members);
  a.field("saved", x.saved);
}

template <typename Archive, typename T>
  requires std::same_as<std::remove_const_t<T>, Task>
void fields(Archive& a, T& x) {
  a.field("kind", x.kind);
  a.field("chunk", x.chunk);
  a.field("backward", x.backward);
  a.field("part", x.part);
  a.field("parts", x.parts);
  a.field("stage", x.stage);
  a.field("micro_batch", x.micro_batch);
  a.field("what", x.what);
  a.field("first_dependency", x.first_dependency);
  a.field("dependencies", x.dependencies);
}

template <typename Archive, typename T>
  requires std::same_as<std::remove_const_t<T>, Message>
void fields(Archive& a, T& x) {
  a.field("from", x.from);
  a.field("to", x.to);
  a.field("bytes", x.bytes);
  a.field("rows", x.rows);
}

template <typename Archive, typename T>
  requires std::same_as<std::remove_const_t<T>, Transfer>
void fields(Archive& a, T& x) {
  a.field("from", x.from);
  a.field("to", x.to);
  a.field("messages", x.messages);
  a.field("collective", x.collective);
  a.field("groups", x.groups);
}

template <typename Archive, typename T>
  requires std::same_as<std::remove_const_t<T>, SyncGroup>
void fields(Archive& a, T& x) {
  a.field("ranks", x.ranks);
  a.field("bytes", x.bytes);
}

template <typename Archive, typename T>
  requires std::same_as<std::remove_const_t<T>, Sync>
void fields(Archive& a, T& x) {
  a.field("name", x.name);
  a.field("collective", x.collective);
  a.field("stages", x.stages);
  a.field("groups", x.groups);
}

template <typename Archive, typename T>
  requires std::same_as<std::remove_const_t<T>, Rank>
void fields(Archive& a, T& x) {
  a.field("device", x.device);
  a.field("stage", x.stage);
  a.field("member", x.member);
  a.field("tp_index", x.tp_index);
}

template <typename Archive, typename T>
  requires std::same_as<std::remove_const_t<T>, ChunkRange>
void fields(Archive& a, T& x) {
  a.field("first", x.first);
  a.field("last", x.last);
}

template <typename Archive, typename T>
  requires std::same_as<std::remove_const_t<T>, StaticMemory>
void fields(Archive& a, T& x) {
  a.field("parameters", x.parameters);
  a.field("gradients", x.gradients);
  a.field("optimizer", x.optimizer);
}

template <typename Archive, typename T>
  requires std::same_as<std::remove_const_t<T>, MicroBatches>
void fields(Archive& a, T& x) {
  a.field("sequences", x.sequences);
  a.field("seq_len", x.seq_len);
}

template <typename Archive, typename T>
  requires std::same_as<std::remove_const_t<T>, kernels::RotaryScaling>
void fields(Archive& a, T& x) {
  a.field("factor", x.factor);
  a.field("low", x.low);
  a.field("high", x.high);
  a.field("original", x.original);
}

template <typename Archive, typename T>
  requires std::same_as<std::remove_const_t<T>, Numerics>
void fields(Archive& a, T& x) {
  a.field("layers", x.layers);
  a.field("hidden", x.hidden);
  a.field("heads", x.heads);
  a.field("kv_heads", x.kv_heads);
  a.field("head_dim", x.head_dim);
  a.field("vocab", x.vocab);
  a.field("max_positions", x.max_positions);
  a.field("causal", x.causal);
  a.field("rms", x.rms);
  a.field("gated", x.gated);
  a.field("activation", x.activation);
  a.field("epsilon", x.epsilon);
  a.field("rotary_base", x.rotary_base);
  a.field("rotary_scaling", x.rotary_scaling);
  a.field("unsupported", x.unsupported);
}

template <typename Archive, typename T>
  requires std::same_as<std::remove_const_t<T>, Stage>
void fields(Archive& a, T& x) {
  a.field("pipeline", x.pipeline);
  a.field("index", x.index);
  a.field("members", x.members);
  a.field("shares", x.shares);
  a.field("chunks", x.chunks);
  a.field("micro_batches", x.micro_batches);
  a.field("memory", x.memory);
  a.field("workspace", x.workspace);
  a.field("order", x.order);
}

template <typename Archive, typename T>
  requires std::same_as<std::remove_const_t<T>, Schedule>
void fields(Archive& a, T& x) {
  a.field("model", x.model);
  a.field("cluster", x.cluster);
  a.field("phase", x.phase);
  a.field("pipelines", x.pipelines);
  a.field("micro_batches", x.micro_batches);
  a.field("numerics", x.numerics);
  a.field("tokens", x.tokens);
  a.field("model_flops", x.model_flops);
  a.field("model_flops_full", x.model_flops_full);
  a.field("dtype", x.dtype);
  a.field("sequence_parallel", x.sequence_parallel);
  a.field("ranks", x.ranks);
  a.field("stages", x.stages);
  a.field("blocks", x.blocks);
  a.field("bodies", x.bodies);
  a.field("transfers", x.transfers);
  a.field("syncs", x.syncs);
  a.field("tasks", x.tasks);
  a.field("dependencies", x.dependencies);
}

/// Parts that there are many of are written as rows of numbers.
template <typename T>
inline constexpr bool kAsRow =
    std::same_as<T, Task> || std::same_as<T, Rank> ||
    std::same_as<T, Message> || std::same_as<T, BlockRun> ||
    std::same_as<T, ChunkRange>;

}  // namespace troupe::schedule
