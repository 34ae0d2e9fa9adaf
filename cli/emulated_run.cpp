#include "cli/emulated_run.h"

#include <algorithm>

namespace troupe::cli {

std::vector<exec::RankId> stage_heads(const schedule::Schedule& schedule) {
  std::vector<exec::RankId> out;
  for (const schedule::Stage& stage : schedule.stages) {
    out.push_back(stage.members[0][0]);
  }
  return out;
}

sim::Run run_of(const schedule::Schedule& schedule,
                const std::vector<emu::RankTimes>& recorded) {
  sim::Run run;
  run.start.resize(schedule.tasks.size());
  run.end.resize(schedule.tasks.size());
  for (const emu::RankTimes& rank : recorded) {
    for (const auto& [task, span] : rank.tasks) {
      run.start[task.at()] = span.first;
      run.end[task.at()] = span.second;
      run.step = std::max(run.step, span.second);
    }
  }
  run.events = static_cast<std::int64_t>(schedule.tasks.size());
  return run;
}

std::vector<sim::OperatorRecord> records_of(
    const std::vector<emu::RankTimes>& recorded) {
  std::vector<sim::OperatorRecord> out;
  for (const emu::RankTimes& rank : recorded) {
    for (const exec::Performed& p : rank.operators) {
      out.push_back(
          {rank.rank, p.task, p.layer, p.index, p.block, p.start, p.end});
    }
  }
  return out;
}

}  // namespace troupe::cli
