// What a run does about events: detection, decision, recovery.
#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"
#include "runs/elastic_runner.h"

namespace troupe::runs {
std::string title(const Event& event) {
  const std::string what =
      fmt::format("{} {}", event.what, name_of(event.kind));
  return event.name.empty() ? what : fmt::format("{} ({})", event.name, what);
}

bool uses(const Considered& considered, const std::set<DeviceId>& devices) {
  return considered.candidate != nullptr &&
         std::ranges::any_of(considered.candidate->devices,
                             [&](DeviceId d) { return devices.contains(d); });
}

std::string none_fits(const Chooser& chooser) {
  return fmt::format("no strategy fits the {} that are left",
                     counted(std::ssize(chooser.usable()), "device"));
}

std::string_view name_of(Policy policy) {
  switch (policy) {
    case Policy::elastic:
      return "elastic";
    case Policy::restart:
      return "restart";
    case Policy::stop:
      return "stop";
    case Policy::drop:
      return "drop";
  }
  return "";
}

Result<void> Runner::handle(const Event& event) {
  TRY_DO(apply(event, trace_.cluster, condition_));
  TRY_DO(chooser_.set_condition(condition_));
  const std::set<DeviceId> missing = chooser_.missing();
  gone_.insert(missing.begin(), missing.end());
  if (dead_) return {};
  const bool in_use =
      uses(running_, missing) || (next_ && uses(*next_, missing));
  const bool broken =
      event.kind == EventKind::lost && (in_use || !event.links.empty());
  if (broken) {
    named_ = event.strategy;
    interrupt(event);
    return {};
  }
  return respond(event);
}

void Runner::interrupt(const Event& event) {
  if (activity_ == Activity::step) out_.wall[Account::cut] += spent_;
  close_segment();
  next_.reset();
  planned_.reset();
  Change change;
  change.at = now_;
  change.event = title(event);
  change.from = running_.candidate->name;
  out_.changes.push_back(std::move(change));
  start(Activity::detect, trace_.options.detection);
}

Result<void> Runner::respond(const Event& event) {
  const bool slowed = event.kind == EventKind::slowed;
  if (activity_ == Activity::stopped) {
    if (event.kind != EventKind::back) return {};
    named_ = event.strategy;
    interrupt(event);
    left_ = {};
    return {};
  }
  if (slowed && !changing()) {
    const Time before = running_.step();
    TRY(running_, chooser_.consider(*running_.candidate));
    const Time left = left_;
    const Time spent = spent_;
    const Activity activity = activity_;
    close_segment();
    open_segment();
    activity_ = activity;
    spent_ = spent;
    const bool saves = activity == Activity::save;
    left_ = saves ? left : left * (running_.step() / before);
    if (left.v > 0) left_ = std::max(left_, Time{1});
  }
  const bool answers =
      policy_ == Policy::elastic ||
      (event.kind == EventKind::back && policy_ != Policy::stop);
  if (!answers) return {};
  if (event.kind == EventKind::lost && event.strategy < 0) return {};
  named_ = event.strategy;
  planned_ = Planned{
      event.kind == EventKind::back ? now_ : now_ + trace_.options.detection,
      title(event), policy_ == Policy::restart};
  return {};
}

Result<void> Runner::finish() {
  switch (activity_) {
    case Activity::step:
      finish_steps(1, spent_);
      return {};
    case Activity::save:
      finish_save();
      return {};
    case Activity::detect:
      return decide();
    case Activity::regroup:
      start(Activity::load, recovery_.load);
      return left_.v == 0 ? finish() : Result<void>{};
    case Activity::load:
      start(Activity::move, recovery_.plan.predicted + recovery_.copying);
      return left_.v == 0 ? finish() : Result<void>{};
    case Activity::move:
      return arrive();
    case Activity::stopped:
      return {};
  }
  return {};
}

Result<void> Runner::count_losses() {
  const bool concerned = policy_ == Policy::restart || uses(running_, gone_);
  if (stale_ || !concerned || out_.changes.empty()) return {};
  TRY(const Survival left, survival_of(*running_.keeping, gone_));
  if (policy_ == Policy::restart || !left.complete()) void_steps();
  return {};
}

Result<void> Runner::decide() {
  if (policy_ == Policy::stop) {
    stop("it stops at the first loss", true);
    return {};
  }
  TRY(const auto next, chooser_.choose(named_, begun_with_));
  if (!next) {
    stop(none_fits(chooser_), false);
    return {};
  }
  TRY(const bool goes_on, prepare(*next));
  if (!goes_on) return {};
  next_ = *next;
  out_.stopped.clear();
  start(Activity::regroup, policy_ == Policy::restart ? trace_.options.restart
                                                      : trace_.options.regroup);
  return left_.v == 0 ? finish() : Result<void>{};
}

Result<void> Runner::begin_planned() {
  if (!planned_) return {};
  const Planned planned = *planned_;
  planned_.reset();
  TRY(const auto next, chooser_.better(named_, begun_with_, running_));
  if (!next) return {};
  close_segment();
  Change change;
  change.at = now_;
  change.event = planned.event;
  change.from = running_.candidate->name;
  out_.changes.push_back(std::move(change));
  start(Activity::detect, {});
  return decide();
}

Result<bool> Runner::prepare(const Considered& next) {
  TRY(Survival left, survival_of(*running_.keeping, gone_));
  RecoveryOptions options;
  options.checkpoint = trace_.options.checkpoint;
  options.bucket = trace_.options.bucket;
  options.compare = policy_ == Policy::elastic;
  if (policy_ == Policy::restart || stale_) {
    options.reading = Reading::everything;
  } else if (!left.complete()) {
    options.reading =
        step_ == checkpoint_step_ ? Reading::what_is_lost : Reading::everything;
  }
  const bool reads = options.reading != Reading::nothing;
  if (reads && !trace_.options.checkpoint) {
    stop(policy_ == Policy::restart
             ? "there is no checkpoint to start again from"
             : lost_state(left, chooser_.parameters()).message,
         true);
    void_steps();
    left.compute.clear();
    left.optimizer.clear();
    change().survival = std::move(left);
    return false;
  }
  if (options.reading == Reading::everything) {
    void_steps();
    stale_ = true;
  }
  TRY(recovery_,
      plan_recovery(*running_.keeping, left, *next.keeping,
                    chooser_.parameters(), chooser_.routes(), options));
  record(next, std::move(left), reads);
  return true;
}

void Runner::record(const Considered& next, Survival left, bool reads) {
  Change& c = change();
  c.to = next.candidate->name;
  c.from_checkpoint = reads;
  c.survival = std::move(left);
  c.survival.compute.clear();
  c.survival.optimizer.clear();
  c.moved = recovery_.plan.moved;
  c.read = recovery_.read;
  c.copied = recovery_.copied;
  c.packed = recovery_.plan.peak;
  c.peak = recovery_.peak;
  c.fullest = recovery_.fullest;
  c.out_of_memory = recovery_.out_of_memory;
  c.verified = recovery_.verified;
  c.makespan = recovery_.plan.makespan;
  c.predicted = recovery_.plan.predicted;
  c.senders = recovery_.plan.senders;
  c.by_rule = recovery_.plan.by_rule;
  for (const reshard::Bucket& b : recovery_.plan.buckets) {
    c.messages += b.messages;
  }
  if (c.out_of_memory) {
    out_.warnings.push_back(fmt::format(
        "{} to {}: old state, new state and buffers need {} on device {}, "
        "more than it has; smaller \"bucket_bytes\" may help, else old state "
        "must be freed on the way and another loss then ends the run",
        c.from, c.to, human(c.peak), c.fullest.v));
  }
}

Result<void> Runner::arrive() {
  if (!next_) return {};
  change().finished = true;
  stale_ = false;
  TRY(running_, chooser_.consider(*next_->candidate));
  next_.reset();
  gone_ = chooser_.missing();
  open_segment();
  return {};
}

Result<Outcome> run_trace(const Trace& trace, Policy policy,
                          const Machinery& machinery) {
  return Runner(trace, policy, machinery).run();
}

}  // namespace troupe::runs
