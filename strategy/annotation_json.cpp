#include "strategy/annotation_json.h"

#include <fmt/format.h>

#include <charconv>

#include "base/findings.h"

namespace troupe::strategy {
namespace {

std::vector<std::pair<int, int>> read_split(JsonObject& o) {
  std::vector<std::pair<int, int>> found;
  std::optional<JsonObject> split = o.object("split", true);
  const Json* raw = o.raw("split");
  if (!split || raw == nullptr) return found;
  for (const auto& [key, count] : raw->items()) {
    int dimension = -1;
    const auto [end, error] =
        std::from_chars(key.data(), key.data() + key.size(), dimension);
    const bool whole = error == std::errc{} && end == key.data() + key.size();
    if (!whole || dimension < 0) {
      o.findings().error(split->where(key), "expected a dimension from 0");
      continue;
    }
    const int parts = split->small(key, {1, 1 << 20});
    if (parts > 1) found.emplace_back(dimension, parts);
  }
  return found;
}

Subgroup read_group(JsonObject& o) {
  Subgroup group;
  for (const std::int64_t id : o.integers("devices", {0, 1 << 24})) {
    group.devices.push_back(DeviceId{static_cast<std::int32_t>(id)});
  }
  group.states.split = read_split(o);
  group.states.duplicate = o.small("dup", {1, 1 << 20}, 1);
  group.states.partial = o.small("partial", {1, 1 << 20}, 1);
  group.weight = o.integer("weight", {1, 1 << 30}, 1);
  for (const std::int64_t key : o.integers("order", {kPartial, 64}, true)) {
    group.states.order.push_back(static_cast<int>(key));
  }
  o.finish();
  return group;
}

void read_across(JsonObject& o, Annotation& annotation) {
  const Json* hdim = o.raw("hdim");
  if (hdim == nullptr || hdim->is_null()) {
    if (annotation.groups.size() > 1) {
      o.findings().error(o.where("hdim"),
                         fmt::format("expected how the {} groups relate: -1 "
                                     "replicated, -2 partial, or a dimension",
                                     annotation.groups.size()));
    }
    return;
  }
  const auto value = whole_number(*hdim);
  if (!value || *value < -2 || *value > 64) {
    o.findings().error(o.where("hdim"),
                       "expected null, -1, -2 or a dimension from 0");
    return;
  }
  annotation.across = *value == -1   ? Across::replicated
                      : *value == -2 ? Across::partial
                                     : Across::split;
  if (*value >= 0) annotation.dimension = static_cast<int>(*value);
}

}  // namespace

Json to_json(const Annotation& a) {
  Json groups = Json::array();
  for (const Subgroup& group : a.groups) {
    Json devices = Json::array();
    for (const auto device : group.devices) devices.push_back(device.v);
    Json split = Json::object();
    for (const auto& [d, parts] : group.states.split) {
      split[std::to_string(d)] = parts;
    }
    Json out{{"devices", std::move(devices)},
             {"split", std::move(split)},
             {"dup", group.states.duplicate},
             {"partial", group.states.partial}};
    if (group.weight != 1) out["weight"] = group.weight;
    if (!group.states.order.empty()) out["order"] = group.states.order;
    groups.push_back(std::move(out));
  }
  Json hdim = nullptr;
  if (a.groups.size() > 1) {
    hdim = a.across == Across::replicated ? -1
           : a.across == Across::partial  ? -2
                                          : a.dimension;
  }
  Json out{{"hdim", std::move(hdim)}, {"groups", std::move(groups)}};
  if (a.interleaved) out["interleaved"] = true;
  return out;
}

Result<Annotation> read_annotation(const Json& json, const std::string& where,
                                   std::size_t dimensions) {
  Findings findings;
  Annotation annotation;
  JsonObject o(json, where, findings);
  for (JsonObject& group : o.objects("groups")) {
    annotation.groups.push_back(read_group(group));
  }
  read_across(o, annotation);
  annotation.interleaved = o.boolean("interleaved", false);
  o.finish();
  if (findings.ok()) {
    const std::vector<std::int64_t> any(dimensions, 1);
    for (const std::string& problem : problems(annotation, any)) {
      findings.error(where, problem);
    }
  }
  if (!findings.ok()) return fail(findings.to_error());
  return annotation;
}

}  // namespace troupe::strategy
