#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "schedule/lowering.h"

namespace troupe::schedule {
namespace {

using clusters::Collective;

/// Elements of a segment on one rank of a tensor-parallel group of size tp.
std::int64_t local_elements(const models::ParameterCount& p, std::int64_t tp) {
  return ceil_div(p.split, tp) + p.repeated;
}

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
  std::int64_t slices = 1;
  std::int64_t widest = 1;
  for (const Segment::Holder& h : segment.holders) {
    for (const auto& member : l.out.stage(h.stage).members) {
      const auto tp = static_cast<std::int64_t>(member.size());
      slices = std::lcm(slices, tp);
      widest = std::max(widest, tp);
    }
  }
  const std::int64_t elements =
      ceil_div(segment.parameters.split, slices) +
      ceil_div(segment.parameters.repeated * widest, slices);
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

/// Under sequence parallelism every rank of a member sees its own rows only:
/// gradients of what all of them hold are summed over the member.
void add_member_sums(Lowering& l, std::span<const Segment> parts,
                     std::vector<std::vector<TaskId>>& of_stage) {
  if (!l.strategy.sequence_parallel) return;
  const Bytes element = kernels::size_of(l.strategy.gradient_dtype);
  std::vector<Bytes> repeated(l.out.stages.size());
  for (const Segment& part : parts) {
    for (const Segment::Holder& h : part.holders) {
      repeated[h.stage.at()] += element * part.parameters.repeated;
    }
  }
  for (std::size_t s = 0; s < l.out.stages.size(); ++s) {
    Sync sync;
    sync.name = "norms";
    sync.stages = {make_id<StageId>(s)};
    for (const auto& member : l.out.stages[s].members) {
      if (member.size() > 1) sync.groups.push_back({member, repeated[s]});
    }
    const TaskId last = last_backward(l, {sync.stages[0], 0, 0}, true);
    if (sync.groups.empty() || repeated[s].v == 0 || !last) continue;
    const TaskId task = add_sync(l, TaskKind::gradient_sync, std::move(sync));
    l.wait(task, last);
    of_stage[s].push_back(task);
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
  for (const Segment& part : parts) {
    for (const Segment::Holder& h : part.holders) {
      const std::int64_t tp = l.out.stage(h.stage).tp();
      out[h.stage.at()] += ceil_div(local_elements(part.parameters, tp),
                                    sharded ? part.replicas : 1);
    }
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

Bytes gathered_bytes(const Block& block) {
  Bytes sum;
  for (const Tensor& t : block.tensors) {
    if (t.role == Role::gathered) sum += size_of(t);
  }
  return sum;
}

/// Most that a block needs, with what the next one has gathered already.
Bytes workspace_of(const Lowering& l, const std::vector<BlockRun>& runs) {
  Bytes most;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const Block& block = l.shop.block(runs[i].block);
    Bytes next;
    if (runs[i].count > 1) next = gathered_bytes(block);
    if (i + 1 < runs.size()) {
      next = std::max(next, gathered_bytes(l.shop.block(runs[i + 1].block)));
    }
    most = std::max(most, block.workspace + next);
  }
  return most;
}

}  // namespace

void lower_static_memory(Lowering& l, std::span<const Segment> parts) {
  const auto zero = l.strategy.zero;
  const Bytes weight = kernels::size_of(l.strategy.dtype);
  const Bytes gradient = kernels::size_of(l.strategy.gradient_dtype);
  // Two fp32 moments, and a master copy where the working type is narrower.
  const std::int64_t state = l.strategy.dtype == kernels::DType::fp32 ? 8 : 12;
  const auto holds = [](std::int64_t elements, int replicas, bool sharded) {
    return sharded ? ceil_div(elements, replicas) : elements;
  };
  for (const Segment& part : parts) {
    for (const Segment::Holder& h : part.holders) {
      Stage& stage = l.out.stages[h.stage.at()];
      std::int64_t elements = local_elements(part.parameters, stage.tp());
      if (part.head && stage.index > 0) {
        elements += ceil_div(models::tied_copy(l.model), stage.tp());
      }
      stage.memory.parameters += weight * holds(elements, part.replicas,
                                                zero >= strategy::Zero::three);
      stage.memory.gradients += gradient * holds(elements, part.replicas,
                                                 zero >= strategy::Zero::two);
      stage.memory.optimizer +=
          Bytes{state} *
          holds(elements, part.replicas, zero >= strategy::Zero::one);
    }
  }
  for (Stage& stage : l.out.stages) {
    for (const TaskId t : stage.order) {
      const Body& body =
          l.out.bodies[static_cast<std::size_t>(l.out.tasks[t.at()].what)];
      for (const auto& runs : body.members) {
        stage.workspace = std::max(stage.workspace, workspace_of(l, runs));
      }
    }
  }
}

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
