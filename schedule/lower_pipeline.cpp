#include <algorithm>
#include <set>

#include "schedule/lowering.h"

namespace troupe::schedule {
namespace {

strategy::Recompute recompute_of(const Lowering& l,
                                 const strategy::Stage& stage, int layer) {
  const strategy::RecomputeRule& rule =
      stage.recompute ? *stage.recompute : l.strategy.recompute;
  const bool all = rule.layers.empty();
  const bool named = std::find(rule.layers.begin(), rule.layers.end(), layer) !=
                     rule.layers.end();
  return all || named ? rule.mode : strategy::Recompute::none;
}

Layout layout_of(const Lowering& l, StageId stage, std::size_t member,
                 int seq_len) {
  const strategy::Stage& source = *l.sources[stage.at()];
  const strategy::Pipeline& pipeline =
      l.phase.pipelines[static_cast<std::size_t>(l.out.stage(stage).pipeline)];
  Layout layout;
  layout.tp = source.members[member].tp();
  layout.cp = static_cast<int>(source.members.size());
  layout.micro_batch = pipeline.micro_batch_size;
  const std::vector<double>& shares = l.out.stage(stage).shares;
  layout.tokens =
      member_tokens(shares, member, seq_len) * pipeline.micro_batch_size;
  if (layout.cp > 1) {
    for (std::size_t m = 0; m < shares.size(); ++m) {
      layout.widest =
          std::max(layout.widest, member_tokens(shares, m, seq_len) *
                                      pipeline.micro_batch_size);
    }
  }
  layout.seq_len = seq_len;
  layout.replicas = l.stage_replicas[stage.at()];
  layout.sequence_parallel = l.strategy.sequence_parallel;
  layout.flash_attention = l.strategy.flash_attention || layout.cp > 1;
  layout.attention_kernel = l.strategy.attention_kernel;
  layout.pointwise = l.strategy.pointwise;
  layout.zero = l.strategy.zero;
  layout.dtype = l.strategy.dtype;
  return layout;
}

bool is_first(const Lowering& l, StageId stage, int chunk) {
  return chunk == 0 && l.out.stage(stage).index == 0;
}

bool is_last(const Lowering& l, StageId stage, int chunk) {
  const Stage& s = l.out.stage(stage);
  const auto& chain = l.pipelines[static_cast<std::size_t>(s.pipeline)];
  return stage == chain.back() &&
         chunk + 1 == static_cast<int>(s.chunks.size());
}

/// The embedding's and the head's: a tied table has holders at both ends.
Layout end_layout(const Lowering& l, Layout layout) {
  if (!l.model.tied_embeddings) return layout;
  std::set<StageId> ends;
  for (const auto& chain : l.pipelines) {
    if (!chain.empty()) ends.insert({chain.front(), chain.back()});
  }
  layout.replicas = 0;
  for (const StageId id : ends) {
    layout.replicas += static_cast<int>(l.out.stage(id).members.size());
  }
  return layout;
}

std::vector<BlockRun> runs_of(Lowering& l, StageId stage, const Slot& slot,
                              std::size_t member, int seq_len, Part part) {
  const ChunkRange range = part_layers(
      l.out.stage(stage).chunks[static_cast<std::size_t>(slot.chunk)], part);
  const Layout plain = layout_of(l, stage, member, seq_len);
  const Layout end = end_layout(l, plain);
  const bool forward = slot.kind == TaskKind::forward;
  const Gradients gradients = slot.kind == TaskKind::backward ? Gradients::both
                              : slot.kind == TaskKind::backward_input
                                  ? Gradients::input
                                  : Gradients::weight;
  std::vector<BlockRun> runs;
  const bool ends = gradients != Gradients::weight;
  if (forward && is_first(l, stage, slot.chunk)) {
    runs.push_back({l.shop.embedding(false, end), -1, 1});
  }
  if (!forward && ends && part.index == 0 && is_last(l, stage, slot.chunk)) {
    runs.push_back({l.shop.head(true, end), -2, 1});
  }
  for (int i = 0; i < range.last - range.first; ++i) {
    const int layer = forward ? range.first + i : range.last - 1 - i;
    Layout layout = plain;
    layout.recompute = recompute_of(l, *l.sources[stage.at()], layer);
    const auto kind = models::layer_kind(l.model, layer);
    const BlockId block = forward ? l.shop.forward(kind, layout)
                                  : l.shop.backward(kind, layout, gradients);
    if (!runs.empty() && runs.back().block == block &&
        runs.back().first_layer >= 0) {
      ++runs.back().count;
      if (!forward) runs.back().first_layer = layer;
    } else {
      runs.push_back({block, layer, 1});
    }
  }
  if (forward && is_last(l, stage, slot.chunk)) {
    runs.push_back({l.shop.head(false, end), -2, 1});
  }
  if (!forward && ends && part.index + 1 == part.count &&
      is_first(l, stage, slot.chunk)) {
    runs.push_back({l.shop.embedding(true, end), -1, 1});
  }
  return runs;
}

std::vector<Slot> slots_of(const Lowering& l, std::size_t pipeline, int stage,
                           int stages, int chunks, int micro_batches) {
  switch (l.strategy.schedule) {
    case strategy::ScheduleKind::gpipe:
      if (chunks == 1) return gpipe(micro_batches);
      break;
    case strategy::ScheduleKind::custom:
      return l.orders[pipeline][static_cast<std::size_t>(stage)];
    case strategy::ScheduleKind::one_f_one_b:
    case strategy::ScheduleKind::interleaved:
      break;
  }
  return chunks == 1 ? one_f_one_b(stage, stages, micro_batches)
                     : interleaved(stage, stages, chunks, micro_batches);
}

/// Finds the compute tasks of a pipeline by stage, chunk and micro-batch.
struct TaskTable {
  int chunks = 1;
  int micro_batches = 0;
  /// Forward, and the first and last part of the (input) backward.
  std::vector<TaskId> forward, backward, backward_end;
  std::size_t at(int stage, int chunk, int micro_batch) const {
    return (static_cast<std::size_t>(stage) * static_cast<std::size_t>(chunks) +
            static_cast<std::size_t>(chunk)) *
               static_cast<std::size_t>(micro_batches) +
           static_cast<std::size_t>(micro_batch);
  }

  void enter(int stage, const Slot& slot, Part part, TaskId task) {
    const std::size_t i = at(stage, slot.chunk, slot.micro_batch);
    if (slot.kind == TaskKind::forward) forward[i] = task;
    if (slot.kind == TaskKind::backward ||
        slot.kind == TaskKind::backward_input) {
      if (part.index == 0) backward[i] = task;
      backward_end[i] = task;
    }
  }
};

/// Where each chunk's last whole backward stands in the order, or -1.
std::vector<int> last_backwards(const std::vector<Slot>& slots, int chunks) {
  std::vector<int> last(static_cast<std::size_t>(chunks), -1);
  for (std::size_t i = 0; i < slots.size(); ++i) {
    if (slots[i].kind == TaskKind::backward) {
      last[static_cast<std::size_t>(slots[i].chunk)] = static_cast<int>(i);
    }
  }
  return last;
}

TaskId add_slot(Lowering& l, StageId stage, const Slot& slot, Part part,
                BodyId body) {
  Task task;
  task.kind = slot.kind;
  task.chunk = static_cast<std::uint8_t>(slot.chunk);
  task.part = static_cast<std::uint8_t>(part.index);
  task.parts = static_cast<std::uint8_t>(part.count);
  task.stage = stage;
  task.micro_batch = slot.micro_batch;
  task.what = body.v;
  return l.add(task);
}

void add_compute(Lowering& l, std::size_t pipeline, TaskTable& table) {
  const auto& chain = l.pipelines[pipeline];
  const strategy::Pipeline& source = l.phase.pipelines[pipeline];
  const int stages = static_cast<int>(chain.size());
  for (int s = 0; s < stages; ++s) {
    const StageId id = chain[static_cast<std::size_t>(s)];
    const auto slots =
        slots_of(l, pipeline, s, stages, table.chunks, table.micro_batches);
    auto& order = l.out.stages[id.at()].order;
    order.reserve(slots.size() + 1);
    std::map<std::tuple<TaskKind, int, int, int>, BodyId> known;
    const std::vector<int> last = last_backwards(slots, table.chunks);
    for (std::size_t i = 0; i < slots.size(); ++i) {
      const Slot& slot = slots[i];
      const int seq =
          strategy::sequence_length(l.strategy, source, slot.micro_batch);
      const auto chunk = static_cast<std::size_t>(slot.chunk);
      Part part;
      if (last[chunk] == static_cast<int>(i)) {
        part.count = backward_parts(l, l.out.stage(id).chunks[chunk]);
      }
      for (; part.index < part.count; ++part.index) {
        const auto [it, fresh] = known.try_emplace(
            {slot.kind, slot.chunk, seq, part.count == 1 ? -1 : part.index});
        if (fresh) it->second = body_of(l, id, slot, seq, part);
        order.push_back(add_slot(l, id, slot, part, it->second));
        table.enter(s, slot, part, order.back());
      }
    }
  }
}

/// Adds the hand-overs of one direction of one channel (from a stage and
/// chunk to the next), one for each micro-batch, in the sender's order.
struct Channel {
  StageId from, to;
  int from_stage, from_chunk, to_stage, to_chunk;
  bool backward;
};

/// A hand-over's place among the transfers; -1: it has no second.
struct TransferPair {
  std::int32_t sent = -1, shared = -1;
};

TransferPair add_transfers(Lowering& l, HandedOver handed) {
  std::vector<Transfer>& all = l.out.transfers;
  TransferPair out;
  out.sent = static_cast<std::int32_t>(all.size());
  all.push_back(std::move(handed.sent));
  if (handed.shared) {
    out.shared = static_cast<std::int32_t>(all.size());
    all.push_back(std::move(*handed.shared));
  }
  return out;
}

void add_channel(Lowering& l, const Channel& c, const TaskTable& table,
                 const strategy::Pipeline& source) {
  const auto& made = c.backward ? table.backward : table.forward;
  if (c.from == c.to) {
    for (int m = 0; m < table.micro_batches; ++m) {
      const auto& ended = c.backward ? table.backward_end : table.forward;
      l.wait(made[table.at(c.to_stage, c.to_chunk, m)],
             ended[table.at(c.from_stage, c.from_chunk, m)]);
    }
    return;
  }
  std::map<std::pair<int, strategy::HandOver>, TransferPair> known;
  TaskId previous;
  const std::vector<TaskId>& order = l.out.stages[c.from.at()].order;
  for (std::size_t i = 0; i < order.size(); ++i) {
    const Task producer = l.out.tasks[order[i].at()];
    if (producer.chunk != c.from_chunk) continue;
    const bool sends = c.backward
                           ? producer.kind == TaskKind::backward ||
                                 producer.kind == TaskKind::backward_input
                           : producer.kind == TaskKind::forward;
    if (!sends || producer.part + 1 != producer.parts) continue;
    const int seq =
        strategy::sequence_length(l.strategy, source, producer.micro_batch);
    const Passage passage{c.from, c.to, source.micro_batch_size, seq};
    const strategy::HandOver way = way_of(
        l, passage, {c.from, c.from_chunk, c.backward, producer.micro_batch});
    const auto [it, fresh] = known.try_emplace({seq, way});
    if (fresh) it->second = add_transfers(l, hand_over(l, passage, way));
    Task task;
    task.kind = TaskKind::transfer;
    task.chunk = static_cast<std::uint8_t>(c.from_chunk);
    task.backward = c.backward;
    task.stage = c.from;
    task.micro_batch = producer.micro_batch;
    task.what = it->second.sent;
    const TaskId sent = l.add(task);
    l.wait(sent, order[i]);
    if (previous) l.wait(sent, previous);
    previous = sent;
    TaskId arrived = sent;
    if (it->second.shared >= 0) {
      task.stage = c.to;
      task.chunk = static_cast<std::uint8_t>(c.to_chunk);
      task.what = it->second.shared;
      arrived = l.add(task);
      l.wait(arrived, sent);
    }
    l.wait(made[table.at(c.to_stage, c.to_chunk, producer.micro_batch)],
           arrived);
    if (!l.strategy.overlap_hand_over && i + 1 < order.size()) {
      l.wait(order[i + 1], sent);
    }
  }
}

}  // namespace

BodyId body_of(Lowering& l, StageId stage, const Slot& slot, int seq_len,
               Part part) {
  Body body;
  const strategy::Stage& source = *l.sources[stage.at()];
  bool equal = true;
  for (const strategy::Member& m : source.members) {
    equal = equal && m.tp() == source.members[0].tp();
  }
  const std::vector<double>& shares = l.out.stage(stage).shares;
  for (std::size_t m = 1; m < shares.size(); ++m) {
    equal = equal && member_tokens(shares, m, seq_len) ==
                         member_tokens(shares, 0, seq_len);
  }
  const std::size_t kinds = equal ? 1 : source.members.size();
  std::vector<std::vector<std::int64_t>> key;
  for (std::size_t m = 0; m < kinds; ++m) {
    body.members.push_back(runs_of(l, stage, slot, m, seq_len, part));
    Bytes saved;
    auto& words = key.emplace_back();
    for (const BlockRun& run : body.members.back()) {
      saved += l.shop.block(run.block).saved * run.count;
      words.insert(words.end(), {run.block.v, run.first_layer, run.count});
    }
    body.saved = std::max(body.saved, saved);
  }
  const auto [it, fresh] = l.bodies.try_emplace(std::move(key));
  if (fresh) {
    it->second = make_id<BodyId>(l.out.bodies.size());
    l.out.bodies.push_back(std::move(body));
  }
  return it->second;
}

void lower_pipeline(Lowering& l, std::size_t pipeline) {
  const auto& chain = l.pipelines[pipeline];
  if (chain.empty()) return;
  const strategy::Pipeline& source = l.phase.pipelines[pipeline];
  const int stages = static_cast<int>(chain.size());
  TaskTable table;
  table.micro_batches = source.micro_batches;
  table.chunks = 1;
  for (const StageId id : chain) {
    table.chunks =
        std::max(table.chunks, static_cast<int>(l.out.stage(id).chunks.size()));
  }
  const std::size_t slots = table.at(stages, 0, 0);
  table.forward.resize(slots);
  table.backward.resize(slots);
  table.backward_end.resize(slots);
  add_compute(l, pipeline, table);
  const int links = stages * table.chunks - 1;
  for (int v = 0; v < links; ++v) {
    const auto stage_of = [&](int x) {
      return chain[static_cast<std::size_t>(x % stages)];
    };
    const Channel forward{stage_of(v), stage_of(v + 1),  v % stages,
                          v / stages,  (v + 1) % stages, (v + 1) / stages,
                          false};
    const Channel backward{forward.to,
                           forward.from,
                           forward.to_stage,
                           forward.to_chunk,
                           forward.from_stage,
                           forward.from_chunk,
                           true};
    add_channel(l, forward, table, source);
    add_channel(l, backward, table, source);
  }
}

}  // namespace troupe::schedule
