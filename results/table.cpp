#include "results/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "results/groups.h"
#include "results/parts.h"
#include "results/text.h"

namespace troupe::results {
namespace {

constexpr std::size_t kMostRows = 48;
constexpr int kBarWidth = 40;

std::string labelled(std::string_view label, const std::string& value,
                     const std::string& meaning = "") {
  std::string line = "  " + left(label, 20) + right(value, 14);
  if (!meaning.empty()) line += "   " + meaning;
  return line + "\n";
}

std::string title(const RunResult& run) {
  std::string out = cell(run.model) + " on " + cell(run.cluster);
  if (!run.name.empty()) out += ", " + cell(run.name);
  if (!run.phase.empty()) out += ", phase " + cell(run.phase);
  out += fmt::format("\n{} step on {} of {} GPU{}", cell(run.performance, 20),
                     thousands(run.gpus), thousands(run.cluster_gpus),
                     run.cluster_gpus == 1 ? "" : "s");
  if (!run.id.empty()) out += ", run " + cell(run.id, 24);
  return out + "\n";
}

std::string memory_verdict(const RunResult& run) {
  if (!run.out_of_memory) return "";
  int over = 0;
  const StageSummary* worst = nullptr;
  for (const StageSummary& stage : run.stages) {
    if (!stage.out_of_memory) continue;
    ++over;
    const auto excess = [](const StageSummary& s) {
      return s.memory.peak.v - s.memory.limit.v;
    };
    if (!worst || excess(stage) > excess(*worst)) worst = &stage;
  }
  if (!worst) return "\n  OUT OF MEMORY: this step cannot run\n";
  return fmt::format(
      "\n  OUT OF MEMORY in {} of {}; the worst is pipeline {} "
      "stage {}:\n  {} needed, {} on {}. Times below pretend that it fits.\n",
      over, counted(std::ssize(run.stages), "stage"), worst->pipeline,
      worst->stage, human(worst->memory.peak), human(worst->memory.limit),
      cell(worst->kind, 30));
}

std::string headline(const RunResult& run) {
  std::string out = "\n";
  out += labelled("step", human(run.step_time));
  out += labelled("throughput", short_count(run.tokens_per_s) + " tokens/s",
                  thousands(run.tokens) + " tokens per step");
  for (const Custom& custom : kCustoms) {
    out += labelled(custom.label, percent(run.*custom.member),
                    std::string(custom.meaning));
  }
  if (run.usd_per_step > 0) {
    const double per_billion =
        run.tokens > 0
            ? run.usd_per_step / static_cast<double>(run.tokens) * 1e9
            : 0;
    out += labelled("cost", short_count(run.usd_per_step) + " USD",
                    short_count(per_billion) + " USD per billion tokens");
  }
  return out;
}

std::string where_time_goes(const RunResult& run) {
  std::string out = fmt::format(
      "\nWhere the step goes, on its critical device (pipeline {} stage {}):\n",
      run.critical_pipeline, run.critical_stage);
  const double step = seconds_of(run.step_time);
  for (const TimePart& part : kTimeParts) {
    const Time time = run.breakdown.*part.member;
    if (time == Time{}) continue;
    const double share = step > 0 ? seconds_of(time) / step : 0;
    const auto bar = static_cast<std::size_t>(
        std::lround(std::clamp(share, 0.0, 1.0) * kBarWidth));
    out += "  " + left(part.label, 20) + right(human(time), 14) +
           right(percent(share), 9) + (bar > 0 ? "  " : "") +
           std::string(bar, '#') + "\n";
  }
  return out;
}

/// Exposed communication of a stage: everything but computing and waiting.
double communication_seconds(const Breakdown& b) {
  return seconds_of(b.tp) + seconds_of(b.cp) + seconds_of(b.pp) +
         seconds_of(b.dp);
}

/// The table of stages, with columns as wide as their widest entry.
struct StageTable {
  bool equal_pipelines = true;
  std::size_t pipes = 5, kind = 4, degrees = 2, layers = 6;

  static std::string degrees_of(const StageSummary& s) {
    return s.cp > 1 ? fmt::format("{}x{}", s.tp, s.cp)
                    : fmt::format("{}", s.tp);
  }
  std::string pipes_of(const StageGroup& group) const {
    const std::string count = fmt::format("{} x", group.pipelines.size());
    return equal_pipelines ? count
                           : count + " " + ranges_text(group.pipelines, 2);
  }

  explicit StageTable(const std::vector<StageGroup>& groups) {
    for (const StageGroup& g : groups) {
      equal_pipelines =
          equal_pipelines && g.pipelines == groups.front().pipelines;
    }
    for (const StageGroup& g : groups) {
      pipes = std::max(pipes, width_of(pipes_of(g)));
      kind = std::max(kind, width_of(cell(g.slowest->kind, 20)));
      degrees = std::max(degrees, width_of(degrees_of(*g.slowest)));
      layers = std::max(layers, width_of(cell(g.slowest->layers, 14)));
    }
  }

  std::string header(bool with_cp) const {
    return "  " + left("pipes", pipes) + right("stage", 7) + "  " +
           left("kind", kind) + "  " + left(with_cp ? "tpxcp" : "tp", degrees) +
           "  " + left("layers", layers) + right("mb", 5) +
           right("compute", 9) + right("comm", 9) + right("bubble", 9) +
           right("memory", 12) + right("full", 7) + "\n";
  }

  std::string row(const StageGroup& group, double step) const {
    const StageSummary& s = *group.slowest;
    const auto share = [&](double seconds) {
      return right(percent(step > 0 ? seconds / step : 0), 9);
    };
    const double limit = static_cast<double>(s.memory.limit.v);
    const double full =
        limit > 0 ? static_cast<double>(s.memory.peak.v) / limit : 0;
    return "  " + left(pipes_of(group), pipes) +
           right(fmt::format("{}", s.stage), 7) + "  " +
           left(cell(s.kind, 20), kind) + "  " + left(degrees_of(s), degrees) +
           "  " + left(cell(s.layers, 14), layers) +
           right(fmt::format("{}", s.micro_batches), 5) +
           share(seconds_of(s.breakdown.compute)) +
           share(communication_seconds(s.breakdown)) +
           share(seconds_of(s.breakdown.bubble)) +
           right(human(s.memory.peak), 12) +
           right(fmt::format("{:.0f} %", full * 100), 7) +
           (group.out_of_memory ? "  OUT OF MEMORY" : "") + "\n";
  }
};

std::string stages(const RunResult& run) {
  const std::vector<StageGroup> groups = group_stages(run);
  if (groups.empty()) return "";
  StageTable table(groups);
  const bool with_cp =
      std::any_of(run.stages.begin(), run.stages.end(),
                  [](const StageSummary& s) { return s.cp > 1; });
  if (with_cp) table.degrees = std::max<std::size_t>(table.degrees, 5);
  std::string out =
      "\nStages (equal pipelines together; shares of the step; comm is what "
      "is exposed)\n" +
      table.header(with_cp);
  const std::size_t shown = std::min(groups.size(), kMostRows);
  for (std::size_t i = 0; i < shown; ++i) {
    out += table.row(groups[i], seconds_of(run.step_time));
  }
  if (groups.size() > shown) {
    const auto hidden_over = std::count_if(
        groups.begin() + static_cast<std::ptrdiff_t>(shown), groups.end(),
        [](const StageGroup& g) { return g.out_of_memory; });
    out += fmt::format(
        "  ... {}; --json has all",
        counted(static_cast<std::int64_t>(groups.size() - shown), "more row"));
    if (hidden_over > 0) {
      out += fmt::format(", {} of them OUT OF MEMORY", hidden_over);
    }
    out += "\n";
  }
  return out;
}

std::string footer(const RunResult& run) {
  std::string costs;
  for (std::size_t i = 0; i < kProvenanceKeys.size(); ++i) {
    if (run.provenance[i] <= 0) continue;
    if (!costs.empty()) costs += ", ";
    costs += percent(run.provenance[i]) + " " + std::string(kProvenanceKeys[i]);
  }
  std::string out;
  if (!costs.empty()) out += "\nCosts of the critical path: " + costs + "\n";
  if (run.events > 0) {
    out += fmt::format("{}{} events in {}\n", costs.empty() ? "\n" : "",
                       thousands(run.events), human(seconds(run.wall_time_s)));
  }
  for (const std::string& warning : run.warnings) {
    out += "warning: " + cell(warning, 400) + "\n";
  }
  return out;
}

}  // namespace

std::string to_table(const RunResult& run) {
  return title(run) + memory_verdict(run) + headline(run) +
         where_time_goes(run) + stages(run) + footer(run);
}

std::string to_table(const std::vector<StoredRun>& runs) {
  if (runs.empty()) return "no runs\n";
  std::string out =
      fmt::format("{:<6}{:<22}{:<11}{:<20}{:<18}{:>7}{:>12}{:>12}{:>9}  {}\n",
                  "run", "created", "by", "model", "cluster", "GPUs", "step",
                  "tokens/s", "MFU", "name");
  for (const StoredRun& run : runs) {
    out += left(run.id, 6) + left(cell(run.created, 20), 22) +
           left(cell(run.performance, 10), 11) + left(cell(run.model, 19), 20) +
           left(cell(run.cluster, 17), 18) +
           right(fmt::format("{}", run.gpus), 7) +
           right(human(run.step_time), 12) +
           right(short_count(run.tokens_per_s), 12) +
           right(percent(run.mfu), 9) + "  " + cell(run.name, 40) +
           (run.out_of_memory ? "  OUT OF MEMORY" : "") + "\n";
  }
  return out;
}

}  // namespace troupe::results
