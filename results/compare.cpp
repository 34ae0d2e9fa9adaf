#include "results/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <tuple>
#include <vector>

#include "base/text.h"
#include "results/groups.h"
#include "results/parts.h"
#include "results/text.h"

namespace troupe::results {
namespace {

constexpr std::size_t kMostRows = 32;

Json pair_json(double a, double b) {
  a = std::isfinite(a) ? a : 0;
  b = std::isfinite(b) ? b : 0;
  Json out = {{"a", a}, {"b", b}, {"difference", b - a}};
  const double ratio = a != 0 ? b / a : NAN;
  out["ratio"] = std::isfinite(ratio) ? Json(ratio) : Json();
  return out;
}

Json time_pair(Time a, Time b) {
  return pair_json(seconds_of(a), seconds_of(b));
}

Json breakdown_pair(const Breakdown& a, const Breakdown& b) {
  Json out = Json::object();
  for (const TimePart& part : kTimeParts) {
    out[std::string(part.key)] = time_pair(a.*part.member, b.*part.member);
  }
  return out;
}

Json memory_pair(const StageMemory& a, const StageMemory& b) {
  const auto pair = [](Bytes x, Bytes y) {
    return pair_json(static_cast<double>(x.v), static_cast<double>(y.v));
  };
  Json out = {{"bytes", pair(a.peak, b.peak)},
              {"limit_bytes", pair(a.limit, b.limit)}};
  for (const MemoryPart& part : kMemoryParts) {
    out[std::string(part.key)] = pair(a.*part.member, b.*part.member);
  }
  return out;
}

Json who(const RunResult& run) {
  return {{"id", valid_utf8(run.id)},
          {"name", valid_utf8(run.name)},
          {"model", valid_utf8(run.model)},
          {"cluster", valid_utf8(run.cluster)},
          {"performance", valid_utf8(run.performance)},
          {"schedule", valid_utf8(run.schedule)},
          {"gpus", run.gpus},
          {"out_of_memory", run.out_of_memory}};
}

/// Why the stages cannot be compared row by row; empty when they can.
std::string stages_differ(const RunResult& a, const RunResult& b) {
  if (a.stages.size() != b.stages.size()) {
    return fmt::format("a has {}, b has {}",
                       counted(std::ssize(a.stages), "stage"),
                       counted(std::ssize(b.stages), "stage"));
  }
  for (std::size_t i = 0; i < a.stages.size(); ++i) {
    if (a.stages[i].pipeline != b.stages[i].pipeline ||
        a.stages[i].stage != b.stages[i].stage) {
      return "the pipelines have different numbers of stages";
    }
  }
  return "";
}

Json stages_json(const RunResult& a, const RunResult& b) {
  Json out = Json::array();
  for (std::size_t i = 0; i < a.stages.size(); ++i) {
    const StageSummary& x = a.stages[i];
    const StageSummary& y = b.stages[i];
    out.push_back(
        {{"pipeline", x.pipeline},
         {"stage", x.stage},
         {"kind", {{"a", valid_utf8(x.kind)}, {"b", valid_utf8(y.kind)}}},
         {"breakdown_s", breakdown_pair(x.breakdown, y.breakdown)},
         {"peak_memory_bytes", memory_pair(x.memory, y.memory)}});
  }
  return out;
}

/// Both hashes of each role that either run has.
Json inputs_json(const RunResult& a, const RunResult& b) {
  Json out = Json::object();
  std::set<std::string> roles;
  for (const RunResult* run : {&a, &b}) {
    for (const auto& [role, hash] : run->inputs) roles.insert(role);
  }
  const auto hash = [](const RunResult& run, const std::string& role) {
    const auto it = run.inputs.find(role);
    return it == run.inputs.end() ? Json() : Json(valid_utf8(it->second));
  };
  for (const std::string& role : roles) {
    const Json x = hash(a, role);
    const Json y = hash(b, role);
    out[valid_utf8(role)] = {{"a", x}, {"b", y}, {"same", x == y}};
  }
  out["schedule"] = {{"a", valid_utf8(a.schedule)},
                     {"b", valid_utf8(b.schedule)},
                     {"same", a.schedule == b.schedule}};
  return out;
}

/// "0.821", or "-" without a ratio.
std::string ratio_text(double a, double b) {
  const double ratio = a != 0 ? b / a : NAN;
  if (!std::isfinite(ratio)) return "-";
  return std::abs(ratio) < 100 ? fmt::format("{:.3f}", ratio)
                               : fmt::format("{:.3g}", ratio);
}

std::string line(std::string_view label, const std::string& a,
                 const std::string& b, const std::string& ratio) {
  return "  " + left(label, 26) + right(a, 22) + right(b, 22) +
         (ratio.empty() ? "" : right(ratio, 10)) + "\n";
}

std::string time_line(std::string_view label, Time a, Time b) {
  return line(label, human(a), human(b),
              ratio_text(seconds_of(a), seconds_of(b)));
}

std::string head(const RunResult& a, const RunResult& b) {
  const auto text = [](const std::string& t) {
    return t.empty() ? std::string("-") : cell(t, 20);
  };
  std::string out = line("", a.id.empty() ? "a" : text(a.id),
                         b.id.empty() ? "b" : text(b.id), "b / a");
  out += line("strategy", text(a.name), text(b.name), "");
  out += line("model", text(a.model), text(b.model), "");
  out += line("cluster", text(a.cluster), text(b.cluster), "");
  out += line("by", text(a.performance), text(b.performance), "");
  out += line("GPUs", thousands(a.gpus), thousands(b.gpus),
              ratio_text(a.gpus, b.gpus));
  out += "\n" + time_line("step", a.step_time, b.step_time);
  out +=
      line("tokens/s", short_count(a.tokens_per_s), short_count(b.tokens_per_s),
           ratio_text(a.tokens_per_s, b.tokens_per_s));
  for (const Custom& custom : kCustoms) {
    const double x = a.*custom.member;
    const double y = b.*custom.member;
    out += line(custom.label, percent(x), percent(y), ratio_text(x, y));
  }
  return out;
}

std::string memory_lines(const RunResult& a, const RunResult& b) {
  const StageSummary none;
  const StageSummary* x = fullest_stage(a);
  const StageSummary* y = fullest_stage(b);
  if (!x && !y) return "";
  const StageMemory& m = x ? x->memory : none.memory;
  const StageMemory& n = y ? y->memory : none.memory;
  const auto bytes = [](std::string_view label, Bytes p, Bytes q) {
    return line(label, human(p), human(q),
                ratio_text(static_cast<double>(p.v), static_cast<double>(q.v)));
  };
  std::string out = "\nMemory of the fullest stage\n";
  out += bytes("peak", m.peak, n.peak) + bytes("limit", m.limit, n.limit);
  for (const MemoryPart& part : kMemoryParts) {
    out += bytes(part.label, m.*part.member, n.*part.member);
  }
  if (a.out_of_memory || b.out_of_memory) {
    out += line("fits", a.out_of_memory ? "OUT OF MEMORY" : "yes",
                b.out_of_memory ? "OUT OF MEMORY" : "yes", "");
  }
  return out;
}

/// Stages of the same number that take the same times in both runs.
struct StageWork {
  std::vector<int> pipelines;
  int stage = 0;
  double a = 0, b = 0;
};

std::string stage_lines(const RunResult& a, const RunResult& b) {
  if (const std::string why = stages_differ(a, b); !why.empty()) {
    return "\nStages are not compared: " + why + "\n";
  }
  // Stages with the same two times share a line.
  std::vector<StageWork> rows;
  std::map<std::tuple<int, std::string, std::string>, std::size_t> known;
  for (std::size_t i = 0; i < a.stages.size(); ++i) {
    const double x = busy_seconds(a.stages[i].breakdown);
    const double y = busy_seconds(b.stages[i].breakdown);
    const auto [at, is_new] = known.emplace(
        std::tuple{a.stages[i].stage, human(seconds(x)), human(seconds(y))},
        rows.size());
    if (is_new) rows.push_back({{}, a.stages[i].stage, x, y});
    rows[at->second].pipelines.push_back(a.stages[i].pipeline);
  }
  std::string out = "\nWork of each stage (without waiting for others)\n";
  const std::size_t shown = std::min(rows.size(), kMostRows);
  for (std::size_t i = 0; i < shown; ++i) {
    const StageWork& row = rows[i];
    out += line(fmt::format("stage {}, {}", row.stage,
                            pipelines_text(row.pipelines, 1)),
                human(seconds(row.a)), human(seconds(row.b)),
                ratio_text(row.a, row.b));
  }
  if (rows.size() > shown) {
    out += fmt::format(
        "  ... {}; --json has all\n",
        counted(static_cast<std::int64_t>(rows.size() - shown), "more row"));
  }
  return out;
}

std::string input_lines(const RunResult& a, const RunResult& b) {
  std::string same;
  std::string out;
  const Json inputs = inputs_json(a, b);
  for (const auto& [role, pair] : inputs.items()) {
    if (pair["same"].get<bool>()) {
      same += (same.empty() ? "" : ", ") + cell(role, 20);
      continue;
    }
    const auto hash = [&](const char* run) {
      return pair[run].is_string()
                 ? cell(pair[run].get<std::string>().substr(0, 12), 20)
                 : std::string("-");
    };
    out += line(cell(role, 20), hash("a"), hash("b"), "differs");
  }
  return "\nInputs\n" + out +
         (same.empty() ? "" : "  the same: " + same + "\n");
}

}  // namespace

Json compare(const RunResult& a, const RunResult& b) {
  Json out = {{"a", who(a)}, {"b", who(b)}};
  out["step_time_s"] = time_pair(a.step_time, b.step_time);
  out["tokens_per_s"] = pair_json(a.tokens_per_s, b.tokens_per_s);
  for (const Custom& custom : kCustoms) {
    out[std::string(custom.key)] =
        pair_json(a.*custom.member, b.*custom.member);
  }
  out["breakdown_s"] = breakdown_pair(a.breakdown, b.breakdown);
  const StageSummary none;
  const StageSummary* x = fullest_stage(a);
  const StageSummary* y = fullest_stage(b);
  out["peak_memory_bytes"] =
      memory_pair((x ? *x : none).memory, (y ? *y : none).memory);
  const std::string why = stages_differ(a, b);
  out["stages"] = why.empty() ? stages_json(a, b) : Json();
  if (!why.empty()) out["stages_differ"] = why;
  out["inputs"] = inputs_json(a, b);
  return out;
}

std::string compare_table(const RunResult& a, const RunResult& b) {
  std::string out = head(a, b) + "\nWhere the step goes\n";
  for (const TimePart& part : kTimeParts) {
    const Time x = a.breakdown.*part.member;
    const Time y = b.breakdown.*part.member;
    if (x == Time{} && y == Time{}) continue;
    out += time_line(part.label, x, y);
  }
  return out + memory_lines(a, b) + stage_lines(a, b) + input_lines(a, b);
}

}  // namespace troupe::results
