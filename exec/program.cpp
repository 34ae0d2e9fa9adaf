#include "exec/program.h"

#include <fmt/format.h>

#include "schedule/file.h"

namespace troupe::exec {
namespace {

using schedule::Schedule;
using schedule::Stage;

Result<void> check_supported(const Schedule& s) {
  const schedule::Numerics& n = s.numerics;
  if (!n.unsupported.empty()) {
    return fail(Fault::input,
                fmt::format("model {}: {} have no arithmetic yet, only costs; "
                            "it can be simulated",
                            s.model, n.unsupported));
  }
  for (const Stage& stage : s.stages) {
    for (const auto& member : stage.members) {
      const auto tp = static_cast<int>(member.size());
      if (tp != stage.tp()) {
        return fail(Fault::input,
                    fmt::format("pipeline {} stage {}: context-parallel "
                                "members of {} and {} devices; a ring needs "
                                "equal ones",
                                stage.pipeline, stage.index, stage.tp(), tp));
      }
      if (n.heads % tp != 0 || (n.kv_heads % tp != 0 && tp % n.kv_heads != 0)) {
        return fail(
            Fault::input,
            fmt::format("pipeline {} stage {}: {} heads ({} of keys) "
                        "over {} devices; the degree must divide them",
                        stage.pipeline, stage.index, n.heads, n.kv_heads, tp));
      }
    }
  }
  return {};
}

void index_tasks(Program& p, const Schedule& s) {
  p.sends.resize(s.tasks.size());
  p.kept.resize(s.tasks.size());
  for (std::size_t t = 0; t < s.tasks.size(); ++t) {
    const schedule::Task& task = s.tasks[t];
    const auto id = make_id<schedule::TaskId>(t);
    const bool transfers = task.kind == schedule::TaskKind::transfer;
    const bool computes = schedule::computes(task.kind);
    if (!transfers &&
        (!computes || task.kind == schedule::TaskKind::optimizer)) {
      p.step_end.push_back(id);
      continue;
    }
    for (const schedule::TaskId before : s.dependencies_of(task)) {
      const schedule::Task& b = s.tasks[before.at()];
      if (!schedule::computes(b.kind)) continue;
      if (transfers) {
        p.sends[before.at()].push_back(id);
      } else if (b.stage == task.stage) {
        p.kept[before.at()] = true;
      }
    }
  }
}

}  // namespace

Result<Program> make_program(Schedule schedule,
                             std::vector<schedule::Placement> placements,
                             const clusters::Cluster& cluster) {
  TRY_DO(check_supported(schedule));
  Program p;
  p.hash = schedule::content_hash(schedule);
  p.dtype = schedule.dtype;
  for (std::size_t r = 0; r < schedule.ranks.size(); ++r) {
    p.rank_of[schedule.ranks[r].device] = make_id<RankId>(r);
  }
  index_tasks(p, schedule);
  const kernels::DType wide = kernels::statistics_type(p.dtype);
  for (schedule::Placement& place : placements) {
    Weight w;
    const auto& shape = place.parameter.shape;
    TRY(w.reduce, reshard::resolve(place.gradient, place.optimizer, shape, wide,
                                   cluster));
    TRY(w.gather, reshard::resolve(place.optimizer, place.compute, shape,
                                   p.dtype, cluster));
    w.placement = std::move(place);
    p.weights.push_back(std::move(w));
  }
  p.schedule = std::move(schedule);
  return p;
}

std::string parameter_name(int layer, std::string_view name) {
  if (name.starts_with("embedding.")) return std::string(name);
  if (layer == models::kHead) return fmt::format("head.{}", name);
  return fmt::format("layers.{}.{}", layer, name);
}

}  // namespace troupe::exec
