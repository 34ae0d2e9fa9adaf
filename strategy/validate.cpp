#include "strategy/validate.h"

#include <algorithm>
#include <unordered_map>

#include "base/text.h"
#include "strategy/draft.h"
#include "strategy/ranges.h"
#include "strategy/validate_parts.h"

namespace troupe::strategy {
namespace {

/// Beyond this many tokens a step's FLOPs and bytes could overflow.
constexpr std::int64_t kMostTokens = std::int64_t{1} << 45;

bool overlaps(const PhaseRule& a, const PhaseRule& b) {
  if (a.kind != b.kind) return false;
  switch (a.kind) {
    case PhaseRule::Kind::always:
      return false;  // alternatives; a planner or dispatcher chooses
    case PhaseRule::Kind::event:
      return a.event == b.event;
    case PhaseRule::Kind::seq_len:
    case PhaseRule::Kind::steps:
      return a.from < b.to && b.from < a.to;
  }
  return false;
}

void check_rule(Checker& checker, const PhaseRule& rule,
                const std::string& part) {
  const bool range = rule.kind == PhaseRule::Kind::seq_len ||
                     rule.kind == PhaseRule::Kind::steps;
  if (range && (rule.from < 0 || rule.from >= rule.to)) {
    checker.error(part,
                  fmt::format("range from {} to {} is empty; the first number "
                              "must be the smaller, and not negative",
                              rule.from, rule.to));
  }
  if (rule.kind == PhaseRule::Kind::event && rule.event.empty()) {
    checker.error(part, "the event has no name");
  }
}

/// Lengths or steps between two phases that no phase takes.
void warn_gaps(Checker& checker, PhaseRule::Kind kind, std::string_view what) {
  std::vector<std::pair<PhaseRule, std::size_t>> rules;
  for (std::size_t i = 0; i < checker.strategy.phases.size(); ++i) {
    const PhaseRule& rule = checker.strategy.phases[i].rule;
    if (rule.kind == PhaseRule::Kind::always) return;
    if (rule.kind == kind) rules.push_back({rule, i});
  }
  std::sort(rules.begin(), rules.end(), [](const auto& a, const auto& b) {
    return a.first.from < b.first.from;
  });
  std::int64_t covered = 0;
  for (const auto& [rule, index] : rules) {
    if (rule.from > covered) {
      checker.warning(fmt::format("/phases/{}/rule", index),
                      fmt::format("no phase takes {} from {} to {}", what,
                                  covered, rule.from));
    }
    covered = std::max(covered, rule.to);
  }
}

void check_rules(Checker& checker) {
  const auto& phases = checker.strategy.phases;
  for (std::size_t i = 0; i < phases.size(); ++i) {
    const std::string part = fmt::format("/phases/{}/rule", i);
    check_rule(checker, phases[i].rule, part);
    for (std::size_t j = 0; j < i; ++j) {
      if (!overlaps(phases[i].rule, phases[j].rule)) continue;
      checker.error(part,
                    fmt::format("applies at the same time as phase {}; make "
                                "their rules disjoint",
                                j));
      break;
    }
  }
  warn_gaps(checker, PhaseRule::Kind::seq_len, "sequence lengths");
  warn_gaps(checker, PhaseRule::Kind::steps, "steps");
}

/// Each device at most once in a phase, and none left over unnoticed.
void check_device_use(Checker& checker, const Phase& phase,
                      const std::string& phase_part) {
  std::unordered_map<std::int32_t, std::string> first_use;
  for (std::size_t p = 0; p < phase.pipelines.size(); ++p) {
    const auto& stages = phase.pipelines[p].stages;
    for (std::size_t s = 0; s < stages.size(); ++s) {
      const std::string stage =
          fmt::format("{}/pipelines/{}/stages/{}", phase_part, p, s);
      if (checker.places.unread(stage)) continue;
      int index = 0;
      for (const Member& member : stages[s].members) {
        for (const DeviceId device : member.devices) {
          const std::string part = fmt::format("{}/devices/{}", stage, index++);
          const auto [it, fresh] = first_use.emplace(device.v, part);
          if (fresh) continue;
          checker.error_once(
              part, fmt::format("device {} is used already (at {}); a device "
                                "serves one rank of a phase",
                                device.v,
                                own_path(checker.places,
                                         checker.places.where(it->second))));
        }
      }
    }
  }
  std::vector<int> idle;
  for (std::size_t d = 0; d < checker.cluster.devices.size(); ++d) {
    const auto device = static_cast<std::int32_t>(d);
    if (!first_use.contains(device)) idle.push_back(device);
  }
  if (idle.empty() || checker.places.unread(phase_part)) return;
  checker.warning(
      phase_part,
      fmt::format("{} of {} idle: {}", idle.size(),
                  counted(std::ssize(checker.cluster.devices), "device"),
                  format_ranges(idle)));
}

void check_phase(Checker& checker, const Phase& phase,
                 const std::string& part) {
  if (checker.places.unread(part)) return;
  if (phase.pipelines.empty()) {
    checker.error(part + "/pipelines", "no pipelines; give at least one");
    return;
  }
  for (std::size_t p = 0; p < phase.pipelines.size(); ++p) {
    check_pipeline(checker, phase.pipelines[p],
                   fmt::format("{}/pipelines/{}", part, p));
  }
  check_device_use(checker, phase, part);
  const std::int64_t tokens = tokens_per_step(checker.strategy, phase);
  if (tokens > kMostTokens) {
    checker.error(part,
                  fmt::format("a step trains on {} tokens; at most {} are "
                              "supported: use fewer or shorter micro-batches",
                              tokens, kMostTokens));
  }
}

void check_options(Checker& checker) {
  const Strategy& s = checker.strategy;
  if (s.schedule == ScheduleKind::custom && s.order_file.empty()) {
    checker.error("/order_file",
                  "schedule \"custom\" needs the file that holds the order");
  }
  if (s.schedule != ScheduleKind::custom && !s.order_file.empty()) {
    checker.error("/order_file",
                  "only schedule \"custom\" reads an order; set it, or remove "
                  "order_file");
  }
  if (s.seq_len < 0) checker.error("/seq_len", "must not be negative");
  check_recompute(checker, s.recompute, "/recompute");
}

}  // namespace

void Checker::error_once(const std::string& part, std::string message) {
  const std::string where = places.where(part);
  if (reported_[where + '\n' + message]++ > 0) return;
  findings_.error(where, std::move(message));
}

void Checker::tally(std::string_view what, const std::string& part,
                    std::string message) {
  auto [it, fresh] = tallies_.try_emplace(std::string(what));
  if (fresh) it->second = {places.where(part), std::move(message), 0};
  ++it->second.count;
}

Findings Checker::take() {
  for (auto& [what, tally] : tallies_) {
    std::string message = std::move(tally.message);
    if (tally.count > 1) {
      message += fmt::format(" (and {} more like it)", tally.count - 1);
    }
    findings_.warning(std::move(tally.where), std::move(message));
  }
  tallies_.clear();
  return std::move(findings_);
}

Findings validate(const Strategy& strategy, const models::Model& model,
                  const clusters::Cluster& cluster, const Places& places) {
  Checker checker(strategy, model, cluster, places);
  check_options(checker);
  if (strategy.phases.empty() && !places.unread("/phases")) {
    checker.error("/phases", "no phases; give at least one");
  }
  check_rules(checker);
  for (std::size_t i = 0; i < strategy.phases.size(); ++i) {
    check_phase(checker, strategy.phases[i], fmt::format("/phases/{}", i));
  }
  return checker.take();
}

}  // namespace troupe::strategy
