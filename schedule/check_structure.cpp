#include <fmt/format.h>

#include "schedule/check.h"

namespace troupe::schedule {
namespace {

/// Collects what is out of range; goes quiet after the first few.
struct Ranges {
  Findings findings;

  void expect(bool good, const std::string& where, const char* what) {
    if (!good && findings.all().size() < 20) findings.error(where, what);
  }
  template <typename T>
  void id(Id<T> id, std::size_t size, const std::string& where) {
    expect(id.v >= 0 && id.at() < size, where, "index out of range");
  }
  void index(std::int64_t i, std::size_t size, const std::string& where) {
    expect(i >= 0 && static_cast<std::size_t>(i) < size, where,
           "index out of range");
  }
};

void check_block(const Block& block, const std::string& where, Ranges& r) {
  for (const Tensor& t : block.tensors) {
    double elements = 1;
    for (const std::int64_t d : t.shape) {
      r.expect(d >= 0, where, "negative tensor size");
      elements *= static_cast<double>(d);
    }
    r.expect(elements < 1e15, where, "tensor of more than 1e15 elements");
  }
  for (std::size_t o = 0; o < block.operators.size(); ++o) {
    const Operator& op = block.operators[o];
    for (const auto& list : {op.inputs, op.outputs, op.releases}) {
      for (const std::uint16_t t : list) {
        r.index(t, block.tensors.size(), where);
      }
    }
    for (const std::uint16_t a : op.after) {
      r.expect(a < o, where, "an operator that waits for a later one");
    }
    for (const std::int64_t d : op.shape.dim) {
      r.expect(d >= 0 && d < (std::int64_t{1} << 50), where,
               "operator size out of range");
    }
  }
}

void check_task(const Schedule& s, std::size_t t, Ranges& r) {
  const Task& task = s.tasks[t];
  const std::string where = fmt::format("tasks/{}", t);
  r.expect(std::uint64_t{task.first_dependency} + task.dependencies <=
               s.dependencies.size(),
           where, "dependencies outside the list");
  const std::size_t size = computes(task.kind) ? s.bodies.size()
                           : task.kind == TaskKind::transfer
                               ? s.transfers.size()
                               : s.syncs.size();
  r.index(task.what, size, where);
  if (computes(task.kind) || task.kind == TaskKind::transfer) {
    r.id(task.stage, s.stages.size(), where);
  }
}

void check_orders(const Schedule& s, Ranges& r) {
  std::vector<char> placed(s.tasks.size(), 0);
  for (std::size_t i = 0; i < s.stages.size(); ++i) {
    const std::string where = fmt::format("stages/{}/order", i);
    for (const TaskId id : s.stages[i].order) {
      if (id.v < 0 || id.at() >= s.tasks.size()) {
        r.expect(false, where, "index out of range");
        continue;
      }
      const Task& task = s.tasks[id.at()];
      r.expect(computes(task.kind) && task.stage == make_id<StageId>(i), where,
               "a task of another stage or kind");
      r.expect(!placed[id.at()], where, "a task that is there twice");
      placed[id.at()] = 1;
    }
  }
  for (std::size_t t = 0; t < s.tasks.size(); ++t) {
    r.expect(placed[t] || !computes(s.tasks[t].kind),
             fmt::format("tasks/{}", t), "a compute task in no stage's order");
  }
}

void check_groups(const Schedule& s, const std::vector<SyncGroup>& groups,
                  const std::string& where, Ranges& r) {
  for (const SyncGroup& g : groups) {
    r.expect(g.bytes.v >= 0, where, "negative bytes");
    r.expect(!g.ranks.empty(), where, "an empty group");
    for (const RankId rank : g.ranks) r.id(rank, s.ranks.size(), where);
  }
}

void check_parts(const Schedule& s, Ranges& r) {
  for (std::size_t i = 0; i < s.bodies.size(); ++i) {
    const std::string where = fmt::format("bodies/{}", i);
    r.expect(!s.bodies[i].members.empty(), where, "no members");
    for (const auto& runs : s.bodies[i].members) {
      for (const BlockRun& run : runs) {
        r.id(run.block, s.blocks.size(), where);
        r.expect(run.count >= 0 && run.count < (1 << 20), where,
                 "count out of range");
      }
    }
  }
  for (std::size_t i = 0; i < s.transfers.size(); ++i) {
    const std::string where = fmt::format("transfers/{}", i);
    r.id(s.transfers[i].from, s.stages.size(), where);
    r.id(s.transfers[i].to, s.stages.size(), where);
    for (const Message& m : s.transfers[i].messages) {
      r.id(m.from, s.ranks.size(), where);
      r.id(m.to, s.ranks.size(), where);
      r.expect(m.bytes.v >= 0, where, "negative bytes");
    }
    check_groups(s, s.transfers[i].groups, where, r);
  }
  for (std::size_t i = 0; i < s.syncs.size(); ++i) {
    const std::string where = fmt::format("syncs/{}", i);
    for (const StageId id : s.syncs[i].stages) {
      r.id(id, s.stages.size(), where);
    }
    check_groups(s, s.syncs[i].groups, where, r);
  }
}

}  // namespace

Findings check_structure(const Schedule& s) {
  Ranges r;
  for (std::size_t i = 0; i < s.blocks.size(); ++i) {
    check_block(s.blocks[i], fmt::format("blocks/{}", i), r);
  }
  for (std::size_t i = 0; i < s.ranks.size(); ++i) {
    r.id(s.ranks[i].stage, s.stages.size(), fmt::format("ranks/{}", i));
  }
  for (std::size_t i = 0; i < s.stages.size(); ++i) {
    const Stage& stage = s.stages[i];
    const std::string where = fmt::format("stages/{}", i);
    r.index(stage.pipeline, static_cast<std::size_t>(std::max(s.pipelines, 0)),
            where);
    r.expect(!stage.members.empty(), where, "no members");
    r.expect(!stage.chunks.empty(), where, "no chunks");
    for (const auto& member : stage.members) {
      r.expect(!member.empty(), where, "an empty member");
      for (const RankId rank : member) r.id(rank, s.ranks.size(), where);
    }
  }
  check_parts(s, r);
  std::uint64_t dependencies = 0;
  for (std::size_t t = 0; t < s.tasks.size(); ++t) {
    check_task(s, t, r);
    dependencies += s.tasks[t].dependencies;
  }
  r.expect(dependencies <= s.dependencies.size(), "dependencies",
           "tasks share a part of the list");
  for (const TaskId id : s.dependencies) {
    r.id(id, s.tasks.size(), "dependencies");
  }
  if (r.findings.ok()) check_orders(s, r);
  return r.findings;
}

}  // namespace troupe::schedule
