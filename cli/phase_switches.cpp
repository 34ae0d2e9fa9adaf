#include "cli/phase_switches.h"

#include "base/text.h"
#include "cli/say.h"
#include "reshard/phases.h"

namespace troupe::cli {
namespace {

Json part_json(const reshard::SwitchPlan& plan) {
  std::int64_t messages = 0;
  for (const reshard::Bucket& bucket : plan.buckets) {
    messages += bucket.messages;
  }
  return {{"bytes", plan.moved.v},
          {"messages", messages},
          {"peak_bytes", plan.peak.v},
          {"predicted_s", to_seconds(plan.predicted)}};
}

}  // namespace

Result<Json> switches_json(const strategy::Plan& plan,
                           std::span<const std::size_t> phases) {
  if (phases.size() < 2) return Json::object();
  TRY(const auto switches, reshard::phase_switches(plan, phases));
  Json list = Json::array();
  Time sum;
  for (const reshard::PhaseSwitch& one : switches) {
    sum += one.predicted();
    Json out{{"from", plan.strategy.phases[one.from].name},
             {"to", plan.strategy.phases[one.to].name},
             {"parameters", part_json(one.parameters)},
             {"predicted_s", to_seconds(one.predicted())}};
    if (one.carries_gradients) out["gradients"] = part_json(one.gradients);
    list.push_back(std::move(out));
  }
  return Json{{"switches", std::move(list)}, {"switches_s", to_seconds(sum)}};
}

void print_switches(const Json& switches) {
  if (switches.empty()) return;
  say("switches of a step that runs every phase once\n{:<34}{:>14}{:>14}"
      "{:>12}\n",
      "", "parameters", "gradients", "predicted");
  for (const Json& one : switches["switches"]) {
    const auto size = [&one](const char* part) {
      return one.contains(part)
                 ? human(Bytes{one[part]["bytes"].get<std::int64_t>()})
                 : std::string("-");
    };
    say("  {:<32}{:>14}{:>14}{:>12}\n",
        one["from"].get<std::string>() + " to " + one["to"].get<std::string>(),
        size("parameters"), size("gradients"),
        human(seconds(one["predicted_s"].get<double>())));
  }
  say("  {:<32}{:>40}\n", "together",
      human(seconds(switches["switches_s"].get<double>())));
}

}  // namespace troupe::cli
