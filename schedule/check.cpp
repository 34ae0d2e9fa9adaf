#include "schedule/check.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/text.h"
#include "schedule/memory.h"
#include "schedule/successors.h"

namespace troupe::schedule {
namespace {

std::string task_name(const Schedule& s, TaskId id) {
  const Task& t = s.tasks[id.at()];
  if (!t.stage) return fmt::format("task {} ({})", id.v, name_of(t.kind));
  const Stage& stage = s.stage(t.stage);
  return fmt::format("task {} ({} of micro-batch {}, pipeline {} stage {})",
                     id.v, name_of(t.kind), t.micro_batch, stage.pipeline,
                     stage.index);
}

std::int64_t elements(const Tensor& t) {
  std::int64_t n = 1;
  for (const std::int64_t d : t.shape) n *= d;
  return n;
}

std::string gather_problem(const Block& block, const Operator& op) {
  Bytes sum;
  for (const std::uint16_t t : op.outputs) sum += size_of(block.tensors[t]);
  if (sum <= op.bytes) return {};
  return fmt::format("gathers {} bytes into tensors of {}", op.bytes.v, sum.v);
}

/// What is wrong with an operator's operands, or empty.
std::string operand_problem(const Block& block, const Operator& op) {
  const auto in = [&](std::size_t i) {
    return elements(block.tensors[op.inputs[i]]);
  };
  const auto out = [&](std::size_t i) {
    return elements(block.tensors[op.outputs[i]]);
  };
  if (op.communicates) {
    if (op.bytes.v < 0) return "negative bytes";
    if (op.action == Action::gather_weights) return gather_problem(block, op);
    const bool whole = op.collective == clusters::Collective::all_gather &&
                       !op.outputs.empty();
    if (whole && size_of(block.tensors[op.outputs[0]]) != op.bytes) {
      return fmt::format("gathers {} bytes into a tensor of {}", op.bytes.v,
                         size_of(block.tensors[op.outputs[0]]).v);
    }
    return {};
  }
  if (op.action == Action::attention) return {};  // unfused: a stand-in
  if (op.shape.kind == kernels::OpKind::gemm && !op.outputs.empty() &&
      !op.inputs.empty()) {
    const auto [b, m, n, k, unused, unused2] = op.shape.dim;
    if (out(0) != b * m * n) {
      return fmt::format("a {}x{} product into {} elements", m, n, out(0));
    }
    if (in(0) != b * m * k) {
      return fmt::format("a {}x{} operand with {} elements", m, k, in(0));
    }
  }
  const bool pointwise = op.shape.kind == kernels::OpKind::norm_forward ||
                         op.shape.kind == kernels::OpKind::add ||
                         op.shape.kind == kernels::OpKind::activation_forward;
  if (pointwise && op.action != Action::ring_home && !op.outputs.empty() &&
      out(0) != op.shape.dim[0] * op.shape.dim[1]) {
    return fmt::format("{}x{} results into {} elements", op.shape.dim[0],
                       op.shape.dim[1], out(0));
  }
  return {};
}

/// Whether a task is the second transfer of a hand-over.
bool shares_rows(const Schedule& s, const Task& task) {
  return task.kind == TaskKind::transfer &&
         s.transfers[static_cast<std::size_t>(task.what)].shares();
}

void check_shared(const Schedule& s, std::size_t i, Findings& findings) {
  const Transfer& transfer = s.transfers[i];
  const std::string where = fmt::format("transfers/{}", i);
  if (transfer.shares() == transfer.groups.empty() ||
      (transfer.shares() && !transfer.messages.empty())) {
    findings.error(where,
                   "expected messages to another stage, or groups within one");
    return;
  }
  if (!transfer.shares()) return;
  if (transfer.collective != clusters::Collective::all_gather &&
      transfer.collective != clusters::Collective::broadcast) {
    findings.error(where, "rows are shared by all-gather or broadcast only");
  }
  const auto& members = s.stage(transfer.to).members;
  for (const SyncGroup& group : transfer.groups) {
    if (std::ranges::find(members, group.ranks) != members.end()) continue;
    findings.error(where, "a group that is no member of its stage");
  }
}

void check_slots(const Schedule& s, std::size_t i, Findings& findings) {
  const Stage& stage = s.stages[i];
  std::set<std::tuple<TaskKind, int, int>> seen;
  for (const TaskId id : stage.order) {
    const Task& t = s.tasks[id.at()];
    if (t.kind == TaskKind::optimizer || t.part > 0) continue;
    if (!seen.insert({t.kind, t.chunk, t.micro_batch}).second) {
      findings.error("order",
                     fmt::format("{} is there twice", task_name(s, id)));
    }
  }
  for (std::size_t c = 0; c < stage.chunks.size(); ++c) {
    for (int m = 0; m < stage.micro_batches; ++m) {
      const auto has = [&](TaskKind kind) {
        return seen.contains({kind, static_cast<int>(c), m});
      };
      const bool back =
          has(TaskKind::backward) ||
          (has(TaskKind::backward_input) && has(TaskKind::backward_weight));
      if (!has(TaskKind::forward) || !back) {
        findings.error(
            "order",
            fmt::format("pipeline {} stage {} chunk {} lacks the {} of "
                        "micro-batch {}",
                        stage.pipeline, stage.index, c,
                        back ? "forward" : "backward", m));
      }
      if (findings.all().size() > 100) return;
    }
  }
}

}  // namespace

Findings check_shapes(const Schedule& schedule) {
  Findings findings;
  for (const Block& block : schedule.blocks) {
    const std::string sharing = sharing_problem(block);
    if (!sharing.empty()) {
      findings.error(fmt::format("block '{}'", block.name), sharing);
    }
    for (const Operator& op : block.operators) {
      std::string problem = action_problem(block, op);
      if (problem.empty()) problem = operand_problem(block, op);
      if (!problem.empty()) {
        findings.error(
            fmt::format("block '{}', operator '{}'", block.name, op.name),
            problem);
      }
    }
  }
  return findings;
}

Findings check_messages(const Schedule& s) {
  Findings findings;
  std::vector<int> consumers(s.tasks.size(), 0);
  std::vector<char> produced(s.tasks.size(), 0);
  for (std::size_t t = 0; t < s.tasks.size(); ++t) {
    const Task& task = s.tasks[t];
    for (const TaskId before : s.dependencies_of(task)) {
      const Task& source = s.tasks[before.at()];
      if (source.micro_batch != task.micro_batch) continue;
      const bool sharing = shares_rows(s, task);
      if (source.kind == TaskKind::transfer &&
          (computes(task.kind) || sharing)) {
        const auto& transfer =
            s.transfers[static_cast<std::size_t>(source.what)];
        if (transfer.to == task.stage) {
          ++consumers[before.at()];
          if (sharing) produced[t] = !transfer.shares();
        }
      }
      if (task.kind == TaskKind::transfer && !sharing &&
          computes(source.kind) && source.stage == task.stage) {
        produced[t] = 1;
      }
    }
  }
  for (std::size_t t = 0; t < s.tasks.size(); ++t) {
    if (s.tasks[t].kind != TaskKind::transfer) continue;
    const TaskId id = make_id<TaskId>(t);
    if (!produced[t]) {
      findings.error("tasks", task_name(s, id) + " has nothing to send");
    }
    if (consumers[t] != 1) {
      findings.error("tasks", fmt::format("{} is received {} times, not once",
                                          task_name(s, id), consumers[t]));
    }
  }
  for (std::size_t i = 0; i < s.transfers.size(); ++i) {
    const Transfer& transfer = s.transfers[i];
    for (const Message& m : transfer.messages) {
      if (s.rank(m.from).stage != transfer.from ||
          s.rank(m.to).stage != transfer.to) {
        findings.error(fmt::format("transfers/{}", i),
                       "a message between ranks of other stages");
      }
    }
    check_shared(s, i, findings);
  }
  for (std::size_t i = 0; i < s.stages.size(); ++i) check_slots(s, i, findings);
  return findings;
}

Findings check_deadlock(const Schedule& s) {
  Findings findings;
  Successors successors(s);
  std::vector<std::uint32_t>& waiting = successors.waiting;
  std::vector<TaskId> ready;
  for (std::size_t t = 0; t < waiting.size(); ++t) {
    if (waiting[t] == 0) ready.push_back(make_id<TaskId>(t));
  }
  for (std::size_t i = 0; i < ready.size(); ++i) {
    for (const TaskId next : successors.of(ready[i])) {
      if (--waiting[next.at()] == 0) ready.push_back(next);
    }
  }
  if (ready.size() == s.tasks.size()) return findings;
  int shown = 0;
  for (std::size_t t = 0; t < waiting.size() && shown < 5; ++t) {
    if (waiting[t] == 0) continue;
    findings.error("tasks", task_name(s, make_id<TaskId>(t)) +
                                " can never start: it waits in a circle");
    ++shown;
  }
  return findings;
}

Findings check_memory(const Schedule& s, const clusters::Cluster& cluster,
                      Bytes reserve) {
  Findings findings;
  std::set<DeviceId> seen;
  for (const Rank& rank : s.ranks) {
    if (rank.device.v < 0 || rank.device.at() >= cluster.devices.size()) {
      findings.error("ranks", fmt::format("device {} is not in cluster {} of "
                                          "{} devices",
                                          rank.device.v, cluster.name,
                                          cluster.devices.size()));
    } else if (!seen.insert(rank.device).second) {
      findings.error("ranks",
                     fmt::format("device {} has two ranks", rank.device.v));
    }
  }
  if (!findings.ok()) return findings;
  for (const Stage& stage : s.stages) {
    const MemoryUse use = memory_of(s, stage);
    Bytes limit{std::numeric_limits<std::int64_t>::max()};
    for (const auto& member : stage.members) {
      for (const RankId r : member) {
        limit = std::min(limit, cluster.kind_of(s.rank(r).device).memory);
      }
    }
    if (use.total() + reserve > limit) {
      findings.warning(
          fmt::format("pipeline {} stage {}", stage.pipeline, stage.index),
          fmt::format("needs {} and {} in reserve, more than the device's {}",
                      human(use.total()), human(reserve), human(limit)));
    }
  }
  return findings;
}

Findings check_schedule(const Schedule& schedule,
                        const clusters::Cluster* cluster, Bytes reserve) {
  Findings findings = check_structure(schedule);
  if (!findings.ok()) return findings;
  findings.append(check_shapes(schedule));
  findings.append(check_messages(schedule));
  findings.append(check_deadlock(schedule));
  if (cluster) findings.append(check_memory(schedule, *cluster, reserve));
  return findings;
}

}  // namespace troupe::schedule
