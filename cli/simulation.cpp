#include "cli/simulation.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "base/file.h"
#include "base/json.h"
#include "base/progress.h"
#include "base/text.h"
#include "cli/profile_database.h"
#include "cli/write_trace.h"
#include "profiles/cost_model.h"
#include "profiles/database.h"
#include "schedule/file.h"
#include "schedule/lower.h"
#include "sim/engine.h"

namespace troupe::cli {
namespace {

/// Between the parts of a long simulation.
Result<void> go_on() {
  if (interrupted()) return fail(Fault::interrupted, "interrupted");
  return {};
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
      .count();
}

/// Where a database says nothing of any device of the cluster, all costs are
/// estimates.
Result<void> warn_unmeasured(const profiles::Database& db,
                             const clusters::Cluster& cluster) {
  TRY(const std::vector<profiles::RowCount> counts, db.counts());
  std::vector<std::string> names;
  for (const clusters::DeviceKind& kind : cluster.kinds) {
    if (std::ranges::find(counts, kind.name, &profiles::RowCount::device) !=
        counts.end()) {
      return {};
    }
    names.push_back(kind.name);
  }
  fmt::print(stderr,
             "warning: {} has no row of {}: all costs are computed from "
             "peaks{}\n",
             db.path(), join(names),
             counts.empty() ? "; it is empty, add the shipped measurements "
                              "with: troupe ingest --shipped"
                            : " and the efficiencies of other devices");
  return {};
}

}  // namespace

Result<std::unique_ptr<profiles::CostModel>> load_costs(
    const std::string& database, const clusters::Cluster& cluster) {
  TRY(const profiles::Database db, profiles_to_read(database));
  TRY_DO(warn_unmeasured(db, cluster));
  return profiles::load_cost_model(db, cluster.kinds);
}

Result<const profiles::CostModel*> SharedCosts::of(
    const clusters::Cluster& cluster) {
  const std::lock_guard lock(mutex_);
  for (const auto& [kinds, costs] : loaded_) {
    if (kinds == cluster.kinds) return costs.get();
  }
  TRY(auto costs, load_costs(database_, cluster));
  loaded_.emplace_back(cluster.kinds, std::move(costs));
  return loaded_.back().second.get();
}

Result<schedule::Schedule> lower_phase(const strategy::Plan& plan,
                                       std::size_t phase,
                                       const schedule::Schedule* like) {
  schedule::Orders orders;
  const strategy::Phase& source = plan.strategy.phases[phase];
  if (plan.strategy.schedule == strategy::ScheduleKind::custom) {
    TRY(const Json json, read_json(plan.strategy.order_file));
    TRY(orders, schedule::parse_order(json, plan.strategy.order_file, source));
  }
  return schedule::lower(plan.strategy, source, plan.model, plan.cluster,
                         orders, like);
}

results::RunResult answer_of(const results::Performed& step,
                             const profiles::CostModel& costs,
                             int bar_pipelines) {
  constexpr std::size_t kMostBars = 20000;
  results::RunResult out = results::summarise(step);
  out.schedule = schedule::content_hash(step.schedule);
  out.bars =
      results::bars_of(step.schedule, step.run, bar_pipelines, kMostBars);
  out.inputs["profiles"] = costs.content_hash();
  return out;
}

void name_plan(const strategy::Plan& plan, results::RunResult& run) {
  run.name = plan.strategy.name;
  for (const auto& [role, hash] : plan.hashes) run.inputs[role] = hash;
}

Result<results::RunResult> simulate_schedule(const schedule::Schedule& schedule,
                                             const clusters::Cluster& cluster,
                                             const profiles::CostModel& costs,
                                             const SimulationOptions& options,
                                             std::size_t phase) {
  const auto start = std::chrono::steady_clock::now();
  const sim::Network network(cluster, costs);
  sim::PriceList prices(schedule, cluster, network, costs,
                        options.host_per_operator);
  TRY_DO(go_on());
  sim::Activities activities = sim::activities_of(schedule, network);
  const sim::Disturbed disturbed{options.disturbance,
                                 static_cast<std::int32_t>(phase)};
  if (disturbed.by) sim::disturb(activities, *disturbed.by, disturbed.phase);
  if (options.uncontended) activities = sim::uncontended(std::move(activities));
  TRY_DO(go_on());
  std::vector<schedule::RankId> recorded;
  if (options.operators && !options.trace.empty()) {
    recorded = traced_ranks(schedule);
  }
  sim::OperatorDetail detail(schedule, prices, recorded,
                             recorded.empty() ? 0 : kMostTracedOperators,
                             disturbed);
  // Deviations are the operators'.
  const bool details = options.operators || disturbed.by != nullptr;
  TRY(const sim::Run run,
      sim::perform(schedule, prices, activities, network.links(),
                   details ? &detail : nullptr,
                   options.fold && disturbed.by == nullptr));
  TRY_DO(go_on());
  results::RunResult out =
      answer_of({schedule, cluster, prices, activities, run, options.reserve},
                costs, options.bar_pipelines);
  out.wall_time_s = seconds_since(start);
  if (!options.trace.empty()) {
    TRY_DO(write_trace(options.trace, schedule, run, detail.records(),
                       detail.cut()));
  }
  return out;
}

Result<results::RunResult> simulate_phase(const strategy::Plan& plan,
                                          std::size_t phase,
                                          const profiles::CostModel& costs,
                                          const SimulationOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  TRY(const schedule::Schedule schedule, lower_phase(plan, phase));
  TRY_DO(go_on());
  TRY(results::RunResult out,
      simulate_schedule(schedule, plan.cluster, costs, options, phase));
  name_plan(plan, out);
  for (const Finding& f : plan.findings.warnings()) {
    out.warnings.push_back(to_line(f));
  }
  out.wall_time_s = seconds_since(start);
  return out;
}

}  // namespace troupe::cli
