#include "schedule/memory.h"

#include <algorithm>
#include <map>

namespace troupe::schedule {

std::vector<Bytes> activation_levels(const Schedule& schedule,
                                     const Stage& stage) {
  std::vector<Bytes> out;
  out.reserve(stage.order.size());
  std::map<std::pair<int, int>, Bytes> kept;  // by chunk and micro-batch
  Bytes now;
  for (const TaskId id : stage.order) {
    const Task& task = schedule.tasks[id.at()];
    const std::pair<int, int> key{task.chunk, task.micro_batch};
    switch (task.kind) {
      case TaskKind::forward: {
        const Bytes saved =
            schedule.bodies[static_cast<std::size_t>(task.what)].saved;
        kept[key] = saved;
        now += saved;
        break;
      }
      // An input gradient alone frees nothing: the weight gradient still
      // needs the activations.
      case TaskKind::backward:
      case TaskKind::backward_weight: {
        const auto it = kept.find(key);
        if (it != kept.end() && task.part + 1 == task.parts) {
          now -= it->second;
          kept.erase(it);
        }
        break;
      }
      case TaskKind::backward_input:
      case TaskKind::transfer:
      case TaskKind::gradient_sync:
      case TaskKind::optimizer:
      case TaskKind::parameter_gather:
      case TaskKind::layout_switch:
        break;
    }
    out.push_back(now);
  }
  return out;
}

MemoryUse memory_of(const Schedule& schedule, const Stage& stage) {
  MemoryUse use;
  use.parameters = stage.memory.parameters;
  use.gradients = stage.memory.gradients;
  use.optimizer = stage.memory.optimizer;
  use.workspace = stage.workspace;
  for (const Bytes level : activation_levels(schedule, stage)) {
    use.activations = std::max(use.activations, level);
  }
  return use;
}

}  // namespace troupe::schedule
