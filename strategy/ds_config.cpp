#include "strategy/ds_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "base/findings.h"
#include "strategy/layouts.h"

namespace troupe::strategy {
namespace {

// ---- writing

/// Tensor-parallel groups that hold a layer, as lists of device numbers.
struct Holders {
  std::vector<int> degrees;
  Json groups = Json::array();
};

Holders holders_of(const Layouts& layouts, int layer) {
  Holders holders;
  for (const auto& group : layouts.groups(layer)) {
    Json devices = Json::array();
    for (const DeviceId device : group) devices.push_back(device.v);
    holders.groups.push_back(std::move(devices));
    holders.degrees.push_back(static_cast<int>(group.size()));
  }
  return holders;
}

Json variable(const Holders& holders, const char* split_key) {
  return {{"split", {{split_key, holders.degrees}}},
          {"dup", std::vector<std::size_t>(holders.degrees.size(),
                                           holders.degrees.size())},
          {"device_group_union", holders.groups},
          {"type", "variable"}};
}

Json placeholder(const Holders& holders) {
  return {{"split",
           {{"0", std::vector<std::size_t>(holders.degrees.size(),
                                           holders.degrees.size())}}},
          {"dup", holders.degrees},
          {"device_group_union", holders.groups},
          {"type", "placeholder"}};
}

/// What the strategy recomputes in a layer, per tensor-parallel group.
std::vector<Recompute> recomputes(const Plan& plan, const Phase& phase,
                                  int layer) {
  std::vector<Recompute> modes;
  for (const Pipeline& pipeline : phase.pipelines) {
    for (const Stage& stage : pipeline.stages) {
      const bool here =
          std::ranges::any_of(stage.chunks, [&](const LayerRange& c) {
            return c.first <= layer && layer < c.last;
          });
      if (!here) continue;
      const RecomputeRule& rule =
          stage.recompute ? *stage.recompute : plan.strategy.recompute;
      const bool named =
          rule.layers.empty() ||
          std::ranges::find(rule.layers, layer) != rule.layers.end();
      modes.insert(modes.end(), stage.members.size(),
                   named ? rule.mode : Recompute::none);
    }
  }
  return modes;
}

Json block(const Plan& plan, const Phase& phase, const Layouts& layouts,
           int layer) {
  const Holders holders = holders_of(layouts, layer);
  std::vector<bool> recompute;
  for (const Recompute mode : recomputes(plan, phase, layer)) {
    recompute.push_back(mode != Recompute::none);
  }
  const std::vector<bool> never(recompute.size(), false);
  return {
      {"range", {layer}},
      {"recompute", recompute},
      {"output_recompute", never},
      {"cpu_offload", never},
      {"rmsnorm1", variable(holders, "0")},
      {"attn",
       {{"qkv", variable(holders, "1")}, {"dense", variable(holders, "0")}}},
      {"rmsnorm2", variable(holders, "0")},
      {"mlp",
       {{"dense_h_to_4h", variable(holders, "1")},
        {"dense_4h_to_h", variable(holders, "0")},
        {"activation_func", Json::object()}}}};
}

/// "full", "selective" or null, and the layers, for each group.
void add_recompute(const Plan& plan, const Phase& phase, std::size_t groups,
                   Json& out) {
  Json granularity = Json::array();
  Json layers = Json::array();
  for (std::size_t g = 0; g < groups; ++g) {
    Recompute most = Recompute::none;
    Json list = Json::array();
    for (int layer = 0; layer < plan.model.layers; ++layer) {
      const auto modes = recomputes(plan, phase, layer);
      if (g >= modes.size() || modes[g] == Recompute::none) continue;
      most = std::max(most, modes[g]);
      list.push_back(layer);
    }
    granularity.push_back(most == Recompute::none   ? Json(nullptr)
                          : most == Recompute::full ? Json("full")
                                                    : Json("selective"));
    layers.push_back(std::move(list));
  }
  out["recompute_granularity"] = std::move(granularity);
  out["recompute_layer_idxs_list"] = std::move(layers);
}

// ---- reading

/// A list of positive counts, one per subgroup.
std::vector<int> counts(JsonObject& o, const std::string& key) {
  std::vector<int> list;
  for (const std::int64_t n : o.integers(key, {1, 1 << 20})) {
    list.push_back(static_cast<int>(n));
  }
  return list;
}

/// The local layout of one subgroup out of `size`. Counts are written as if
/// all subgroups looked like this one: what subgroups share out (duplicates of
/// a variable, dimension 0 of an input) is multiplied by their number.
std::optional<States> local_states(
    const std::vector<std::pair<int, int>>& split, int duplicate, int size,
    bool placeholder) {
  States states;
  if (!placeholder) {
    if (duplicate % size != 0) return {};
    duplicate /= size;
  }
  bool shared = !placeholder || size == 1;
  states.duplicate = duplicate;
  for (auto [dimension, parts] : split) {
    if (placeholder && dimension == 0) {
      if (parts % size != 0) return {};
      parts /= size;
      shared = true;
    }
    if (parts > 1) states.split.emplace_back(dimension, parts);
  }
  if (!shared) return {};
  if (placeholder) {
    for (const auto& [d, parts] : states.split) states.order.push_back(d);
    if (duplicate > 1) states.order.push_back(kDuplicate);
  }
  return states;
}

class Reader {
 public:
  Reader(DsConfig& config, Findings& findings)
      : config_(config), findings_(findings) {}

  /// Looks for entries in everything below `value`.
  void walk(const Json& value, const std::string& path,
            const std::string& where) {
    if (!value.is_object()) return;
    if (value.contains("device_group_union")) {
      entry(value, path, where);
      return;
    }
    if (value.contains("range")) range(value, path, where);
    for (const auto& [key, child] : value.items()) {
      const std::string below = path.empty() ? key : path + "." + key;
      walk(child, below, fmt::format("{}/{}", where, key));
    }
  }

 private:
  void range(const Json& value, const std::string& path,
             const std::string& where) {
    JsonObject o(value, where, findings_);
    const auto list = o.integers("range", {0, 1 << 20});
    if (list.empty() || list.size() > 2) {
      findings_.error(o.where("range"),
                      "expected one layer, or the first and the last");
      return;
    }
    config_.blocks[path] = {static_cast<int>(list.front()),
                            static_cast<int>(list.back()) + 1};
  }

  void entry(const Json& value, const std::string& path,
             const std::string& where);
  std::vector<std::vector<DeviceId>> devices(JsonObject& o);
  std::map<int, std::vector<int>> splits(JsonObject& o);

  DsConfig& config_;
  Findings& findings_;
};

std::vector<std::vector<DeviceId>> Reader::devices(JsonObject& o) {
  std::vector<std::vector<DeviceId>> groups;
  const Json* raw = o.raw("device_group_union");
  bool good = raw != nullptr && raw->is_array() && !raw->empty();
  if (good) {
    for (const Json& list : *raw) {
      good = good && list.is_array() && !list.empty();
      if (!good) break;
      auto& group = groups.emplace_back();
      for (const Json& device : list) {
        const auto id = whole_number(device);
        good = good && id && *id >= 0 && *id < (1 << 24);
        if (good) group.push_back(DeviceId{static_cast<std::int32_t>(*id)});
      }
    }
  }
  if (good) return groups;
  findings_.error(o.where("device_group_union"),
                  "expected a list of lists of devices, each from 0");
  return {};
}

std::map<int, std::vector<int>> Reader::splits(JsonObject& o) {
  std::map<int, std::vector<int>> found;
  std::optional<JsonObject> split = o.object("split");
  const Json* raw = o.raw("split");
  if (!split || raw == nullptr || !raw->is_object()) return found;
  for (const auto& [key, list] : raw->items()) {
    int dimension = -1;
    std::from_chars(key.data(), key.data() + key.size(), dimension);
    if (dimension < 0 || dimension > 7) {
      findings_.error(split->where(key), "expected a dimension, 0 to 7");
      continue;
    }
    found[dimension] = counts(*split, key);
  }
  return found;
}

void Reader::entry(const Json& value, const std::string& path,
                   const std::string& where) {
  JsonObject o(value, where, findings_);
  DsEntry read;
  const std::string type = o.text("type", "variable");
  read.placeholder = type == "placeholder";
  if (type != "variable" && !read.placeholder) {
    findings_.error(o.where("type"), fmt::format("expected variable or "
                                                 "placeholder, found \"{}\"",
                                                 type));
  }
  const auto groups = devices(o);
  const auto split = splits(o);
  const std::vector<int> dup = counts(o, "dup");
  const auto size = static_cast<int>(groups.size());
  bool even = dup.size() == groups.size();
  for (const auto& [d, list] : split) even = even && list.size() == dup.size();
  if (!even) {
    findings_.error(where,
                    fmt::format("expected {} counts in split and dup, one per "
                                "group of device_group_union",
                                size));
    return;
  }
  Annotation& a = read.annotation;
  if (size > 1 && read.placeholder) a.across = Across::split;
  for (std::size_t u = 0; u < groups.size(); ++u) {
    std::vector<std::pair<int, int>> parts;
    for (const auto& [d, list] : split) parts.emplace_back(d, list[u]);
    const auto states = local_states(parts, dup[u], size, read.placeholder);
    if (!states) {
      findings_.error(
          o.where(read.placeholder ? "split" : "dup"),
          fmt::format("subgroup {}: expected a multiple of the {} subgroups", u,
                      size));
      return;
    }
    a.groups.push_back({groups[u], *states, 1});
  }
  const std::array<std::int64_t, 8> any{1, 1, 1, 1, 1, 1, 1, 1};
  for (const std::string& problem : problems(a, any)) {
    findings_.error(where, problem);
  }
  config_.entries[path] = std::move(read);
}

}  // namespace

Result<Json> to_ds_config(const Plan& plan, std::size_t phase_index) {
  if (phase_index >= plan.strategy.phases.size()) {
    return fail(Fault::input,
                fmt::format("phase {}: the strategy has {}", phase_index,
                            plan.strategy.phases.size()));
  }
  if (plan.model.encoder_layers > 0) {
    return fail(Fault::input,
                fmt::format("model {}: this format holds decoder-only models",
                            plan.model.name));
  }
  const Phase& phase = plan.strategy.phases[phase_index];
  const Layouts layouts(plan.strategy, phase, plan.model);
  const Holders first = holders_of(layouts, models::kEmbedding);
  const Holders last = holders_of(layouts, models::kHead);
  Json blocks = Json::object();
  for (int layer = 0; layer < plan.model.layers; ++layer) {
    blocks[fmt::format("blocks{}", layer)] = block(plan, phase, layouts, layer);
  }
  Json devices = Json::array();
  for (std::size_t d = 0; d < plan.cluster.devices.size(); ++d) {
    devices.push_back(d);
  }
  Json out{{"zero", plan.strategy.zero != Zero::none},
           {"devices", std::move(devices)},
           {"input", placeholder(first)},
           {"llama",
            {{"wte", variable(first, "0")},
             {"blocks", std::move(blocks)},
             {"rmsnorm_final", variable(last, "0")}}},
           {"lm_head", variable(last, "1")},
           {"label", placeholder(last)}};
  add_recompute(plan, phase, last.degrees.size(), out);
  return out;
}

Result<DsConfig> read_ds_config(const Json& json, const std::string& file) {
  Findings findings;
  DsConfig config;
  JsonObject top(json, file + ": ", findings);
  config.zero = top.boolean("zero", false);
  Reader(config, findings).walk(json, "", file + ": ");
  if (findings.ok() && config.entries.empty()) {
    findings.error(file, "no entry with a device_group_union");
  }
  if (!findings.ok()) return fail(findings.to_error());
  return config;
}

}  // namespace troupe::strategy
