#include "runs/elastic_script.h"

#include <algorithm>
#include <iterator>
#include <set>

#include "runs/elastic_chooser.h"

namespace troupe::runs {
namespace {

class Writer {
 public:
  Writer(const Trace& trace, const Machinery& machinery)
      : trace_(trace),
        machinery_(machinery),
        chooser_(trace, Policy::elastic, machinery),
        condition_(Condition::of(trace.cluster, trace.absent)) {}

  Result<Script> write() {
    TRY_DO(begin());
    for (std::size_t i = 0; i < trace_.events.size(); ++i) {
      TRY_DO(handle(static_cast<int>(i)));
    }
    return std::move(out_);
  }

 private:
  Result<void> begin() {
    TRY_DO(chooser_.set_condition(condition_));
    TRY(const auto first, chooser_.choose(trace_.start, nullptr));
    if (!first) {
      return fail(Fault::infeasible,
                  "no strategy of the trace fits the cluster at the start");
    }
    running_ = *first;
    begun_with_ = running_.candidate;
    return add(-1, "start", true);
  }

  Result<void> handle(int index) {
    const Event& event = trace_.events[static_cast<std::size_t>(index)];
    TRY_DO(apply(event, trace_.cluster, condition_));
    TRY_DO(chooser_.set_condition(condition_));
    const bool lost = event.kind == EventKind::lost;
    const bool stands = running_.candidate == nullptr;
    const bool broken =
        lost && (uses(running_, chooser_.missing()) || !event.links.empty());
    bool changes = false;
    if (stands ? event.kind == EventKind::back : broken) {
      TRY(auto next, chooser_.choose(event.strategy, begun_with_));
      running_ = next ? *next : Considered{};
      changes = true;
    } else if (!stands) {
      TRY(running_, chooser_.consider(*running_.candidate));
      if (!lost || event.strategy >= 0) {
        TRY(auto next, chooser_.better(event.strategy, begun_with_, running_));
        if (next) running_ = *next;
        changes = next.has_value();
      }
    }
    return add(index, title(event), changes);
  }

  Result<void> add(int event, std::string title, bool changes) {
    Act act{.event = event, .title = std::move(title), .changes = changes};
    if (running_.candidate != nullptr) {
      act.runs = number_of(*running_.candidate);
    } else {
      act.stopped = none_fits(chooser_);
    }
    const std::set<DeviceId> missing = chooser_.missing();
    act.missing.assign(missing.begin(), missing.end());
    act.cluster = chooser_.cluster();
    TRY(act.rates, machinery_.rates(act.cluster));
    out_.acts.push_back(std::move(act));
    return {};
  }

  int number_of(const Candidate& candidate) {
    const auto it = std::ranges::find(known_, &candidate);
    if (it != known_.end()) return static_cast<int>(it - known_.begin());
    known_.push_back(&candidate);
    out_.strategies.push_back(candidate);
    return static_cast<int>(known_.size()) - 1;
  }

  const Trace& trace_;
  const Machinery& machinery_;
  Chooser chooser_;
  Condition condition_;
  Considered running_;
  const Candidate* begun_with_ = nullptr;
  std::vector<const Candidate*> known_;
  Script out_;
};

/// Steps go by; their state moves.
class Teller {
 public:
  Teller(std::span<const Act> acts,
         const std::vector<std::unique_ptr<Keeping>>& keepings,
         const std::vector<models::Parameter>& parameters,
         const Options& options, std::int64_t steps, std::string_view advice)
      : acts_(acts),
        keepings_(keepings),
        parameters_(parameters),
        options_(options),
        steps_(steps),
        advice_(advice) {}

  Result<History> tell() {
    for (std::size_t a = 0; a < acts_.size(); ++a) {
      const Act& act = acts_[a];
      gone_.insert(act.missing.begin(), act.missing.end());
      if (a > 0) {
        std::ranges::set_difference(act.missing, acts_[a - 1].missing,
                                    std::inserter(lost_, lost_.end()));
      }
      out_.stopped = act.stopped;
      out_.stopped_by = a;
      if (act.runs < 0) continue;
      Stretch stretch{.act = a, .runs = act.runs, .steps = steps_};
      stretch.moves = act.changes && a > 0;
      if (stretch.moves) {
        TRY(const bool goes_on, move(act, stretch));
        if (!goes_on) return std::move(out_);
      }
      stretch.begins = done_;
      stretch.lost.assign(lost_.begin(), lost_.end());
      lost_.clear();
      holds_ = act.runs;
      if (act.changes) gone_ = {act.missing.begin(), act.missing.end()};
      train(stretch);
    }
    return std::move(out_);
  }

 private:
  /// From the state of before to the stretch's strategy; false when that
  /// cannot be.
  Result<bool> move(const Act& act, Stretch& stretch) {
    const Keeping& before = *keepings_[static_cast<std::size_t>(holds_)];
    const Keeping& after = *keepings_[static_cast<std::size_t>(act.runs)];
    TRY(stretch.survival, survival_of(before, gone_));
    RecoveryOptions how{
        .checkpoint = options_.checkpoint, .bucket = {}, .compare = false};
    if (!stretch.survival.complete()) {
      if (!options_.checkpoint) {
        out_.stopped =
            lost_state(stretch.survival, parameters_, advice_).message;
        return false;
      }
      how.reading =
          done_ == saved_ ? Reading::what_is_lost : Reading::everything;
      stretch.voided = done_ - saved_;
      done_ = saved_;
    }
    stretch.reading = how.reading;
    const reshard::Routes routes(act.cluster, act.rates);
    TRY(stretch.recovery, plan_recovery(before, stretch.survival, after,
                                        parameters_, routes, how));
    return true;
  }

  void train(Stretch& stretch) {
    done_ += stretch.steps;
    if (options_.checkpoint) {
      saved_ =
          std::max(saved_, done_ - done_ % options_.checkpoint->every_steps);
    }
    out_.stretches.push_back(std::move(stretch));
  }

  std::span<const Act> acts_;
  const std::vector<std::unique_ptr<Keeping>>& keepings_;
  const std::vector<models::Parameter>& parameters_;
  const Options& options_;
  std::int64_t steps_;
  std::string_view advice_;
  History out_;
  int holds_ = 0;            ///< the strategy whose state devices have
  std::set<DeviceId> gone_;  ///< since the last change
  std::set<DeviceId> lost_;  ///< since the last stretch
  std::int64_t done_ = 0, saved_ = 0;
};

}  // namespace

Result<Script> script_of(const Trace& trace, const Machinery& machinery) {
  return Writer(trace, machinery).write();
}

Result<History> history_of(
    std::span<const Act> acts,
    const std::vector<std::unique_ptr<Keeping>>& keepings,
    const std::vector<models::Parameter>& parameters, const Options& options,
    std::int64_t steps, std::string_view advice) {
  return Teller(acts, keepings, parameters, options, steps, advice).tell();
}

}  // namespace troupe::runs
