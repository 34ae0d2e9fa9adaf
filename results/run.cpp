#include "results/run.h"

#include <cmath>

#include "results/parts.h"
#include "results/text.h"

namespace troupe::results {
namespace {

/// Replaces what JSON cannot hold and remembers where it was.
struct Writer {
  std::vector<std::string> warnings;

  double finite(double value, std::string_view key) {
    if (std::isfinite(value)) return value;
    warnings.push_back(std::string(key) +
                       " is not a finite number and is shown as 0");
    return 0;
  }
};

Json text_list(const std::vector<std::string>& texts) {
  Json out = Json::array();
  for (const std::string& text : texts) out.push_back(valid_utf8(text));
  return out;
}

Json breakdown_json(const Breakdown& breakdown) {
  Json out = Json::object();
  for (const TimePart& part : kTimeParts) {
    out[std::string(part.key)] = seconds_of(breakdown.*part.member);
  }
  return out;
}

Json stage_json(const StageSummary& stage) {
  return {{"pipeline", stage.pipeline},
          {"stage", stage.stage},
          {"kind", valid_utf8(stage.kind)},
          {"devices", stage.devices},
          {"tp", stage.tp},
          {"cp", stage.cp},
          {"layers", valid_utf8(stage.layers)},
          {"layer_count", stage.layer_count},
          {"micro_batches", stage.micro_batches},
          {"breakdown_s", breakdown_json(stage.breakdown)},
          {"out_of_memory", stage.out_of_memory}};
}

Json memory_json(const StageSummary& stage) {
  Json out = {{"pipeline", stage.pipeline},
              {"stage", stage.stage},
              {"kind", valid_utf8(stage.kind)},
              {"bytes", stage.memory.peak.v},
              {"limit_bytes", stage.memory.limit.v}};
  for (const MemoryPart& part : kMemoryParts) {
    out[std::string(part.key)] = (stage.memory.*part.member).v;
  }
  return out;
}

Json bars_json(const std::vector<Bar>& bars) {
  Json rows = Json::array();
  for (const Bar& bar : bars) {
    rows.push_back(Json::array({bar.pipeline, bar.stage, valid_utf8(bar.kind),
                                bar.micro_batch, seconds_of(bar.start),
                                seconds_of(bar.end)}));
  }
  return {{"columns",
           {"pipeline", "stage", "kind", "micro_batch", "start_s", "end_s"}},
          {"rows", std::move(rows)}};
}

Json node_json(const NodeSummary& node) {
  Json out = {{"name", valid_utf8(node.name)},
              {"kind", valid_utf8(node.kind)},
              {"devices", node.devices},
              {"used", node.used},
              {"pipelines", node.pipelines}};
  if (!node.address.empty()) out["address"] = valid_utf8(node.address);
  return out;
}

/// The nodes that have addresses, and which devices are theirs.
Json hosts_json(const std::vector<NodeSummary>& nodes) {
  Json out = Json::array();
  std::int64_t first = 0;
  for (const NodeSummary& node : nodes) {
    if (!node.address.empty() && node.devices > 0) {
      out.push_back({{"address", valid_utf8(node.address)},
                     {"node", valid_utf8(node.name)},
                     {"first_rank", first},
                     {"last_rank", first + node.devices - 1}});
    }
    first += node.devices;
  }
  return out;
}

/// Every time in picoseconds, when seconds as a double would round one (steps
/// beyond about half an hour); else nothing.
Json exact_times(const RunResult& run) {
  bool survive = true;
  Json all = Json::array();
  for_each_time(run, [&](Time time) {
    survive = survive && seconds(seconds_of(time)) == time;
    all.push_back(time.v);
  });
  return survive ? Json() : all;
}

void add_headline(const RunResult& run, Writer& writer, Json& out) {
  out["gpus"] = run.gpus;
  out["cluster_gpus"] = run.cluster_gpus;
  out["step_time_s"] = seconds_of(run.step_time);
  out["tokens"] = run.tokens;
  out["tokens_per_s"] = writer.finite(run.tokens_per_s, "tokens_per_s");
  for (const Custom& custom : kCustoms) {
    out[std::string(custom.key)] =
        writer.finite(run.*custom.member, custom.key);
  }
  out["model_flops"] = writer.finite(run.model_flops, "model_flops");
  out["usd_per_step"] = writer.finite(run.usd_per_step, "usd_per_step");
  out["events"] = run.events;
  out["wall_time_s"] = writer.finite(run.wall_time_s, "wall_time_s");
  Json& shares = out["provenance"] = Json::object();
  for (std::size_t i = 0; i < kProvenanceKeys.size(); ++i) {
    shares[std::string(kProvenanceKeys[i])] =
        writer.finite(run.provenance[i], kProvenanceKeys[i]);
  }
}

void add_names(const RunResult& run, Json& out) {
  out["id"] = valid_utf8(run.id);
  out["created"] = valid_utf8(run.created);
  out["performance"] = valid_utf8(run.performance);
  out["name"] = valid_utf8(run.name);
  out["model"] = valid_utf8(run.model);
  out["cluster"] = valid_utf8(run.cluster);
  out["phase"] = valid_utf8(run.phase);
  out["schedule"] = valid_utf8(run.schedule);
  out["command"] = text_list(run.command);
  Json& inputs = out["inputs"] = Json::object();
  for (const auto& [role, hash] : run.inputs) {
    inputs[valid_utf8(role)] = valid_utf8(hash);
  }
}

}  // namespace

Json to_json(const RunResult& run) {
  Writer writer;
  Json out = {{"format", "troupe-run"}, {"version", 1}};
  add_names(run, out);
  add_headline(run, writer, out);
  out["breakdown_s"] = breakdown_json(run.breakdown);
  out["critical"] = {{"pipeline", run.critical_pipeline},
                     {"stage", run.critical_stage}};
  out["out_of_memory"] = run.out_of_memory;
  const StageSummary* fullest = fullest_stage(run);
  out["limit_bytes"] = fullest ? fullest->memory.limit.v : 0;
  Json& memory = out["peak_memory_bytes"] = Json::array();
  Json& stages = out["stages"] = Json::array();
  for (const StageSummary& stage : run.stages) {
    memory.push_back(memory_json(stage));
    stages.push_back(stage_json(stage));
  }
  out["bars"] = bars_json(run.bars);
  Json& nodes = out["nodes"] = Json::array();
  for (const NodeSummary& node : run.nodes) nodes.push_back(node_json(node));
  if (Json hosts = hosts_json(run.nodes); !hosts.empty()) {
    out["hosts"] = std::move(hosts);
  }
  if (Json times = exact_times(run); !times.is_null()) {
    out["exact_ps"] = std::move(times);
  }
  out["warnings"] = text_list(run.warnings);
  for (std::string& warning : writer.warnings) {
    out["warnings"].push_back(std::move(warning));
  }
  return out;
}

std::string to_json_text(const RunResult& run) {
  const auto flat = [](const Json& value) { return value.dump(); };
  const auto list = [&](const Json& values, const std::string& indent) {
    if (values.empty()) return std::string("[]");
    std::string out = "[";
    for (const Json& value : values) {
      out += (out.size() > 1 ? ",\n" : "\n") + indent + "  " + flat(value);
    }
    return out + "\n" + indent + "]";
  };
  std::string out = "{";
  const Json json = to_json(run);
  for (const auto& [key, value] : json.items()) {
    out += (out.size() > 1 ? ",\n  " : "\n  ") + flat(key) + ": ";
    if (key == "bars") {
      out += "{\"columns\": " + flat(value["columns"]) +
             ",\n    \"rows\": " + list(value["rows"], "    ") + "}";
    } else {
      const bool rows =
          value.is_array() && key != "exact_ps" && key != "command";
      out += rows ? list(value, "  ") : flat(value);
    }
  }
  return out + "\n}\n";
}

}  // namespace troupe::results
