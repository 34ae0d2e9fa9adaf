#include "exec/program.h"

#include <fmt/format.h>

#include "exec/weight_layout.h"
#include "schedule/check.h"
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

Result<Shares> shares_of(const Weight& w, const schedule::Placement& place) {
  Shares out = shares_of(place);
  if (!w.gathered && !w.scattered) return out;
  TRY(auto sharing, plan_sharing(place));
  for (auto& [device, part] : sharing) out[device].sharing = std::move(part);
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
  for (std::size_t i = 0; i < placements.size(); ++i) {
    schedule::Placement& place = placements[i];
    Weight& w = p.weights[i];
    const auto& shape = place.parameter.shape;
    const auto [it, fresh] = last.try_emplace(kind_of(place.parameter), i);
    const Weight* const like = fresh ? nullptr : &p.weights[it->second];
    if (like != nullptr && like->placement.gradient == place.gradient &&
        like->placement.optimizer == place.optimizer &&
        like->placement.compute == place.compute &&
        like->gathered == w.gathered && like->scattered == w.scattered) {
      w.reduce = like->reduce;
      w.gather = like->gather;
      w.shares = like->shares;
    } else {
      if (!w.scattered) {
        TRY(w.reduce, plan(place.gradient, place.optimizer, shape, wide));
      }
      if (!w.gathered) {
        TRY(w.gather, plan(place.optimizer, place.compute, shape, p.dtype));
      }
      TRY(Shares shares, shares_of(w, place));
      w.shares = std::make_shared<const Shares>(std::move(shares));
      it->second = i;
    }
    w.placement = std::move(place);
  }
  return {};
}

/// Finds which weights blocks gather and reduce, and how often.
class WeightUse {
 public:
  WeightUse(const Schedule& s, const std::vector<schedule::Placement>& list)
      : s_(s), whole_(list.size()), sums_(list.size()) {
    for (const schedule::Placement& place : list) {
      index_.emplace(place.parameter.name, index_.size());
    }
  }

  Result<void> find(Program& p) {
    p.weights.resize(index_.size());
    for (const schedule::Block& block : s_.blocks) {
      const std::string problem = schedule::sharing_problem(block);
      if (problem.empty()) continue;
      return fail(Fault::input,
                  fmt::format("block '{}': {}", block.name, problem));
    }
    for (std::size_t i = 0; i < s_.stages.size(); ++i) {
      std::map<std::int32_t, int> times;  // that each body is performed
      for (const schedule::TaskId id : s_.stages[i].order) {
        const schedule::Task& task = s_.tasks[id.at()];
        if (task.kind != schedule::TaskKind::optimizer) ++times[task.what];
      }
      for (const auto& [body, count] : times) {
        TRY_DO(enter(p, static_cast<std::int32_t>(i), body, count));
      }
    }
    for (const auto& [name, i] : index_) {
      const bool both = (p.weights[i].gathered && whole_[i]) ||
                        (p.weights[i].scattered && sums_[i]);
      if (!both) continue;
      return fail(Fault::input,
                  fmt::format("{} is whole in one block and on the way in "
                              "another",
                              name));
    }
    return {};
  }

 private:
  Result<void> enter(Program& p, std::int32_t stage, std::int32_t body,
                     int count) {
    const auto& members = s_.bodies[static_cast<std::size_t>(body)].members;
    for (const schedule::BlockRun& run : members[0]) {
      for (const schedule::Tensor& t : s_.block(run.block).tensors) {
        if (!is_weight(t.role) && !is_gradient(t.role)) continue;
        for (int c = 0; c < run.count; ++c) {
          for (const std::string& part : parts_of(t.name)) {
            const auto name = parameter_name(run.first_layer + c, part);
            const auto it = index_.find(name);
            if (it == index_.end()) {
              return fail(Fault::input,
                          fmt::format("block '{}' has a weight '{}', which "
                                      "the model lacks",
                                      s_.block(run.block).name, name));
            }
            note(p, stage, it->second, t.role, count);
          }
        }
      }
    }
    return {};
  }

  void note(Program& p, std::int32_t stage, std::size_t i, schedule::Role role,
            int count) {
    if (role == schedule::Role::parameter) whole_[i] = true;
    if (role == schedule::Role::gradient) sums_[i] = true;
    if (role == schedule::Role::gathered) p.weights[i].gathered = true;
    if (role != schedule::Role::scattered) {
      p.shares = p.shares || role == schedule::Role::gathered;
      return;
    }
    p.weights[i].scattered = p.shares = true;
    p.gifts[{stage, i}] += count;
  }

  const Schedule& s_;
  std::map<std::string, std::size_t> index_;
  std::vector<bool> whole_, sums_;
};

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
      const bool elsewhere = is_weight(tensor.role) ||
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
  TRY_DO(WeightUse(schedule, placements).find(p));
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
