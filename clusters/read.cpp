#include "clusters/read.h"

#include <fmt/format.h>

#include <filesystem>
#include <set>

#include "base/file.h"
#include "base/text.h"
#include "clusters/build.h"
#include "clusters/group.h"
#include "clusters/kinds.h"
#include "clusters/short_form.h"

namespace troupe::clusters {
namespace {

constexpr const char* kFormat = "troupe.cluster/1";

/// Adds the kinds that the file defines or overrides to `table`.
void read_own_kinds(JsonObject& file, KindTable& table, Cluster& cluster) {
  const Json* given = file.raw("kinds");
  if (!given) return;
  const std::string where = file.where("kinds");
  if (!given->is_object()) {
    file.findings().error(where, "expected an object of kinds by name");
    return;
  }
  const KindTable shipped = table;
  for (const auto& [name, value] : given->items()) {
    JsonObject object(value, fmt::format("{}/{}", where, excerpt(name)),
                      file.findings());
    const std::string base_name = object.text("base", name);
    const DeviceKind* base = shipped.find(base_name);
    if (!base && object.has("base")) {
      object.findings().error(object.where("base"),
                              unknown_kind(base_name, shipped));
    }
    DeviceKind kind = parse_kind(object, name, base);
    object.finish();
    refuse_sparse_peaks(kind, base ? base->name : "", shipped, object.where(),
                        file.findings(), cluster.warnings);
    std::erase_if(table.kinds,
                  [&](const DeviceKind& k) { return k.name == kind.name; });
    std::erase_if(table.aliases,
                  [&](const auto& alias) { return alias.first == kind.name; });
    table.kinds.push_back(std::move(kind));
  }
}

/// "nodes" as a list of objects, whatever it was; a short form among them
/// may say something of the network, too.
Json as_group_list(const Json& given, const std::string& where, Json& network,
                   Findings& findings) {
  const auto expand = [&](const Json& text, Json& out) {
    Json expanded = expand_short_form(text.get<std::string>(), where, findings);
    for (Json& group : expanded["nodes"]) out.push_back(std::move(group));
    if (expanded.contains("network")) network.update(expanded["network"]);
  };
  Json out = Json::array();
  if (given.is_string()) {
    expand(given, out);
  } else if (given.is_array()) {
    for (const Json& element : given) {
      if (element.is_string()) {
        expand(element, out);
      } else {
        out.push_back(element);
      }
    }
  } else {
    findings.error(where, "expected a list of groups, or a short form");
  }
  if (out.empty() && findings.ok()) findings.error(where, "holds no nodes");
  return out;
}

/// What no single group shows to be wrong.
void validate(const std::vector<GroupSpec>& groups, const std::string& where,
              Findings& findings) {
  std::int64_t nodes = 0;
  std::int64_t gpus = 0;
  std::set<std::string> addresses;
  for (const GroupSpec& group : groups) {
    nodes += group.nodes;
    gpus += group.gpus;
    for (const std::string& address : group.addresses) {
      if (addresses.insert(address).second) continue;
      findings.error(
          where, fmt::format("address '{}' is given twice", excerpt(address)));
    }
  }
  if (gpus > kMostDevices) {
    findings.error(where,
                   fmt::format("{} GPUs are more than {}", gpus, kMostDevices));
  }
  if (nodes < 2) return;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    if (groups[i].nic.present) continue;
    findings.error(fmt::format("{}/{}/nic", where, i),
                   "missing; with several nodes each needs a network card, "
                   "such as {\"gbit_per_s\": 400, \"per\": \"gpu\"} or \"400 "
                   "Gbit/s per GPU\"");
  }
}

/// The file with both kinds of short forms replaced by what they stand for.
Json expanded(const Json& json, const std::string& where, Findings& findings) {
  if (json.is_string()) {
    Json out = expand_short_form(json.get<std::string>(), where, findings);
    out["format"] = kFormat;
    out["name"] = json;
    return out;
  }
  if (!json.is_object() || !json.contains("nodes")) return json;
  Json out = json;
  Json network = Json::object();
  out["nodes"] = as_group_list(json["nodes"], fmt::format("{}: /nodes", where),
                               network, findings);
  if (json.contains("network") && json["network"].is_object()) {
    network.update(json["network"]);
  }
  if (!network.empty()) out["network"] = network;
  return out;
}

}  // namespace

Result<Cluster> parse_cluster(const Json& json, const std::string& where) {
  TRY(KindTable kinds, shipped_kinds());
  Findings findings;
  const Json whole = expanded(json, where, findings);
  if (!findings.ok()) return fail(findings.to_error());
  JsonObject file(whole, where, findings);
  if (const std::string format = file.text("format");
      format != kFormat && !format.empty()) {
    findings.error(
        file.where("format"),
        fmt::format("expected \"{}\", found \"{}\"", kFormat, excerpt(format)));
  }
  Cluster cluster;
  cluster.name =
      file.text("name", std::filesystem::path(where).stem().string());
  cluster.source = file.text("source", "");
  read_own_kinds(file, kinds, cluster);
  std::vector<GroupSpec> groups;
  for (JsonObject& object : file.objects("nodes")) {
    groups.push_back(parse_group(object, kinds));
  }
  std::optional<JsonObject> network = file.object("network", true);
  const NetworkSpec spec =
      parse_network(network ? &*network : nullptr, findings);
  file.finish();
  if (findings.ok()) validate(groups, file.where("nodes"), findings);
  if (!findings.ok()) return fail(findings.to_error());
  build(cluster, groups, spec);
  return cluster;
}

Result<Cluster> read_cluster(std::string_view path_or_text) {
  if (looks_like_short_form(path_or_text)) {
    return parse_cluster(Json(std::string(path_or_text)), "cluster");
  }
  TRY(const std::filesystem::path path, find_shipped(path_or_text, "clusters"));
  TRY(const Json json, read_json(path));
  return parse_cluster(json, path.string());
}

}  // namespace troupe::clusters
