// Reads a run back; the mirror of run.cpp.
#include <fmt/format.h>

#include <cmath>

#include "base/text.h"
#include "results/parts.h"
#include "results/run.h"

namespace troupe::results {
namespace {

constexpr Limits kWide{0, std::numeric_limits<std::int64_t>::max()};
constexpr Limits kIndex{-1, 1 << 30};
/// Times of a step: within the range of Time, about 106 days. Negative only
/// in a part that balances a sum.
constexpr RealLimits kTimes{-9.3e6, 9.3e6};
/// Of the whole step: at least a picosecond, for it is divided by.
constexpr RealLimits kStep{1e-12, kTimes.most};
constexpr RealLimits kAnyReal{-1e300, 1e300};

Time read_time(JsonObject& from, std::string_view key) {
  return seconds(from.real(key, kTimes));
}

Breakdown read_breakdown(JsonObject& parent) {
  Breakdown out;
  auto from = parent.object("breakdown_s");
  if (!from) return out;
  for (const TimePart& part : kTimeParts) {
    out.*part.member = read_time(*from, part.key);
  }
  from->finish();
  return out;
}

std::vector<int> read_ints(JsonObject& from, std::string_view key) {
  std::vector<int> out;
  for (const std::int64_t value : from.integers(key, kIndex)) {
    out.push_back(static_cast<int>(value));
  }
  return out;
}

std::vector<std::string> read_texts(JsonObject& from, std::string_view key) {
  std::vector<std::string> out;
  const Json* list = from.raw(key);
  if (!list || !list->is_array()) {
    from.findings().error(from.where(key), "expected a list of texts");
    return out;
  }
  for (const Json& text : *list) {
    if (!text.is_string()) {
      from.findings().error(from.where(key), "expected only texts in the list");
      return out;
    }
    out.push_back(text.get<std::string>());
  }
  return out;
}

StageSummary read_stage(JsonObject& from) {
  StageSummary out{.pipeline = from.small("pipeline", kIndex),
                   .stage = from.small("stage", kIndex),
                   .kind = from.text("kind"),
                   .devices = read_ints(from, "devices"),
                   .tp = from.small("tp", kNotNegative),
                   .cp = from.small("cp", kNotNegative),
                   .layers = from.text("layers"),
                   .layer_count = from.small("layer_count", kNotNegative),
                   .micro_batches = from.small("micro_batches", kNotNegative),
                   .breakdown = read_breakdown(from),
                   .memory = {},
                   .out_of_memory = from.boolean("out_of_memory")};
  from.finish();
  return out;
}

/// One entry of peak_memory_bytes, which must be about `stage`.
void read_memory(JsonObject& from, StageSummary& stage) {
  const int pipeline = from.small("pipeline", kIndex);
  const int number = from.small("stage", kIndex);
  if (pipeline != stage.pipeline || number != stage.stage) {
    from.findings().error(
        from.where(),
        fmt::format("is about pipeline {}, stage {}, where 'stages' has "
                    "pipeline {}, stage {}; keep both in the same order",
                    pipeline, number, stage.pipeline, stage.stage));
  }
  from.text("kind");
  stage.memory.peak = {from.integer("bytes", kWide)};
  stage.memory.limit = {from.integer("limit_bytes", kWide)};
  for (const MemoryPart& part : kMemoryParts) {
    stage.memory.*part.member = {from.integer(part.key, kWide)};
  }
  from.finish();
}

void read_stages(JsonObject& from, RunResult& run) {
  for (JsonObject& stage : from.objects("stages")) {
    run.stages.push_back(read_stage(stage));
  }
  std::vector<JsonObject> memory = from.objects("peak_memory_bytes");
  if (memory.size() != run.stages.size()) {
    from.findings().error(
        from.where("peak_memory_bytes"),
        fmt::format("has {} entries for {}; one each is needed", memory.size(),
                    counted(std::ssize(run.stages), "stage")));
    return;
  }
  for (std::size_t i = 0; i < memory.size(); ++i) {
    read_memory(memory[i], run.stages[i]);
  }
}

/// A bar from its row, or nothing when a cell is of the wrong type.
std::optional<Bar> read_bar(const Json& row) {
  if (!row.is_array() || row.size() != 6 || !row[2].is_string()) return {};
  for (const std::size_t i : {0u, 1u, 3u}) {
    const auto number = whole_number(row[i]);
    if (!number || *number < kIndex.least || *number > kIndex.most) return {};
  }
  for (const std::size_t i : {4u, 5u}) {
    if (!row[i].is_number()) return {};
    const double s = row[i].get<double>();
    if (!(s >= kTimes.least && s <= kTimes.most)) return {};
  }
  return Bar{.pipeline = static_cast<int>(*whole_number(row[0])),
             .stage = static_cast<int>(*whole_number(row[1])),
             .kind = row[2].get<std::string>(),
             .micro_batch = static_cast<int>(*whole_number(row[3])),
             .start = seconds(row[4].get<double>()),
             .end = seconds(row[5].get<double>())};
}

void read_bars(JsonObject& from, RunResult& run) {
  auto bars = from.object("bars");
  if (!bars) return;
  static const Json kColumns = {"pipeline",    "stage",   "kind",
                                "micro_batch", "start_s", "end_s"};
  const Json* columns = bars->raw("columns");
  const Json* rows = bars->raw("rows");
  if (!columns || *columns != kColumns) {
    from.findings().error(bars->where("columns"),
                          "expected " + kColumns.dump());
  } else if (!rows || !rows->is_array()) {
    from.findings().error(bars->where("rows"), "expected a list of rows");
  } else {
    for (std::size_t i = 0; i < rows->size(); ++i) {
      const auto bar = read_bar((*rows)[i]);
      if (!bar) {
        from.findings().error(fmt::format("{}/{}", bars->where("rows"), i),
                              "expected a row of the six columns");
        continue;
      }
      run.bars.push_back(*bar);
    }
  }
  bars->finish();
}

void read_nodes(JsonObject& from, RunResult& run) {
  from.raw("hosts");  // repeats the addresses of the nodes
  for (JsonObject& node : from.objects("nodes")) {
    run.nodes.push_back({.name = node.text("name"),
                         .kind = node.text("kind"),
                         .devices = node.small("devices", kNotNegative),
                         .used = node.small("used", kNotNegative),
                         .pipelines = read_ints(node, "pipelines"),
                         .address = node.text("address", "")});
    node.finish();
  }
}

void read_names(JsonObject& from, RunResult& run) {
  run.id = from.text("id");
  run.created = from.text("created");
  run.performance = from.text("performance");
  run.name = from.text("name");
  run.model = from.text("model");
  run.cluster = from.text("cluster");
  run.phase = from.text("phase");
  run.schedule = from.text("schedule");
  run.command = read_texts(from, "command");
  run.warnings = read_texts(from, "warnings");
  const Json* inputs = from.raw("inputs");
  if (!inputs || !inputs->is_object()) {
    from.findings().error(from.where("inputs"), "expected an object of texts");
    return;
  }
  for (const auto& [role, hash] : inputs->items()) {
    if (!hash.is_string()) {
      from.findings().error(from.where("inputs"), "expected only texts");
      return;
    }
    run.inputs[role] = hash.get<std::string>();
  }
}

void read_headline(JsonObject& from, RunResult& run) {
  run.gpus = from.small("gpus", kNotNegative);
  run.cluster_gpus = from.small("cluster_gpus", kNotNegative);
  run.step_time = seconds(from.real("step_time_s", kStep));
  run.tokens = from.integer("tokens", kWide);
  run.tokens_per_s = from.real("tokens_per_s", kAnyReal);
  for (const Custom& custom : kCustoms) {
    run.*custom.member = from.real(custom.key, kAnyReal);
  }
  run.model_flops = from.real("model_flops", kAnyReal);
  run.usd_per_step = from.real("usd_per_step", kAnyReal);
  run.events = from.integer("events", kWide);
  run.wall_time_s = from.real("wall_time_s", kAnyReal);
  run.out_of_memory = from.boolean("out_of_memory");
  from.raw("limit_bytes");  // repeats a number of peak_memory_bytes
  run.breakdown = read_breakdown(from);
  if (auto critical = from.object("critical")) {
    run.critical_pipeline = critical->small("pipeline", kIndex);
    run.critical_stage = critical->small("stage", kIndex);
    critical->finish();
  }
  if (auto shares = from.object("provenance")) {
    for (std::size_t i = 0; i < kProvenanceKeys.size(); ++i) {
      run.provenance[i] = shares->real(kProvenanceKeys[i], kAnyReal);
    }
    shares->finish();
  }
}

/// Where `seconds` saturates, less what a double of seconds rounds.
constexpr std::int64_t kEndless = 9'199'999'999'999'000'000;

/// Puts the exact picoseconds in place of what the seconds were rounded to.
void read_exact_times(JsonObject& from, RunResult& run) {
  if (!from.raw("exact_ps")) return;
  constexpr Limits kAll;
  const std::vector<std::int64_t> exact = from.integers("exact_ps", kAll);
  std::size_t next = 0;
  bool agree = true;
  for_each_time(run, [&](Time& time) {
    if (next >= exact.size()) {
      agree = false;
      return;
    }
    const Time precise{exact[next++]};
    agree = agree && (&time != &run.step_time || precise.v > 0);
    // Beyond its range `seconds` gives the longest time, or the least.
    const bool endless = (time == kForever && precise.v >= kEndless) ||
                         (time == seconds(-1e9) && precise.v <= -kEndless);
    agree =
        agree && (endless || std::abs(seconds_of(precise) - seconds_of(time)) <=
                                 1e-12 + 1e-14 * std::abs(seconds_of(time)));
    time = precise;
  });
  if (!agree || next != exact.size()) {
    from.findings().error(from.where("exact_ps"),
                          "does not agree with the times in seconds; remove "
                          "the key to go by the seconds");
  }
}

}  // namespace

Result<RunResult> run_from_json(const Json& json, const std::string& name) {
  Findings findings;
  JsonObject from(json, name, findings);
  if (!findings.ok()) return fail(findings.to_error());
  const std::string format = from.text("format", "");
  const std::int64_t version = from.integer("version", kWide, 0);
  if (format != "troupe-run") {
    return fail(Fault::input,
                fmt::format("{} is not a run (no \"format\": \"troupe-run\"); "
                            "runs are written by 'troupe simulate --json'",
                            name));
  }
  if (version != 1) {
    return fail(Fault::input,
                fmt::format("{} has version {} of the run format; this "
                            "program reads version 1",
                            name, version));
  }
  RunResult run;
  read_names(from, run);
  read_headline(from, run);
  read_stages(from, run);
  read_bars(from, run);
  read_nodes(from, run);
  if (findings.ok()) read_exact_times(from, run);
  from.raw("exact_ps");
  from.finish();
  if (!findings.ok()) return fail(findings.to_error());
  return run;
}

}  // namespace troupe::results
