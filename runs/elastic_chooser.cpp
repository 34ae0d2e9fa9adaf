#include "runs/elastic_chooser.h"

#include <fmt/format.h>

#include <algorithm>

#include "runs/elastic_candidates.h"
#include "runs/recovery_plan.h"

namespace troupe::runs {

Chooser::Chooser(const Trace& trace, Policy policy, const Machinery& machinery)
    : trace_(trace),
      policy_(policy),
      machinery_(machinery),
      parameters_(models::parameter_list(trace.model)) {
  const bool copies = policy == Policy::elastic || policy == Policy::drop;
  peers_ = copies ? trace.options.peers : 0;
}

Result<void> Chooser::set_condition(const Condition& condition) {
  condition_ = condition;
  cluster_ = in_condition(trace_.cluster, condition);
  usable_ = runs::usable(trace_.cluster, condition);
  TRY(rates_, machinery_.rates(cluster_));
  routes_ = std::make_unique<reshard::Routes>(cluster_, rates_);
  return {};
}

bool Chooser::present(const Candidate& candidate) const {
  return std::ranges::includes(usable_, candidate.devices);
}

Result<StepPerformance> Chooser::performance_of(const Candidate& candidate) {
  for (const Known& known : known_) {
    if (known.candidate != &candidate) continue;
    // What is present matters only to who is asked.
    if (known.condition.device_slower == condition_.device_slower &&
        known.condition.link_slower == condition_.link_slower &&
        known.condition.link_lost == condition_.link_lost) {
      return known.performance;
    }
  }
  TRY(StepPerformance performance,
      machinery_.step(candidate, cluster_, condition_));
  if (performance.step.v <= 0 || performance.step == kForever ||
      performance.tokens <= 0) {
    return fail(
        Fault::input,
        fmt::format("a step of '{}' takes {} ps for {} tokens; a run "
                    "needs steps that take time",
                    candidate.name, performance.step.v, performance.tokens));
  }
  performance.step = bounded(performance.step);
  known_.push_back({&candidate, condition_, performance});
  return performance;
}

const Keeping& Chooser::keeping_of(const Candidate& candidate) {
  const auto known = keepings_.find(&candidate);
  if (known != keepings_.end()) return known->second;
  return keepings_
      .try_emplace(&candidate, candidate, parameters_, trace_.model,
                   trace_.cluster, peers_)
      .first->second;
}

Result<Considered> Chooser::look_at(const Candidate& candidate) {
  Considered out;
  out.candidate = &candidate;
  TRY(out.performance, performance_of(candidate));
  out.fits = !out.performance.out_of_memory;
  if (peers_ == 0) return out;
  out.keeping = &keeping_of(candidate);
  out.copying = bounded(copy_time(*out.keeping, *routes_));
  const auto copies = out.keeping->copies_by_device();
  for (const DeviceMemory& m : out.performance.memory) {
    if (m.peak.v + copies[m.device.at()] > m.limit.v) out.fits = false;
  }
  return out;
}

Result<Considered> Chooser::consider(const Candidate& candidate) {
  TRY(Considered out, look_at(candidate));
  out.keeping = &keeping_of(candidate);
  return out;
}

Result<std::optional<Considered>> Chooser::best_of(
    const std::vector<const Candidate*>& list, bool first) {
  std::optional<Considered> best;
  for (const Candidate* candidate : list) {
    if (!present(*candidate)) continue;
    TRY(Considered one, look_at(*candidate));
    if (!one.fits) continue;
    if (!best || one.rate() > best->rate()) best = std::move(one);
    if (first) break;
  }
  if (best) best->keeping = &keeping_of(*best->candidate);
  return best;
}

const Candidate* Chooser::keep(Candidate candidate) {
  for (const Candidate& known : made_) {
    if (known.strategy == candidate.strategy) return &known;
  }
  made_.push_back(std::move(candidate));
  return &made_.back();
}

void Chooser::add_equal_pipelines(std::vector<const Candidate*>& list) {
  const Candidate& like =
      trace_.strategies[static_cast<std::size_t>(std::max(trace_.start, 0))];
  for (Candidate& c :
       equal_pipelines(like, trace_.model, trace_.cluster, usable_)) {
    list.push_back(keep(std::move(c)));
  }
}

Result<std::optional<Considered>> Chooser::choose(int named,
                                                  const Candidate* begun_with) {
  std::vector<const Candidate*> list;
  if (policy_ == Policy::restart) {
    add_equal_pipelines(list);
    return best_of(list, false);
  }
  if (policy_ == Policy::drop && begun_with != nullptr) {
    auto rest = without_broken(*begun_with, usable_);
    if (!rest) return std::optional<Considered>{};
    list.push_back(keep(*std::move(rest)));
    return best_of(list, true);
  }
  if (named >= 0) {
    const Candidate& wanted =
        trace_.strategies[static_cast<std::size_t>(named)];
    if (present(wanted)) {
      TRY(Considered one, consider(wanted));
      return std::optional<Considered>(std::move(one));
    }
  }
  for (const Candidate& c : trace_.strategies) list.push_back(&c);
  if (trace_.options.equal_pipelines) add_equal_pipelines(list);
  return best_of(list, trace_.options.choose == Choose::first);
}

Result<std::optional<Considered>> Chooser::better(int named,
                                                  const Candidate* begun_with,
                                                  const Considered& running) {
  TRY(auto next, choose(named, begun_with));
  if (!next || next->candidate == running.candidate) return std::nullopt;
  const bool by_speed =
      policy_ == Policy::restart || (policy_ == Policy::elastic && named < 0 &&
                                     trace_.options.choose == Choose::fastest);
  if (by_speed && next->rate() <= running.rate()) return std::nullopt;
  return next;
}

std::set<DeviceId> Chooser::missing() const {
  std::set<DeviceId> out;
  for (std::size_t d = 0; d < trace_.cluster.devices.size(); ++d) {
    const auto id = make_id<DeviceId>(d);
    if (!std::ranges::binary_search(usable_, id)) out.insert(id);
  }
  return out;
}

}  // namespace troupe::runs
