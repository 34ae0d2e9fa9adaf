#include "cli/elastic_machinery.h"

namespace troupe::cli {
namespace {

/// One step of a candidate, simulated.
Result<runs::StepPerformance> simulated(const runs::Trace& trace,
                                        const runs::Candidate& candidate,
                                        const clusters::Cluster& cluster,
                                        const runs::Condition& condition,
                                        const profiles::CostModel& healthy) {
  strategy::Plan plan;
  plan.strategy = candidate.strategy;
  plan.model = trace.model;
  plan.cluster = cluster;
  const runs::ConditionCosts costs(healthy, trace.cluster, condition);
  SimulationOptions options;
  options.reserve = kReserve;
  options.bar_pipelines = 0;
  TRY(const results::RunResult run, simulate_phase(plan, 0, costs, options));
  runs::StepPerformance out{.step = run.step_time,
                            .tokens = run.tokens,
                            .model_flops = run.model_flops,
                            .mfu = run.mfu,
                            .out_of_memory = run.out_of_memory,
                            .memory = {}};
  for (const results::StageSummary& stage : run.stages) {
    for (const int d : stage.devices) {
      out.memory.push_back(
          {clusters::DeviceId{d}, stage.memory.peak, stage.memory.limit});
    }
  }
  return out;
}

}  // namespace

runs::Machinery simulator(const runs::Trace& trace,
                          const profiles::CostModel& costs) {
  return {
      .step =
          [&](const runs::Candidate& candidate,
              const clusters::Cluster& cluster,
              const runs::Condition& condition) {
            return simulated(trace, candidate, cluster, condition, costs);
          },
      .rates = [&](const clusters::Cluster& cluster) -> Result<reshard::Rates> {
        return reshard::rates_of(cluster, costs);
      }};
}

}  // namespace troupe::cli
