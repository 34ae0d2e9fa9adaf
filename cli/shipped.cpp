// troupe models, troupe clusters, troupe strategies: what ships, and one of
// them in full.
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "base/file.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/say.h"
#include "clusters/read.h"
#include "models/read.h"

namespace troupe::cli {
namespace {

struct ShippedOptions {
  std::string name;
  bool json = false;
};

std::vector<std::string> shipped(const char* folder) {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry :
       std::filesystem::directory_iterator(data_root() / folder, ignored)) {
    if (entry.path().extension() == ".json") {
      names.push_back(entry.path().stem().string());
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

Result<int> models(const ShippedOptions& o) {
  const auto names = o.name.empty() ? shipped("models") : std::vector{o.name};
  Json list = Json::array();
  for (const std::string& name : names) {
    TRY(const models::Model m, models::read_model(name));
    const auto count = models::parameters(m);
    Json one = models::to_json(m);
    one["parameters"] = count;
    list.push_back(one);
    if (!o.json) {
      say("{:<16} {:>16} parameters, {}, hidden {}, {} ({} kv), ffn {}, "
          "vocab {}\n",
          m.name, count, counted(m.layers, "layer"), m.hidden,
          counted(m.heads, "head"), m.kv_heads, m.ffn, m.vocab);
    }
  }
  if (o.json) say("{}\n", to_text({{"models", list}}));
  return 0;
}

Result<int> clusters(const ShippedOptions& o) {
  const auto names = o.name.empty() ? shipped("clusters") : std::vector{o.name};
  Json list = Json::array();
  for (const std::string& name : names) {
    TRY(const clusters::Cluster c, clusters::read_cluster(name));
    std::map<std::string, int> kinds;
    for (const auto& d : c.devices) ++kinds[c.kinds[d.kind.at()].name];
    std::vector<std::string> parts;
    for (const auto& [kind, count] : kinds) {
      parts.push_back(fmt::format("{} {}", count, kind));
    }
    list.push_back({{"name", c.name},
                    {"gpus", c.devices.size()},
                    {"nodes", c.nodes.size()},
                    {"kinds", kinds},
                    {"source", c.source}});
    if (!o.json) {
      say("{:<24} {:>11} in {:>11}: {}\n", c.name,
          counted(std::ssize(c.devices), "GPU"),
          counted(std::ssize(c.nodes), "node"), join(parts));
    }
  }
  if (o.json) say("{}\n", to_text({{"clusters", list}}));
  return 0;
}

Result<int> strategies(const ShippedOptions& o) {
  Json list = Json::array();
  for (const std::string& name : shipped("examples")) {
    TRY(const Json json,
        read_json(data_root() / "examples" / (name + ".json")));
    const auto text = [&](const char* key) {
      return json.contains(key) && json[key].is_string()
                 ? json[key].get<std::string>()
                 : std::string("-");
    };
    list.push_back({{"name", name},
                    {"model", text("model")},
                    {"cluster", text("cluster")},
                    {"source", text("source")}});
    if (!o.json) {
      say("{:<28} {:<14} on {}\n", name, text("model"), text("cluster"));
    }
  }
  if (o.json) say("{}\n", to_text({{"strategies", list}}));
  return 0;
}

}  // namespace

void add_shipped(Commands& commands) {
  const auto add = [&](const char* name, const char* help, auto action,
                       bool named) {
    auto o = std::make_shared<ShippedOptions>();
    CLI::App* command = commands.add(name, help);
    command->add_flag("--json", o->json, "print one JSON object");
    if (named) command->add_option("name", o->name, "only this one, or a file");
    commands.run(command, [o, action] { return action(*o); });
  };
  add("models", "shipped models and their sizes", models, true);
  add("clusters", "shipped clusters and their devices", clusters, true);
  add("strategies", "shipped strategies", strategies, false);
}

}  // namespace troupe::cli
