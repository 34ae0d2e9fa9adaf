#include "exec/program.h"

#include <fmt/format.h>

#include "exec/weight_layout.h"
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

using Shares = std::map<reshard::DeviceId, Share>;

Shares shares_of(const schedule::Placement& place) {
  const auto& shape = place.parameter.shape;
  Shares out;
  for (auto& h : strategy::holdings(place.compute, shape)) {
    out[h.device].compute = std::move(h.boxes);
  }
  const auto all = strategy::holdings(place.optimizer, shape);
  for (std::size_t i = 0; i < all.size(); ++i) {
    Share& share = out[all[i].device];
    share.optimizer = all[i].boxes;
    share.counted = counted_boxes(place.optimizer, all, i);
  }
  return out;
}

/// The part of a parameter's name that layers share.
std::string kind_of(const models::Parameter& p) {
  return p.layer < 0 ? p.name : p.name.substr(p.name.find('.', 7));
}

Result<void> plan_weights(Program& p,
                          std::vector<schedule::Placement> placements,
                          const clusters::Cluster& cluster) {
  const kernels::DType wide = kernels::statistics_type(p.dtype);
  const auto plan =
      [&](const strategy::Annotation& from, const strategy::Annotation& to,
          const std::vector<std::int64_t>& shape, kernels::DType dtype)
      -> Result<std::shared_ptr<const reshard::Plan>> {
    TRY(reshard::Plan made, reshard::resolve(from, to, shape, dtype, cluster));
    return std::make_shared<const reshard::Plan>(std::move(made));
  };
  std::map<std::string, std::size_t> last;  // of each kind
  for (schedule::Placement& place : placements) {
    Weight w;
    const auto& shape = place.parameter.shape;
    const auto [it, fresh] =
        last.try_emplace(kind_of(place.parameter), p.weights.size());
    const Weight* const like = fresh ? nullptr : &p.weights[it->second];
    if (like != nullptr && like->placement.gradient == place.gradient &&
        like->placement.optimizer == place.optimizer &&
        like->placement.compute == place.compute) {
      w.reduce = like->reduce;
      w.gather = like->gather;
      w.shares = like->shares;
    } else {
      TRY(w.reduce, plan(place.gradient, place.optimizer, shape, wide));
      TRY(w.gather, plan(place.optimizer, place.compute, shape, p.dtype));
      w.shares = std::make_shared<const Shares>(shares_of(place));
      it->second = p.weights.size();
    }
    w.placement = std::move(place);
    p.weights.push_back(std::move(w));
  }
  return {};
}

void lay_out_blocks(Program& p, const Schedule& s) {
  using schedule::Role;
  std::map<std::string, std::int32_t> names;
  const auto place = [](const schedule::Tensor& t, Bytes& total) {
    const std::int64_t at = total.v;
    total += Bytes{(schedule::size_of(t).v + 63) / 64 * 64};
    return at;
  };
  for (const schedule::Block& block : s.blocks) {
    BlockMemory& m = p.memory.emplace_back();
    for (std::size_t t = 0; t < block.tensors.size(); ++t) {
      const schedule::Tensor& tensor = block.tensors[t];
      m.name.push_back(
          names
              .try_emplace(tensor.name, static_cast<std::int32_t>(names.size()))
              .first->second);
      const auto index = static_cast<int>(t);
      const bool elsewhere = tensor.role == Role::parameter ||
                             tensor.role == Role::gradient ||
                             tensor.dtype == kernels::DType::int32 ||
                             index == block.input || index == block.output;
      const bool saved = !elsewhere && tensor.role == Role::saved;
      m.saved.push_back(saved ? place(tensor, m.kept) : -1);
      m.temporary.push_back(elsewhere || saved ? -1
                                               : place(tensor, m.temporaries));
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
  TRY_DO(plan_weights(p, std::move(placements), cluster));
  lay_out_blocks(p, schedule);
  p.schedule = std::move(schedule);
  return p;
}

std::string parameter_name(int layer, std::string_view name) {
  if (name.starts_with("embedding.")) return std::string(name);
  if (layer == models::kHead) return fmt::format("head.{}", name);
  return fmt::format("layers.{}.{}", layer, name);
}

}  // namespace troupe::exec
