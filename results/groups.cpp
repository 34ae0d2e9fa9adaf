#include "results/groups.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "results/parts.h"

namespace troupe::results {
namespace {

/// What makes two stages alike.
using Likeness = std::tuple<int, std::string, int, int, std::string, int,
                            std::int64_t, std::int64_t>;
Likeness likeness(const StageSummary& s) {
  return {
      s.stage,         s.kind,          s.tp, s.cp, s.layers, s.micro_batches,
      s.memory.peak.v, s.memory.limit.v};
}

}  // namespace

double busy_seconds(const Breakdown& breakdown) {
  double busy = 0;
  for (const TimePart& part : kTimeParts) {
    if (part.key != "bubble" && part.key != "pp") {
      busy += seconds_of(breakdown.*part.member);
    }
  }
  return busy;
}

std::vector<StageGroup> group_stages(const RunResult& run) {
  std::map<int, std::vector<const StageSummary*>> pipelines;
  for (const StageSummary& stage : run.stages) {
    pipelines[stage.pipeline].push_back(&stage);
  }
  std::vector<StageGroup> out;
  std::map<std::vector<Likeness>, std::size_t> first_group;
  for (const auto& [pipeline, stages] : pipelines) {
    std::vector<Likeness> key;
    for (const StageSummary* stage : stages) key.push_back(likeness(*stage));
    const auto [at, is_new] = first_group.emplace(key, out.size());
    if (is_new) out.resize(out.size() + stages.size());
    for (std::size_t i = 0; i < stages.size(); ++i) {
      StageGroup& group = out[at->second + i];
      group.pipelines.push_back(pipeline);
      group.out_of_memory = group.out_of_memory || stages[i]->out_of_memory;
      if (!group.slowest || busy_seconds(stages[i]->breakdown) >
                                busy_seconds(group.slowest->breakdown)) {
        group.slowest = stages[i];
      }
    }
  }
  return out;
}

std::string ranges_text(const std::vector<int>& numbers, int most_runs) {
  std::string out;
  int runs = 0;
  for (std::size_t i = 0; i < numbers.size();) {
    std::size_t j = i;
    while (j + 1 < numbers.size() && numbers[j + 1] == numbers[j] + 1) ++j;
    if (++runs > most_runs) return out + ",...";
    if (!out.empty()) out += ',';
    out += i == j ? fmt::format("{}", numbers[i])
                  : fmt::format("{}-{}", numbers[i], numbers[j]);
    i = j + 1;
  }
  return out;
}

std::string pipelines_text(const std::vector<int>& pipelines, int most_runs) {
  return (pipelines.size() == 1 ? "pipeline " : "pipelines ") +
         ranges_text(pipelines, most_runs);
}

}  // namespace troupe::results
