#include "runs/elastic_trace_parts.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/text.h"
#include "clusters/short_form.h"
#include "runs/elastic_condition.h"
#include "strategy/device_set.h"
#include "strategy/load.h"
#include "strategy/ranges.h"
#include "strategy/validate.h"

namespace troupe::runs {
namespace {

namespace fs = std::filesystem;

bool looks_like_path(const std::string& text) {
  return text.find('/') != std::string::npos || text.ends_with(".json");
}

/// How one entry of "strategies" is loaded.
struct Entry {
  std::string name, phase, where;
  Json strategy;
  strategy::LoadOptions options;
  bool own_cluster = false;                 ///< the entry names one
  std::optional<std::vector<int>> devices;  ///< the trace's number of each
};

Result<strategy::Plan> load(const Entry& entry, const TraceFile& file) {
  strategy::LoadOptions options = entry.options;
  if (entry.strategy.is_object()) {
    Json whole = entry.strategy;
    if (!whole.contains("model")) whole["model"] = file.model.json;
    if (!whole.contains("cluster")) whole["cluster"] = file.cluster.json;
    if (!whole.contains("format")) whole["format"] = "troupe.strategy/1";
    return strategy::load_plan_text(
        whole.dump(-1, ' ', false, Json::error_handler_t::replace), entry.where,
        options);
  }
  if (!options.from.empty()) {
    options.model = file.model.text();
    if (!entry.own_cluster) options.cluster = file.cluster.text();
  }
  std::string text = entry.strategy.get<std::string>();
  if (looks_like_path(text)) text = refer(text, file.folder).json;
  return strategy::load_plan(text, options);
}

/// Gives the strategy the trace's device numbers.
bool renumber(strategy::Phase& phase, const strategy::Plan& plan,
              const Entry& entry, const clusters::Cluster& cluster,
              Findings& findings) {
  for (strategy::Pipeline& pipeline : phase.pipelines) {
    for (strategy::Stage& stage : pipeline.stages) {
      for (strategy::Member& member : stage.members) {
        for (DeviceId& d : member.devices) {
          const DeviceId own = d;
          if (entry.devices) {
            if (own.at() >= entry.devices->size()) {
              findings.error(
                  entry.where + "/devices",
                  fmt::format("names {} devices, but the strategy uses its "
                              "device {}",
                              entry.devices->size(), own.v));
              return false;
            }
            d = DeviceId{(*entry.devices)[own.at()]};
          }
          if (d.at() >= cluster.devices.size()) {
            findings.error(
                entry.where,
                fmt::format("device {} is not one of the {} of "
                            "cluster {}",
                            d.v, cluster.devices.size(), cluster.name));
            return false;
          }
          const auto& meant = plan.cluster.kind_of(own).name;
          const auto& there = cluster.kind_of(d).name;
          if (meant == there) continue;
          findings.error(
              entry.where,
              fmt::format("device {} is a {} in the strategy's cluster, but "
                          "the trace's device {} is a {}; number them with "
                          "\"devices\"",
                          own.v, meant, d.v, there));
          return false;
        }
      }
    }
  }
  return true;
}

bool same_model(models::Model a, models::Model b) {
  a.name = b.name = a.source = b.source = "";
  a.seq_len = b.seq_len = 0;
  return a == b;
}

std::string candidate_name(const Entry& entry, const strategy::Plan& plan,
                           const strategy::Phase& phase) {
  std::string base = entry.name.empty() ? plan.strategy.name : entry.name;
  if (plan.strategy.phases.size() == 1 || !entry.phase.empty()) return base;
  return base + "/" + phase.name;
}

void add_candidate(const Entry& entry, const strategy::Plan& plan,
                   const strategy::Phase& phase, Findings& findings,
                   Trace& trace) {
  Candidate out;
  out.name = candidate_name(entry, plan, phase);
  out.strategy = plan.strategy;
  out.strategy.phases = {phase};
  out.strategy.phases.front().rule = {};
  out.strategy.name = out.name;
  if (!renumber(out.strategy.phases.front(), plan, entry, trace.cluster,
                findings)) {
    return;
  }
  const Findings again =
      strategy::validate(out.strategy, trace.model, trace.cluster);
  for (const Finding& f : again.all()) {
    if (f.severity == Severity::error) {
      findings.error(entry.where, fmt::format("{} {}", f.where, f.message));
    }
  }
  if (!again.ok()) return;
  out.devices = strategy::used_devices(out.phase());
  if (!trace.strategies.empty() &&
      trace.strategies.front().strategy.dtype != out.strategy.dtype) {
    findings.error(
        entry.where,
        fmt::format("works in {}, but '{}' in {}; a run keeps its "
                    "states' types",
                    kernels::name_of(out.strategy.dtype),
                    trace.strategies.front().name,
                    kernels::name_of(trace.strategies.front().strategy.dtype)));
    return;
  }
  const auto same = [&](const Candidate& c) { return c.name == out.name; };
  if (std::ranges::any_of(trace.strategies, same)) {
    findings.error(entry.where, fmt::format("a second strategy is called "
                                            "'{}'; give it a \"name\"",
                                            excerpt(out.name)));
    return;
  }
  trace.strategies.push_back(std::move(out));
}

Entry entry_of(JsonObject& o, const TraceFile& file, Findings& findings) {
  Entry entry;
  entry.where = o.where();
  entry.name = o.text("name", "");
  entry.phase = o.text("phase", "");
  entry.options.from = o.text("from", "");
  entry.options.case_index = o.small("case", {-1, 1 << 20}, -1);
  if (const Json* given = o.raw("strategy");
      given != nullptr && (given->is_object() || given->is_string())) {
    entry.strategy = *given;
  } else {
    findings.error(o.where("strategy"),
                   "expected a file, a shipped name or an object");
  }
  if (const Json* given = o.raw("cluster")) {
    entry.own_cluster = true;
    entry.options.cluster = refer(*given, file.folder).text();
  }
  if (const Json* given = o.raw("devices")) {
    const auto set =
        strategy::parse_devices(*given, o.where("devices"), findings);
    entry.devices.emplace();
    for (const DeviceId d : set.devices) entry.devices->push_back(d.v);
    if (!set.chosen) {
      findings.error(o.where("devices"), "expected numbers: \"0-23,32-47\"");
    }
  }
  o.finish();
  return entry;
}

}  // namespace

std::string Reference::text() const {
  return json.is_string()
             ? json.get<std::string>()
             : json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Reference refer(const Json& json, const fs::path& base) {
  if (!json.is_string()) return {json};
  const auto text = json.get<std::string>();
  const bool path = looks_like_path(text) && text.front() != '{' &&
                    !clusters::looks_like_short_form(text) &&
                    fs::path(text).is_relative();
  return {path ? Json((base / text).lexically_normal().string()) : json};
}

void read_candidates(JsonObject& o, const TraceFile& file, Trace& trace,
                     std::vector<std::string>& event_of) {
  Findings own;
  const Entry entry = entry_of(o, file, own);
  o.findings().append(own);
  if (!own.ok()) return;
  const auto plan = load(entry, file);
  if (!plan) {
    o.findings().error(entry.where, plan.error().message);
    return;
  }
  if (!same_model(plan->model, trace.model)) {
    o.findings().error(entry.where,
                       fmt::format("the strategy is of model {}, the trace "
                                   "trains {}",
                                   plan->model.name, trace.model.name));
    return;
  }
  std::vector<std::string> names;
  for (const strategy::Phase& phase : plan->strategy.phases) {
    names.push_back(phase.name);
    if (!entry.phase.empty() && phase.name != entry.phase) continue;
    const std::size_t before = trace.strategies.size();
    add_candidate(entry, *plan, phase, o.findings(), trace);
    if (trace.strategies.size() > before) {
      event_of.push_back(phase.rule.event);
    }
  }
  if (!entry.phase.empty() &&
      std::ranges::find(names, entry.phase) == names.end()) {
    o.findings().error(o.where("phase"),
                       fmt::format("no phase '{}'; there are {}",
                                   excerpt(entry.phase), join(names)));
  }
}

std::vector<DeviceId> read_device_list(JsonObject& o, const std::string& key,
                                       const clusters::Cluster& cluster) {
  const Json* given = o.raw(key);
  if (given == nullptr) return {};
  auto set = strategy::parse_devices(*given, o.where(key), o.findings());
  if (!set.chosen) {
    o.findings().error(o.where(key), "expected numbers: \"0-23,32-47\"");
    return {};
  }
  std::ranges::sort(set.devices);
  if (std::ranges::adjacent_find(set.devices) != set.devices.end()) {
    o.findings().error(o.where(key), "names a device twice");
  }
  const auto beyond = [&](DeviceId d) {
    return d.v < 0 || d.at() >= cluster.devices.size();
  };
  const auto wrong = std::ranges::find_if(set.devices, beyond);
  if (wrong != set.devices.end()) {
    o.findings().error(
        o.where(key),
        fmt::format("device {} is not one of the {} of cluster "
                    "{}",
                    wrong->v, cluster.devices.size(), cluster.name));
    return {};
  }
  return set.devices;
}

int candidate_called(const std::string& name, const Trace& trace,
                     const std::string& where, Findings& findings) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < trace.strategies.size(); ++i) {
    if (trace.strategies[i].name == name) return static_cast<int>(i);
    names.push_back(trace.strategies[i].name);
  }
  if (findings.ok()) {
    findings.error(
        where, fmt::format("no strategy '{}'{}; there are {}", excerpt(name),
                           did_you_mean(name, names), join(names)));
  }
  return -1;
}

}  // namespace troupe::runs
