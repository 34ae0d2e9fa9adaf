// troupe annotate: how a strategy lays out every parameter, in our words or
// in the JSON of HSPMD and HotSPa.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <memory>

#include "base/file.h"
#include "cli/command.h"
#include "cli/options.h"
#include "cli/say.h"
#include "strategy/annotation_json.h"
#include "strategy/ds_config.h"
#include "strategy/tensor_layouts.h"

namespace troupe::cli {
namespace {

using strategy::Use;

constexpr Use kUses[] = {Use::compute, Use::gradient, Use::optimizer};

struct AnnotateOptions {
  StrategyOptions source;
  std::string phase, output, read, format;
  bool json = false;
};

/// One line per run of layers with equal layouts.
void print_phase(const strategy::Plan& plan, const strategy::Phase& phase) {
  const strategy::Layouts layouts(plan.strategy, phase, plan.model);
  if (!phase.name.empty()) say("phase {}\n", phase.name);
  std::string last;
  int hidden = 0;
  for (const models::Parameter& p : models::parameter_list(plan.model)) {
    std::string text;
    for (const Use use : kUses) {
      text += fmt::format("  {:<10}{}\n", name_of(use),
                          strategy::to_string(layouts.of(p, use)));
    }
    if (text == last) {
      ++hidden;
      continue;
    }
    if (hidden > 0) say("  ... and {} more alike\n", hidden);
    hidden = 0;
    say("{} [{}]\n{}", p.name, fmt::join(p.shape, ", "), text);
    last = text;
  }
  if (hidden > 0) say("  ... and {} more alike\n", hidden);
}

Result<int> read_back(const AnnotateOptions& o) {
  TRY(const Json json, read_json(o.read));
  TRY(const strategy::DsConfig config, strategy::read_ds_config(json, o.read));
  if (o.json) {
    Json entries = Json::object();
    for (const auto& [path, entry] : config.entries) {
      entries[path] = strategy::to_json(entry.annotation);
    }
    say("{}\n", to_text({{"zero", config.zero}, {"entries", entries}}));
    return 0;
  }
  for (const auto& [path, entry] : config.entries) {
    say("{}\n  {}\n", path, strategy::to_string(entry.annotation));
  }
  return 0;
}

Result<int> annotate(const AnnotateOptions& o) {
  if (!o.read.empty()) return read_back(o);
  if (o.source.strategy.empty()) {
    return fail(Fault::input,
                "nothing to annotate: name a strategy, or --read a "
                "ds_parallel_config file");
  }
  TRY(const strategy::Plan plan, load(o.source));
  print_warnings(plan);
  TRY(const auto phases, choose_phases(plan.strategy, o.phase));
  std::string text;
  const bool reference =
      o.format == "hspmd" || (o.format.empty() && !o.output.empty() && !o.json);
  if (reference) {
    TRY(const Json config, strategy::to_ds_config(plan, phases.front()));
    text = to_text(config) + "\n";
  } else if (o.json || !o.output.empty()) {
    Json list = Json::array();
    for (const std::size_t i : phases) {
      list.push_back(strategy::layouts_json(plan, plan.strategy.phases[i]));
    }
    text = to_text({{"model", plan.model.name},
                    {"cluster", plan.cluster.name},
                    {"phases", std::move(list)}}) +
           "\n";
  } else {
    for (const std::size_t i : phases) {
      print_phase(plan, plan.strategy.phases[i]);
    }
    return 0;
  }
  if (o.output.empty()) {
    say("{}", text);
    return 0;
  }
  return write_file(o.output, text).map([] { return 0; });
}

}  // namespace

void add_annotate(Commands& commands) {
  auto o = std::make_shared<AnnotateOptions>();
  CLI::App* c = commands.add(
      "annotate", "how a strategy lays out every parameter on its devices");
  add_strategy_options(*c, o->source);
  c->get_option("strategy")->required(false);
  c->add_option("--phase", o->phase, "only this phase");
  c->add_option("--format", o->format,
                "hspmd, a ds_parallel_config file (what -o writes), or troupe")
      ->check(CLI::IsMember({"troupe", "hspmd"}));
  c->add_option("--read", o->read,
                "show a ds_parallel_config file instead of a strategy");
  c->add_option("-o,--output", o->output, "file (standard output)");
  c->add_flag("--json", o->json, "print one JSON object");
  commands.run(c, [o] { return annotate(*o); });
}

}  // namespace troupe::cli
