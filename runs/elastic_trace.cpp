#include "runs/elastic_trace.h"

#include <fmt/format.h>

#include "base/file.h"
#include "base/text.h"
#include "clusters/read.h"
#include "models/read.h"
#include "runs/elastic_trace_parts.h"
#include "strategy/overrides.h"

namespace troupe::runs {
namespace {

/// Appends every line of an error.
void add_error(Findings& findings, const std::string& where,
               const Error& error) {
  findings.error(where, error.message);
}

template <typename Value>
void take(Result<Value> read, const std::string& where, Findings& findings,
          Value& into) {
  if (!read) return add_error(findings, where, read.error());
  into = *std::move(read);
}

/// Model and cluster, by name or as objects.
void read_surroundings(JsonObject& o, const TraceFile& file, Trace& trace) {
  Findings& findings = o.findings();
  if (file.model.json.is_string()) {
    take(models::read_model(file.model.json.get<std::string>()),
         o.where("model"), findings, trace.model);
  } else {
    take(models::parse_model(file.model.json, o.where("model")), "", findings,
         trace.model);
  }
  if (file.cluster.json.is_string()) {
    take(clusters::read_cluster(file.cluster.json.get<std::string>()),
         o.where("cluster"), findings, trace.cluster);
  } else {
    take(clusters::parse_cluster(file.cluster.json, o.where("cluster")), "",
         findings, trace.cluster);
  }
}

void read_events(JsonObject& o, const std::vector<std::string>& event_of,
                 Trace& trace) {
  Time before{-1};
  for (JsonObject& one : o.objects("events", true)) {
    Event event = read_event(one, trace, event_of);
    if (event.at <= before) {
      o.findings().error(one.where("at_s"),
                         "events must come in order of time, each later than "
                         "the one before; what happens together is one event");
    }
    before = event.at;
    if (event.at >= trace.until) {
      o.findings().error(one.where("at_s"),
                         "is not before until_s, the end of the run");
    }
    trace.events.push_back(std::move(event));
  }
}

void read_body(JsonObject& o, const TraceFile& file, Trace& trace) {
  trace.name = o.text("name", trace.name);
  trace.source = o.text("source", "");
  o.raw("notes");
  trace.until = seconds(o.real("until_s", {1e-3, kMostSeconds}));
  if (auto options = o.object("options", true)) {
    trace.options = read_options(*options);
  }
  trace.absent = read_device_list(o, "absent", trace.cluster);
  std::vector<std::string> event_of;
  for (JsonObject& one : o.objects("strategies")) {
    read_candidates(one, file, trace, event_of);
  }
  if (trace.strategies.empty() && o.findings().ok()) {
    o.findings().error(o.where("strategies"), "expected at least one strategy");
  }
  const std::string start = o.text("start", "");
  if (!start.empty()) {
    trace.start =
        candidate_called(start, trace, o.where("start"), o.findings());
  }
  read_events(o, event_of, trace);
  o.finish();
}

}  // namespace

std::string_view name_of(EventKind kind) {
  switch (kind) {
    case EventKind::lost:
      return "lost";
    case EventKind::slowed:
      return "slowed";
    case EventKind::back:
      return "back";
  }
  return "";
}

Result<Trace> load_trace_text(std::string_view text, const std::string& name,
                              const Overrides& set) {
  TRY(Json json, parse_json(text, name));
  Trace trace;
  trace.name = std::filesystem::path(name).stem().string();
  Findings findings;
  for (const auto& change : set) {
    strategy::apply_override(json, change, name, findings);
  }
  JsonObject o(json, name, findings);
  if (!findings.ok()) return fail(findings.to_error());
  const std::string format = o.text("format");
  if (!findings.ok()) return fail(findings.to_error());
  if (format != kTraceFormat) {
    return fail(Fault::input,
                fmt::format("{}: expected \"{}\", found \"{}\"",
                            o.where("format"), kTraceFormat, excerpt(format)));
  }
  TraceFile file{std::filesystem::path(name).parent_path(), {}, {}};
  for (const char* key : {"model", "cluster"}) {
    const Json* given = o.raw(key);
    if (given == nullptr || !(given->is_string() || given->is_object())) {
      findings.error(o.where(key), "expected a name, a path or an object");
      continue;
    }
    (*key == 'm' ? file.model : file.cluster) = refer(*given, file.folder);
  }
  if (!findings.ok()) return fail(findings.to_error());
  read_surroundings(o, file, trace);
  if (!findings.ok()) return fail(findings.to_error());
  read_body(o, file, trace);
  if (findings.ok()) check_events(trace, findings);
  if (!findings.ok()) return fail(findings.to_error());
  return trace;
}

bool is_trace(std::string_view path_or_name) {
  const auto path = find_shipped(path_or_name, "examples/elastic");
  if (!path) return false;
  const auto text = read_file(*path);
  if (!text) return false;
  const auto json = parse_json(*text, path->string());
  if (!json || !json->is_object()) return false;
  const auto format = json->find("format");
  return format != json->end() && format->is_string() &&
         format->get_ref<const std::string&>().starts_with("troupe.trace/");
}

Result<Trace> load_trace(std::string_view path_or_name, const Overrides& set) {
  TRY(const auto path, find_shipped(path_or_name, "examples/elastic"));
  TRY(const std::string text, read_file(path));
  return load_trace_text(text, path.string(), set);
}

}  // namespace troupe::runs
