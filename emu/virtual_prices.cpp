#include "emu/virtual_prices.h"

#include <fmt/format.h>

#include <map>
#include <memory>

namespace troupe::emu {
namespace {

using exec::BlockTimes;
using schedule::Schedule;
using schedule::TaskId;

/// Prices of a task by member, shared by tasks that run the same body on the
/// same stage.
struct Table {
  std::vector<std::vector<std::vector<BlockTimes>>> runs;  ///< by entry, member
  std::vector<std::vector<Time>> host;
  std::vector<std::int32_t> of_task;
};

Table table_of(const Schedule& s, sim::PriceList& prices) {
  Table table;
  table.of_task.assign(s.tasks.size(), -1);
  std::map<std::pair<std::int32_t, std::int32_t>, std::int32_t> known;
  for (std::size_t t = 0; t < s.tasks.size(); ++t) {
    const schedule::Task& task = s.tasks[t];
    if (!schedule::computes(task.kind)) continue;
    const auto [it, fresh] =
        known.try_emplace({task.stage.v, task.what},
                          static_cast<std::int32_t>(table.runs.size()));
    table.of_task[t] = it->second;
    if (!fresh) continue;
    auto& members = table.runs.emplace_back();
    auto& hosts = table.host.emplace_back();
    const auto id = make_id<TaskId>(t);
    for (std::size_t m = 0; m < s.stage(task.stage).members.size(); ++m) {
      auto& runs = members.emplace_back();
      for (const auto& [price, count] : prices.runs(id, m)) {
        BlockTimes& block = runs.emplace_back();
        block.block = price->block;
        for (const sim::OperatorPrice& op : price->operators) {
          block.operators.push_back(op.time);
        }
      }
      hosts.push_back(prices.host_time(id, m));
    }
  }
  return table;
}

}  // namespace

exec::Prices virtual_prices(const Schedule& schedule, sim::PriceList& prices,
                            const sim::Activities& activities,
                            sim::Disturbed disturbed) {
  // Read by all ranks for as long as the prices live.
  const auto table = std::make_shared<const Table>(table_of(schedule, prices));
  exec::Prices out;
  out.runs = [table](TaskId id,
                     std::size_t m) -> const std::vector<BlockTimes>& {
    return table->runs[static_cast<std::size_t>(table->of_task[id.at()])][m];
  };
  out.host = [table](TaskId id, std::size_t m) {
    return table->host[static_cast<std::size_t>(table->of_task[id.at()])][m];
  };
  for (const sim::Activity& a : activities.transfers) {
    out.transfers.push_back(a.alone());
  }
  for (const sim::Activity& a : activities.syncs) {
    out.syncs.push_back(a.alone());
  }
  if (disturbed.by != nullptr) out.disturbance = *disturbed.by;
  out.phase = disturbed.phase;
  return out;
}

exec::StepPrices virtual_step(const runs::StepTimeline& timeline) {
  exec::StepPrices out;
  out.graph = std::make_shared<const Schedule>(timeline.schedule);
  out.tasks_of = timeline.tasks_of;
  for (std::size_t k = 0; k < timeline.switches.size(); ++k) {
    auto& batches = out.switches.emplace_back();
    for (std::size_t i = 0; i < timeline.switches[k].size(); ++i) {
      const TaskId id = timeline.switches[k][i];
      const auto what =
          static_cast<std::size_t>(timeline.schedule.tasks[id.at()].what);
      batches.push_back({id, timeline.batches[k][i].devices,
                         timeline.activities.syncs[what].alone()});
    }
  }
  exec::find_waits_outside(out);
  return out;
}

std::string structure_difference(const Schedule& priced,
                                 const Schedule& performed) {
  if (priced.tasks.size() != performed.tasks.size()) {
    return fmt::format("{} tasks are priced and {} performed",
                       priced.tasks.size(), performed.tasks.size());
  }
  for (std::size_t t = 0; t < priced.tasks.size(); ++t) {
    const schedule::Task& a = priced.tasks[t];
    const schedule::Task& b = performed.tasks[t];
    if (a.kind != b.kind || a.stage != b.stage ||
        a.micro_batch != b.micro_batch) {
      return fmt::format("task {} is a {} in one and a {} in the other", t,
                         name_of(a.kind), name_of(b.kind));
    }
    if (!schedule::computes(a.kind)) continue;
    const std::size_t members = priced.stage(a.stage).members.size();
    for (std::size_t m = 0; m < members; ++m) {
      const auto& ra = priced.bodies[static_cast<std::size_t>(a.what)].of(m);
      const auto& rb = performed.bodies[static_cast<std::size_t>(b.what)].of(m);
      if (ra.size() != rb.size()) {
        return fmt::format(
            "task {} has {} runs of blocks in one and {} in the "
            "other",
            t, ra.size(), rb.size());
      }
      for (std::size_t i = 0; i < ra.size(); ++i) {
        const auto& oa = priced.block(ra[i].block).operators;
        const auto& ob = performed.block(rb[i].block).operators;
        if (oa.size() != ob.size() || ra[i].count != rb[i].count) {
          return fmt::format(
              "block '{}' has {} operators in one and {} in the other",
              priced.block(ra[i].block).name, oa.size(), ob.size());
        }
      }
    }
  }
  return {};
}

}  // namespace troupe::emu
