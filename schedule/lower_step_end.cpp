#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "schedule/lowering.h"

namespace troupe::schedule {
namespace {

using clusters::Collective;

std::string title(const Segment& s) {
  std::string out = s.last - s.first == 1
                        ? fmt::format("layer {}", s.first)
                        : fmt::format("layers {}-{}", s.first, s.last - 1);
  if (s.embedding) out = "embedding, " + out;
  if (s.head) out += ", head";
  return out;
}

/// Groups that reduce a segment across its holders, slice by slice: with TP
/// degrees that differ, a shard is cut at the least common multiple, and a
/// rank of a smaller group takes part in several slices.
std::vector<SyncGroup> slice_groups(const Lowering& l, const Segment& segment,
                                    Bytes element) {
  const models::ParameterCount& count = segment.parameters;
  std::int64_t slices = 1;
  std::int64_t widest = 1;
  std::int64_t key_copies = 1;
  for (const Segment::Holder& h : segment.holders) {
    for (const auto& member : l.out.stage(h.stage).members) {
      const auto tp = static_cast<std::int64_t>(member.size());
      slices = std::lcm(slices, tp);
      widest = std::max(widest, tp);
      key_copies = std::max(key_copies, ceil_div(tp, count.key_parts(tp)));
    }
  }
  const std::int64_t elements = ceil_div(count.split, slices) +
                                ceil_div(count.repeated * widest, slices) +
                                ceil_div(count.key_value * key_copies, slices);
  std::vector<SyncGroup> groups(static_cast<std::size_t>(slices));
  for (std::int64_t k = 0; k < slices; ++k) {
    SyncGroup& group = groups[static_cast<std::size_t>(k)];
    group.bytes = element * elements;
    for (const Segment::Holder& h : segment.holders) {
      for (const auto& member : l.out.stage(h.stage).members) {
        const auto tp = static_cast<std::int64_t>(member.size());
        group.ranks.push_back(
            member[static_cast<std::size_t>(k * tp / slices)]);
      }
    }
  }
  return groups;
}

std::vector<StageId> stages_of(const Segment& segment) {
  std::vector<StageId> out;
  for (const Segment::Holder& h : segment.holders) out.push_back(h.stage);
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

TaskId add_sync(Lowering& l, TaskKind kind, Sync sync) {
  Task task;
  task.kind = kind;
  task.what = static_cast<std::int32_t>(l.out.syncs.size());
  l.out.syncs.push_back(std::move(sync));
  return l.add(task);
}

/// The task of a stage that finishes the gradients of a segment it holds; or
/// the last backward of the stage, for `any`.
TaskId last_backward(const Lowering& l, const Segment::Holder& h, bool any) {
  const auto& order = l.out.stage(h.stage).order;
  for (auto it = order.rbegin(); it != order.rend(); ++it) {
    const Task& t = l.out.tasks[it->at()];
    if (t.kind == TaskKind::forward) continue;
    if (any || (t.chunk == h.chunk && (t.parts == 1 || t.part == h.part))) {
      return *it;
    }
  }
  return {};
}

/// First and last stage both hold a tied matrix; its gradients are summed
/// here, unless the blocks have reduced them.
void add_tied_sync(Lowering& l, std::vector<std::vector<TaskId>>& of_stage) {
  const std::int64_t elements = models::tied_copy(l.model);
  if (elements == 0 || l.strategy.zero >= strategy::Zero::two) return;
  const Bytes element = kernels::size_of(l.strategy.gradient_dtype);
  for (const auto& chain : l.pipelines) {
    if (chain.size() < 2) continue;
    Segment ends;
    ends.holders = {{chain.front(), 0, 0}, {chain.back(), 0, 0}};
    ends.parameters.split = elements;
    Sync sync{"tied embedding", Collective::all_reduce, stages_of(ends),
              slice_groups(l, ends, element)};
    const TaskId task = add_sync(l, TaskKind::gradient_sync, std::move(sync));
    for (const StageId id : {chain.front(), chain.back()}) {
      for (const TaskId before : of_stage[id.at()]) l.wait(task, before);
      const TaskId last = last_backward(l, {id, 0, 0}, true);
      if (of_stage[id.at()].empty() && last) l.wait(task, last);
      of_stage[id.at()].push_back(task);
    }
  }
}

/// What the ranks of a member hold alike and have different gradients of.
struct Alike {
  Bytes whole;  ///< all ranks: norms, under sequence parallelism
  models::ParameterCount keys;
};

/// Ranks of a member that hold the same key heads, by head.
std::vector<SyncGroup> key_groups(std::span<const RankId> member,
                                  const models::ParameterCount& keys,
                                  Bytes element) {
  const auto tp = static_cast<std::int64_t>(member.size());
  const std::int64_t parts = keys.key_parts(tp);
  if (keys.key_value == 0 || parts == tp) return {};
  std::vector<SyncGroup> groups(static_cast<std::size_t>(parts));
  for (std::int64_t r = 0; r < tp; ++r) {
    SyncGroup& group = groups[static_cast<std::size_t>(r * parts / tp)];
    group.bytes = element * ceil_div(keys.key_value, parts);
    group.ranks.push_back(member[static_cast<std::size_t>(r)]);
  }
  return groups;
}

/// Gradients of what ranks of a member hold alike, each from its own rows or
/// query heads, are summed over these ranks, unless the blocks have done it.
void add_member_sums(Lowering& l, std::span<const Segment> parts,
                     std::vector<std::vector<TaskId>>& of_stage) {
  const Bytes element = kernels::size_of(l.strategy.gradient_dtype);
  std::vector<Alike> alike(l.out.stages.size());
  for (const Segment& part : parts) {
    if (l.strategy.zero >= strategy::Zero::two && part.replicas > 1) continue;
    for (const Segment::Holder& h : part.holders) {
      Alike& a = alike[h.stage.at()];
      if (l.strategy.sequence_parallel) {
        a.whole += element * part.parameters.repeated;
      }
      a.keys = a.keys + part.parameters;
    }
  }
  for (std::size_t s = 0; s < l.out.stages.size(); ++s) {
    Sync norms, keys;
    norms.name = "norms";
    keys.name = "key heads";
    for (const auto& member : l.out.stages[s].members) {
      if (member.size() == 1) continue;
      if (alike[s].whole.v > 0) {
        norms.groups.push_back({member, alike[s].whole});
      }
      auto groups = key_groups(member, alike[s].keys, element);
      std::move(groups.begin(), groups.end(), std::back_inserter(keys.groups));
    }
    const auto stage = make_id<StageId>(s);
    const TaskId last = last_backward(l, {stage, 0, 0}, true);
    for (Sync* sync : {&norms, &keys}) {
      if (sync->groups.empty() || !last) continue;
      sync->stages = {stage};
      const TaskId task =
          add_sync(l, TaskKind::gradient_sync, std::move(*sync));
      l.wait(task, last);
      of_stage[s].push_back(task);
    }
  }
}

/// The gradient norm over everything: a few bytes, but nobody updates before
/// the slowest pipeline has its gradients.
TaskId add_norm_sync(Lowering& l,
                     const std::vector<std::vector<TaskId>>& of_stage) {
  if (l.out.ranks.size() < 2) return {};
  Sync sync;
  sync.name = kGradientNorm;
  SyncGroup all;
  all.bytes = kernels::size_of(kernels::DType::fp32);
  for (std::size_t r = 0; r < l.out.ranks.size(); ++r) {
    all.ranks.push_back(make_id<RankId>(r));
  }
  sync.groups.push_back(std::move(all));
  for (std::size_t s = 0; s < l.out.stages.size(); ++s) {
    sync.stages.push_back(make_id<StageId>(s));
  }
  const TaskId task = add_sync(l, TaskKind::gradient_sync, std::move(sync));
  for (std::size_t s = 0; s < l.out.stages.size(); ++s) {
    const TaskId last = last_backward(l, {make_id<StageId>(s), 0, 0}, true);
    if (last) l.wait(task, last);
  }
  std::vector<TaskId> before;
  for (const auto& list : of_stage) {
    before.insert(before.end(), list.begin(), list.end());
  }
  std::sort(before.begin(), before.end());
  before.erase(std::unique(before.begin(), before.end()), before.end());
  for (const TaskId b : before) l.wait(task, b);
  return task;
}

/// Elements that each rank of a stage updates: its shard under ZeRO.
std::vector<std::int64_t> updated_elements(const Lowering& l,
                                           std::span<const Segment> parts) {
  std::vector<std::int64_t> out(l.out.stages.size(), 0);
  const bool sharded = l.strategy.zero >= strategy::Zero::one;
  for (const Held& held : held_by_stages(l, parts)) {
    out[held.stage.at()] +=
        ceil_div(held.elements, sharded ? held.replicas : 1);
  }
  return out;
}

TaskId add_optimizer(Lowering& l, std::size_t stage, std::int64_t elements) {
  Body body;
  body.members = {{{l.shop.optimizer(elements, l.strategy.dtype), -3, 1}}};
  const auto key = std::vector<std::vector<std::int64_t>>{
      {body.members[0][0].block.v, -3, 1}};
  const auto [it, fresh] = l.bodies.try_emplace(key);
  if (fresh) {
    it->second = make_id<BodyId>(l.out.bodies.size());
    l.out.bodies.push_back(std::move(body));
  }
  Task task;
  task.kind = TaskKind::optimizer;
  task.stage = make_id<StageId>(stage);
  task.what = it->second.v;
  const TaskId added = l.add(task);
  l.out.stages[stage].order.push_back(added);
  return added;
}

}  // namespace

void lower_step_end(Lowering& l, std::span<const Segment> parts) {
  const auto zero = l.strategy.zero;
  std::vector<std::vector<TaskId>> of_stage(l.out.stages.size());
  for (const Segment& part : parts) {
    if (part.replicas < 2 || zero >= strategy::Zero::two) continue;
    Sync sync{
        title(part),
        zero == strategy::Zero::none ? Collective::all_reduce
                                     : Collective::reduce_scatter,
        stages_of(part),
        slice_groups(l, part, kernels::size_of(l.strategy.gradient_dtype))};
    const TaskId task = add_sync(l, TaskKind::gradient_sync, std::move(sync));
    for (const Segment::Holder& h : part.holders) {
      const TaskId before =
          last_backward(l, h, !l.strategy.overlap_gradient_sync);
      if (before) l.wait(task, before);
      of_stage[h.stage.at()].push_back(task);
    }
  }
  add_tied_sync(l, of_stage);
  add_member_sums(l, parts, of_stage);
  const TaskId norm = add_norm_sync(l, of_stage);
  const std::vector<std::int64_t> elements = updated_elements(l, parts);
  std::vector<TaskId> updates;
  for (std::size_t s = 0; s < l.out.stages.size(); ++s) {
    const TaskId update = add_optimizer(l, s, elements[s]);
    if (norm) l.wait(update, norm);
    updates.push_back(update);
  }
  const bool gathers =
      zero == strategy::Zero::one || zero == strategy::Zero::two;
  for (const Segment& part : parts) {
    if (part.replicas < 2 || !gathers) continue;
    Sync sync{title(part), Collective::all_gather, stages_of(part),
              slice_groups(l, part, kernels::size_of(l.strategy.dtype))};
    const TaskId task =
        add_sync(l, TaskKind::parameter_gather, std::move(sync));
    for (const StageId id : stages_of(part)) l.wait(task, updates[id.at()]);
  }
}

}  // namespace troupe::schedule
