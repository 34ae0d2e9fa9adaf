#include "cli/emulated_trace.h"

#include <fmt/format.h>

#include <array>

#include "base/text.h"
#include "cli/elastic_machinery.h"
#include "strategy/device_set.h"

namespace troupe::cli {
namespace {

/// Of the optimizer's state, by what becomes of it.
struct Shares {
  double gone = 0, replica = 0, peer = 0, lost = 0;
};

Shares shares_of(const runs::Survival& survival) {
  runs::Fate fate;
  std::int64_t total = 0;
  for (std::size_t k = 1; k < runs::kStateKinds; ++k) {
    fate += survival.bytes[k];
    total += survival.total_bytes[k];
  }
  const auto share = [&](std::int64_t bytes) {
    return static_cast<double>(bytes) /
           static_cast<double>(std::max<std::int64_t>(total, 1));
  };
  return {share(fate.touched()), share(fate.replica), share(fate.peer),
          share(fate.lost)};
}

std::string_view origin(const runs::Stretch& stretch) {
  if (!stretch.moves) return stretch.act == 0 ? "start" : "unchanged";
  switch (stretch.reading) {
    case runs::Reading::nothing:
      return "survivors";
    case runs::Reading::what_is_lost:
      return "survivors and checkpoint";
    case runs::Reading::everything:
      return "checkpoint";
  }
  return "";
}

const strategy::Plan& plan_of(const Course& course, int runs) {
  return *course.strategies[static_cast<std::size_t>(runs)].plan;
}

Json event_json(const runs::Act& act, const runs::Stretch* stretch) {
  Json out{{"event", act.title}};
  if (stretch == nullptr) return out;
  Json lost = Json::array();
  for (const clusters::DeviceId d : stretch->lost) lost.push_back(d.v);
  const Shares shares = shares_of(stretch->survival);
  out["lost_devices"] = std::move(lost);
  out["state_from"] = origin(*stretch);
  out["voided_steps"] = stretch->voided;
  out["optimizer_state"] = {{"on_gone_devices", shares.gone},
                            {"from_replica", shares.replica},
                            {"from_peer", shares.peer},
                            {"lost", shares.lost}};
  return out;
}

const runs::Stretch* stretch_of(const runs::History& history, std::size_t act) {
  const auto it =
      std::ranges::find(history.stretches, act, &runs::Stretch::act);
  return it == history.stretches.end() ? nullptr : &*it;
}

}  // namespace

Result<TraceCourse> load_course(const StrategyOptions& source,
                                const std::string& profiles) {
  TRY(const strategy::LoadOptions fields, load_options(source));
  TraceCourse out;
  TRY(out.trace, runs::load_trace(source.strategy, fields.set));
  TRY(const auto costs, load_costs(profiles, out.trace.cluster));
  TRY(runs::Script script,
      runs::script_of(out.trace, simulator(out.trace, *costs)));
  for (runs::Candidate& candidate : script.strategies) {
    strategy::Plan plan;
    plan.strategy = std::move(candidate.strategy);
    plan.strategy.name = candidate.name;
    plan.model = out.trace.model;
    plan.cluster = out.trace.cluster;
    out.plans.push_back(std::make_unique<strategy::Plan>(std::move(plan)));
    out.course.strategies.push_back({out.plans.back().get(), {0}});
  }
  out.course.acts = std::move(script.acts);
  out.course.options = out.trace.options;
  out.course.is_trace = true;
  return out;
}

void add_history(const Course& course, const runs::History& history,
                 Json& out) {
  out["stretches"] = Json::array();
  for (const runs::Stretch& s : history.stretches) {
    const strategy::Plan& plan = plan_of(course, s.runs);
    out["stretches"].push_back(
        {{"strategy", plan.strategy.name},
         {"ranks", strategy::used_devices(plan.strategy.phases[0]).size()},
         {"after", course.acts[s.act].title},
         {"first_step", s.begins + 1},
         {"steps", s.steps}});
  }
  out["events"] = Json::array();
  for (std::size_t a = 1; a < course.acts.size(); ++a) {
    out["events"].push_back(event_json(course.acts[a], stretch_of(history, a)));
    if (!history.stopped.empty() && a == history.stopped_by) break;
  }
  out["stopped"] = history.stopped;
}

std::string history_text(const Course& course, const runs::History& history) {
  std::string out;
  for (const runs::Stretch& s : history.stretches) {
    const strategy::Plan& plan = plan_of(course, s.runs);
    out += fmt::format(
        "{}: {} on {}, steps {} to {}", course.acts[s.act].title,
        plan.strategy.name,
        counted(std::ssize(strategy::used_devices(plan.strategy.phases[0])),
                "rank"),
        s.begins + 1, s.begins + s.steps);
    if (s.act > 0) out += fmt::format("; state: {}", origin(s));
    if (s.voided > 0) {
      out += fmt::format(", {} undone", counted(s.voided, "step"));
    }
    if (const Shares shares = shares_of(s.survival); shares.gone > 0) {
      out += fmt::format(
          " ({:.1f} % was on what is gone: {:.1f} % has a replica, {:.1f} % a "
          "copy on a peer)",
          100 * shares.gone, 100 * shares.replica, 100 * shares.peer);
    }
    out += "\n";
  }
  return out;
}

}  // namespace troupe::cli
