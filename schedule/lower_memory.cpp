#include <algorithm>

#include "schedule/lowering.h"

namespace troupe::schedule {
namespace {

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

/// A tied table is one parameter of all groups that hold an end of the model.
void add_tied_table(const Lowering& l, std::vector<Held>& out) {
  const std::int64_t elements = models::tied_copy(l.model);
  if (elements == 0) return;
  std::vector<StageId> ends;
  for (const auto& chain : l.pipelines) {
    ends.push_back(chain.front());
    if (chain.size() > 1) ends.push_back(chain.back());
  }
  int replicas = 0;
  for (const StageId s : ends) {
    replicas += static_cast<int>(l.out.stage(s).members.size());
  }
  for (const StageId s : ends) {
    out.push_back({s, ceil_div(elements, l.out.stage(s).tp()), replicas});
  }
}

}  // namespace

std::vector<Held> held_by_stages(const Lowering& l,
                                 std::span<const Segment> parts) {
  std::vector<Held> out;
  for (const Segment& part : parts) {
    models::ParameterCount count = part.parameters;
    if (part.embedding) count.split -= models::tied_copy(l.model);
    for (const Segment::Holder& h : part.holders) {
      out.push_back(
          {h.stage, count.on_rank(l.out.stage(h.stage).tp()), part.replicas});
    }
  }
  add_tied_table(l, out);
  return out;
}

void lower_static_memory(Lowering& l, std::span<const Segment> parts) {
  const auto zero = l.strategy.zero;
  const Bytes weight = kernels::size_of(l.strategy.dtype);
  const Bytes gradient = kernels::size_of(l.strategy.gradient_dtype);
  // Two fp32 moments, and a master copy where the working type is narrower.
  const std::int64_t state = l.strategy.dtype == kernels::DType::fp32 ? 8 : 12;
  for (const Held& held : held_by_stages(l, parts)) {
    StaticMemory& memory = l.out.stages[held.stage.at()].memory;
    const auto kept = [&](strategy::Zero sharded_from) {
      return zero >= sharded_from ? ceil_div(held.elements, held.replicas)
                                  : held.elements;
    };
    memory.parameters += weight * kept(strategy::Zero::three);
    memory.gradients += gradient * kept(strategy::Zero::two);
    memory.optimizer += Bytes{state} * kept(strategy::Zero::one);
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

}  // namespace troupe::schedule
