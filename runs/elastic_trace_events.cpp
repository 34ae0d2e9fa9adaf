// The events and options of a trace file.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>

#include "base/text.h"
#include "runs/elastic_condition.h"
#include "runs/elastic_trace_parts.h"
#include "strategy/ranges.h"

namespace troupe::runs {
namespace {

/// "devices 30-31", "device 31".
std::string words_of(const std::vector<DeviceId>& devices) {
  if (devices.empty()) return {};
  std::vector<int> numbers;
  for (const DeviceId d : devices) numbers.push_back(d.v);
  return fmt::format("device{} {}", devices.size() == 1 ? "" : "s",
                     strategy::format_ranges(numbers));
}

/// The texts of a list of names (or numbers, for nodes).
std::vector<std::string> texts(JsonObject& o, const char* key) {
  std::vector<std::string> out;
  const Json* given = o.raw(key);
  if (given == nullptr) return out;
  const Json list = given->is_array() ? *given : Json::array({*given});
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (list[i].is_string()) {
      out.push_back(list[i].get<std::string>());
    } else if (list[i].is_number_integer()) {
      out.push_back(list[i].dump());
    } else {
      o.findings().error(fmt::format("{}/{}", o.where(key), i),
                         "expected a name");
    }
  }
  return out;
}

void add_nodes(JsonObject& o, const clusters::Cluster& cluster,
               std::set<DeviceId>& devices, std::vector<std::string>& what) {
  for (const std::string& wanted : texts(o, "nodes")) {
    const clusters::Node* found = nullptr;
    std::vector<std::string> names;
    for (std::size_t n = 0; n < cluster.nodes.size(); ++n) {
      const auto& node = cluster.nodes[n];
      if (names.size() < 64) names.push_back(node.name);
      if (node.name == wanted || std::to_string(n) == wanted) found = &node;
    }
    if (found == nullptr) {
      o.findings().error(
          o.where("nodes"),
          fmt::format("no node '{}'{}; there are {} from {} to "
                      "{}",
                      excerpt(wanted), did_you_mean(wanted, names),
                      cluster.nodes.size(), cluster.nodes.front().name,
                      cluster.nodes.back().name));
      continue;
    }
    devices.insert(found->devices.begin(), found->devices.end());
    what.push_back(found->name);
  }
}

void add_links(JsonObject& o, const clusters::Cluster& cluster, Event& event,
               std::vector<std::string>& what) {
  std::set<LinkId> links;
  for (const std::string& wanted : texts(o, "links")) {
    bool found = false;
    for (std::size_t l = 0; l < cluster.links.size(); ++l) {
      const std::string& name = cluster.links[l].name;
      const bool below =
          name.starts_with(wanted) &&
          (name.size() == wanted.size() || name[wanted.size()] == '/');
      if (!below || wanted.empty()) continue;
      found = true;
      links.insert(make_id<LinkId>(l));
    }
    if (!found) {
      o.findings().error(
          o.where("links"),
          fmt::format("no link '{}'; links are called like {} and {}",
                      excerpt(wanted), cluster.links.front().name,
                      cluster.links.back().name));
    }
    what.push_back(excerpt(wanted));
  }
  event.links.assign(links.begin(), links.end());
}

CheckpointOptions read_checkpoint(JsonObject& o) {
  CheckpointOptions out;
  out.every_steps = o.integer("every_steps", kPositive);
  constexpr RealLimits kRate{1e-6, 1e9};
  out.write = {1e9 * o.real("write_gbytes_per_s", kRate)};
  out.read = {1e9 * o.real("read_gbytes_per_s", kRate, out.write.v / 1e9)};
  out.latency = seconds(o.real("latency_s", {0, 86400}, 0));
  o.finish();
  return out;
}

}  // namespace

Event read_event(JsonObject& o, const Trace& trace,
                 const std::vector<std::string>& event_of) {
  static constexpr std::array<std::pair<const char*, EventKind>, 3> kKinds{
      {{"lost", EventKind::lost},
       {"slowed", EventKind::slowed},
       {"back", EventKind::back}}};
  Event event;
  event.where = o.where();
  event.at = seconds(o.real("at_s", {0, kMostSeconds}));
  event.name = o.text("name", "");
  event.kind = o.choice<EventKind>("kind", kKinds);
  std::vector<std::string> what;
  const auto listed = read_device_list(o, "devices", trace.cluster);
  std::set<DeviceId> devices(listed.begin(), listed.end());
  if (!listed.empty()) what.push_back(words_of(listed));
  add_nodes(o, trace.cluster, devices, what);
  event.devices.assign(devices.begin(), devices.end());
  add_links(o, trace.cluster, event, what);
  event.what = join(what);
  if (event.kind == EventKind::slowed) {
    event.factor = o.real("factor", {1, 1e4});
  }
  if (what.empty() && o.findings().ok()) {
    o.findings().error(o.where(),
                       "names nothing; give devices, nodes or links");
  }
  const std::string strategy = o.text("strategy", "");
  if (!strategy.empty()) {
    event.strategy =
        candidate_called(strategy, trace, o.where("strategy"), o.findings());
  } else if (!event.name.empty()) {
    const auto found = std::ranges::find(event_of, event.name);
    if (found != event_of.end()) {
      event.strategy = static_cast<int>(found - event_of.begin());
    }
  }
  o.finish();
  return event;
}

Options read_options(JsonObject& o) {
  static constexpr std::array<std::pair<const char*, Choose>, 2> kChoices{
      {{"fastest", Choose::fastest}, {"first", Choose::first}}};
  Options out;
  constexpr RealLimits kDay{0, 86400};
  out.detection =
      seconds(o.real("detection_s", kDay, to_seconds(out.detection)));
  out.regroup = seconds(o.real("regroup_s", kDay, to_seconds(out.regroup)));
  out.restart = seconds(o.real("restart_s", kDay, to_seconds(out.restart)));
  out.peers = o.small("peers", {0, 8}, 0);
  out.bucket = {o.integer("bucket_bytes", {0, std::int64_t{1} << 50}, 0)};
  out.choose = o.choice<Choose>("choose", kChoices, Choose::fastest);
  out.equal_pipelines = o.boolean("equal_pipelines", false);
  if (auto checkpoint = o.object("checkpoint", true)) {
    out.checkpoint = read_checkpoint(*checkpoint);
  }
  o.finish();
  return out;
}

namespace {

/// Whether every device of a candidate can be used.
void check_candidate(int candidate, const Trace& trace,
                     const Condition& condition, const std::string& where,
                     Findings& findings) {
  if (candidate < 0) return;
  const Candidate& c = trace.strategies[static_cast<std::size_t>(candidate)];
  const auto there = usable(trace.cluster, condition);
  for (const DeviceId d : c.devices) {
    if (std::ranges::binary_search(there, d)) continue;
    findings.error(where,
                   fmt::format("strategy '{}' uses device {}, which is not "
                               "there at that time",
                               c.name, d.v));
    return;
  }
}

}  // namespace

void check_events(const Trace& trace, Findings& findings) {
  Condition condition = Condition::of(trace.cluster, trace.absent);
  check_candidate(trace.start, trace, condition, "start", findings);
  for (const Event& event : trace.events) {
    if (const auto done = apply(event, trace.cluster, condition); !done) {
      findings.error("", done.error().message);
      return;
    }
    check_candidate(event.strategy, trace, condition, event.where, findings);
  }
}

}  // namespace troupe::runs
