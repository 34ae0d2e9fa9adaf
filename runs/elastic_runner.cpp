#include "runs/elastic_runner.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/progress.h"
#include "base/text.h"
#include "base/units.h"

namespace troupe::runs {
namespace {

/// Between them the clock jumps, so that they are what a long run costs.
constexpr std::int64_t kMostSaves = 10'000'000;

/// Dense peak of the devices that can be used, FLOP/s.
double peak_of(const clusters::Cluster& cluster,
               const std::vector<DeviceId>& devices, kernels::DType dtype) {
  double sum = 0;
  for (const DeviceId d : devices) {
    const auto& peaks = cluster.kind_of(d).peak;
    const auto peak = peaks.find(dtype);
    if (peak != peaks.end()) sum += peak->second.v;
  }
  return sum;
}

}  // namespace

Runner::Runner(const Trace& trace, Policy policy, const Machinery& machinery)
    : trace_(trace),
      policy_(policy),
      chooser_(trace, policy, machinery),
      condition_(Condition::of(trace.cluster, trace.absent)) {
  out_.policy = policy;
}

Result<Outcome> Runner::run() {
  TRY_DO(begin());
  const kernels::DType dtype = trace_.strategies.front().strategy.dtype;
  for (std::size_t i = 0; i <= trace_.events.size(); ++i) {
    const bool last = i == trace_.events.size();
    const Time until = last ? trace_.until : trace_.events[i].at;
    peak_seconds_ += peak_of(trace_.cluster, chooser_.usable(), dtype) *
                     to_seconds(until - now_);
    TRY_DO(advance(until));
    if (!last) TRY_DO(handle(trace_.events[i]));
  }
  return take();
}

Result<void> Runner::begin() {
  TRY_DO(chooser_.set_condition(condition_));
  TRY(const auto first, chooser_.choose(trace_.start, nullptr));
  if (!first) {
    if (policy_ == Policy::elastic) {
      return fail(Fault::infeasible,
                  "no strategy of the trace fits the cluster at the start");
    }
    stop("no strategy fits the cluster at the start", true);
    return {};
  }
  running_ = *first;
  begun_with_ = running_.candidate;
  if (trace_.options.checkpoint) {
    // Each element of the optimizer's tensors once.
    const Keeping& k = *running_.keeping;
    Bytes state;
    for (std::size_t p = 0; p < k.parameters(); ++p) {
      state.v += k.of(p).elements() * 12;
    }
    out_.save = trace_.options.checkpoint->latency +
                bounded(state / trace_.options.checkpoint->write);
  }
  open_segment();
  return {};
}

void Runner::start(Activity activity, Time length) {
  activity_ = activity;
  left_ = bounded(length);
  spent_ = {};
}

void Runner::open_segment() {
  Segment s;
  s.strategy = running_.candidate->name;
  s.gpus = static_cast<int>(running_.candidate->devices.size());
  s.from = now_;
  s.step = running_.performance.step;
  s.copying = running_.copying;
  s.mfu = running_.performance.mfu;
  s.tokens = running_.performance.tokens;
  s.flops = running_.performance.model_flops;
  s.out_of_memory = !running_.fits;
  out_.segments.push_back(std::move(s));
  segment_open_ = true;
  if (chooser_.peers() > 0) {
    for (const std::int64_t b : running_.keeping->copies_by_device()) {
      out_.copies.v = std::max(out_.copies.v, b);
    }
  }
  activity_ = Activity::step;
  left_ = spent_ = {};
}

void Runner::close_segment() {
  if (segment_open_) out_.segments.back().to = now_;
  segment_open_ = false;
}

void Runner::spend(Time time) {
  now_ += time;
  left_ -= time;
  spent_ += time;
  const auto account = [&](Account a) {
    out_.wall[a] += time;
    if (changing()) change().wall[a] += time;
  };
  switch (activity_) {
    case Activity::step:
      return;  // accounted when it is known what it was for
    case Activity::save:
      return account(Account::saving);
    case Activity::detect:
      return account(Account::detecting);
    case Activity::regroup:
      return account(Account::restarting);
    case Activity::load:
      return account(Account::loading);
    case Activity::move:
      return account(Account::moving);
    case Activity::stopped:
      return account(Account::stopped);
  }
}

Result<void> Runner::advance(Time until) {
  while (now_ < until) {
    if (activity_ == Activity::stopped) {
      left_ = until - now_;
      spend(left_);
      return {};
    }
    if (activity_ == Activity::step && left_.v == 0) {
      if (interrupted()) return fail(Fault::interrupted, "interrupted");
      TRY_DO(begin_step(until));
      continue;
    }
    spend(std::min(left_, until - now_));
    if (left_.v == 0) TRY_DO(finish());
  }
  return {};
}

Result<void> Runner::begin_step(Time until) {
  if (planned_ && !planned_->after_save && now_ >= planned_->due) {
    return begin_planned();
  }
  if (out_.saves >= kMostSaves) {
    return fail(Fault::input,
                fmt::format("more than {} checkpoints in {}; give a larger "
                            "\"every_steps\"",
                            kMostSaves, human(now_)));
  }
  const Time one = running_.step();
  std::int64_t steps = (until - now_).v / one.v;
  if (trace_.options.checkpoint) {
    const std::int64_t every = trace_.options.checkpoint->every_steps;
    steps = std::min(steps, every - step_ % every);
  }
  if (planned_ && !planned_->after_save) {
    const std::int64_t wait = (planned_->due - now_).v;
    steps = std::min(steps, ceil_div(wait, one.v));
  }
  if (steps == 0) {
    start(Activity::step, one);
    return {};
  }
  now_.v += one.v * steps;
  finish_steps(steps, Time{one.v * steps});
  return {};
}

void Runner::finish_steps(std::int64_t steps, Time spent) {
  const Time copying = std::min(running_.copying * steps, spent);
  const Time useful = spent - copying;
  out_.wall[Account::redundancy] += copying;
  out_.wall[Account::useful] += useful;
  step_ += steps;
  Segment& segment = out_.segments.back();
  segment.steps += steps;
  const std::size_t at = out_.segments.size() - 1;
  if (!ledger_.empty() && ledger_.back().segment == at) {
    ledger_.back().steps += steps;
    ledger_.back().useful += useful;
  } else {
    ledger_.push_back({steps, useful, at});
  }
  left_ = spent_ = {};
  if (!trace_.options.checkpoint) return;
  if (step_ % trace_.options.checkpoint->every_steps != 0) return;
  start(Activity::save, out_.save);
  if (out_.save.v == 0) finish_save();
}

void Runner::finish_save() {
  checkpoint_step_ = step_;
  ledger_.clear();
  ++out_.saves;
  activity_ = Activity::step;
  left_ = spent_ = {};
  if (planned_ && planned_->after_save) {
    planned_->after_save = false;
    planned_->due = now_;
  }
}

void Runner::void_steps() {
  std::int64_t steps = 0;
  for (const Entry& e : ledger_) {
    steps += e.steps;
    out_.wall[Account::useful] -= e.useful;
    out_.wall[Account::undone] += e.useful;
    out_.segments[e.segment].voided += e.steps;
  }
  ledger_.clear();
  step_ -= steps;
  out_.voided += steps;
  change().voided += steps;
}

void Runner::stop(std::string why, bool for_good) {
  out_.stopped = std::move(why);
  dead_ = for_good;
  activity_ = Activity::stopped;
  left_ = spent_ = {};
}

Result<Outcome> Runner::take() {
  if (activity_ != Activity::step && activity_ != Activity::save) {
    TRY_DO(count_losses());
  }
  if (activity_ == Activity::step) out_.wall[Account::cut] += spent_;
  close_segment();
  for (const Segment& s : out_.segments) {
    out_.steps += s.steps - s.voided;
    out_.tokens += (s.steps - s.voided) * s.tokens;
    out_.model_flops += static_cast<double>(s.steps - s.voided) * s.flops;
  }
  const double wall = to_seconds(trace_.until);
  const double whole =
      clusters::peak_of(trace_.cluster,
                        trace_.strategies.front().strategy.dtype)
          .v *
      wall;
  out_.tokens_per_s = static_cast<double>(out_.tokens) / wall;
  if (peak_seconds_ > 0) out_.mfu = out_.model_flops / peak_seconds_;
  if (whole > 0) out_.mfu_whole = out_.model_flops / whole;
  return std::move(out_);
}

}  // namespace troupe::runs
