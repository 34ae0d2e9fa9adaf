#include "sim/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <queue>

#include "base/progress.h"
#include "schedule/successors.h"
#include "sim/flows.h"
#include "sim/fold.h"

namespace troupe::sim {

using schedule::Schedule;
using schedule::Task;
using schedule::TaskId;
using schedule::TaskKind;

namespace {

/// Something that will happen; equal times are settled by `order`, tasks
/// before flows, lower numbers first.
struct Event {
  Time at;
  std::int64_t order = 0;
  std::int32_t flow = -1;  ///< else a task
  std::uint32_t version = 0;
  bool operator>(const Event& o) const {
    return at != o.at ? at > o.at : order > o.order;
  }
};

/// What compute tasks take: from a price list, or by task.
struct Durations {
  const PriceList* prices = nullptr;
  std::span<const Time> by_task = {};
  Time of(TaskId id) const {
    return prices ? prices->of(id).time : by_task[id.at()];
  }
};

class Engine {
 public:
  Engine(const Schedule& s, Durations durations, const Activities& activities,
         std::size_t links, OperatorDetail* detail,
         const std::vector<TaskId>& like)
      : schedule_(s),
        like_(like),
        detail_(detail),
        durations_(durations),
        activities_(activities),
        flows_(links),
        successors_(s, like) {
    run_.start.resize(s.tasks.size());
    run_.end.resize(s.tasks.size());
  }

  Result<Run> perform() {
    for (std::size_t t = 0; t < schedule_.tasks.size(); ++t) {
      if (like_[t].at() != t) {
        ++run_.folded;
      } else if (successors_.waiting[t] == 0) {
        begin(make_id<TaskId>(t), {});
      }
    }
    while (!events_.empty()) {
      const Event event = events_.top();
      events_.pop();
      if (event.flow >= 0) {
        if (!flows_.current(event.flow, event.version)) continue;
        flow_ended(event.flow, event.at);
      } else {
        task_ended(TaskId{static_cast<std::int32_t>(event.order)}, event.at);
      }
      ++run_.events;
      if ((run_.events & 0xffff) == 0 && interrupted()) {
        return fail(Fault::interrupted, "interrupted");
      }
    }
    if (ended_ + static_cast<std::size_t>(run_.folded) !=
        schedule_.tasks.size()) {
      return deadlock();
    }
    for (std::size_t t = 0; t < like_.size(); ++t) {
      run_.start[t] = run_.start[like_[t].at()];
      run_.end[t] = run_.end[like_[t].at()];
    }
    run_.contended = flows_.slowed();
    if (detail_) run_.events += detail_->operators();
    return std::move(run_);
  }

 private:
  void begin(TaskId id, Time now) {
    const Task& task = schedule_.tasks[id.at()];
    run_.start[id.at()] = now;
    if (schedule::computes(task.kind)) {
      push_task(
          id, now + (detail_ ? detail_->perform(id, now) : durations_.of(id)));
      return;
    }
    const auto& list = task.kind == TaskKind::transfer ? activities_.transfers
                                                       : activities_.syncs;
    const Activity& activity = list[static_cast<std::size_t>(task.what)];
    if (activity.work.v <= 0) {
      push_task(id, now + activity.latency);
      return;
    }
    const std::int32_t flow = flows_.start(activity, now, changed_);
    if (task_of_flow_.size() <= static_cast<std::size_t>(flow)) {
      task_of_flow_.resize(static_cast<std::size_t>(flow) + 1);
    }
    task_of_flow_[static_cast<std::size_t>(flow)] = {id, activity.latency};
    push_changed();
  }

  void flow_ended(std::int32_t flow, Time now) {
    const auto [task, latency] = task_of_flow_[static_cast<std::size_t>(flow)];
    flows_.finish(flow, now, changed_);
    push_changed();
    push_task(task, now + latency);
  }

  void task_ended(TaskId id, Time now) {
    run_.end[id.at()] = now;
    run_.step = std::max(run_.step, now);
    ++ended_;
    for (const TaskId next : successors_.of(id)) {
      if (--successors_.waiting[next.at()] == 0) begin(next, now);
    }
  }

  void push_task(TaskId id, Time at) { events_.push({at, id.v, -1, 0}); }

  void push_changed() {
    constexpr std::int64_t kAfterTasks = std::int64_t{1} << 32;
    for (const auto& e : changed_) {
      events_.push({e.at, kAfterTasks + e.flow, e.flow, e.version});
    }
    changed_.clear();
  }

  Result<Run> deadlock() const {
    std::string names;
    int shown = 0;
    for (std::size_t t = 0; t < schedule_.tasks.size() && shown < 5; ++t) {
      if (successors_.waiting[t] == 0) continue;
      const Task& task = schedule_.tasks[t];
      names +=
          fmt::format("{}{} of micro-batch {} on stage {}", shown ? ", " : "",
                      name_of(task.kind), task.micro_batch, task.stage.v);
      ++shown;
    }
    return fail(Fault::input,
                fmt::format("deadlock: {} of {} tasks can never start, first: "
                            "{}; check the order of the stages' tasks",
                            schedule_.tasks.size() - ended_,
                            schedule_.tasks.size(), names));
  }

  const Schedule& schedule_;
  const std::vector<TaskId>& like_;
  OperatorDetail* detail_;
  Durations durations_;
  const Activities& activities_;
  FlowTable flows_;
  schedule::Successors successors_;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  std::vector<FlowTable::Expected> changed_;
  std::vector<std::pair<TaskId, Time>> task_of_flow_;
  std::size_t ended_ = 0;
  Run run_;
};

}  // namespace

Activities activities_of(const Schedule& schedule, const Network& network) {
  Activities out;
  const auto collectives = [&](clusters::Collective collective,
                               const std::vector<schedule::SyncGroup>& list) {
    std::vector<Network::Group> groups;
    for (const auto& group : list) {
      auto& g = groups.emplace_back();
      g.bytes = group.bytes;
      for (const auto r : group.ranks) {
        g.devices.push_back(schedule.rank(r).device);
      }
    }
    return network.collectives(collective, groups);
  };
  std::vector<Network::Message> messages;
  for (const auto& transfer : schedule.transfers) {
    if (transfer.shares()) {
      out.transfers.push_back(
          collectives(transfer.collective, transfer.groups));
      continue;
    }
    messages.clear();
    for (const auto& m : transfer.messages) {
      messages.push_back(
          {schedule.rank(m.from).device, schedule.rank(m.to).device, m.bytes});
    }
    out.transfers.push_back(network.messages(messages));
  }
  for (const auto& sync : schedule.syncs) {
    out.syncs.push_back(collectives(sync.collective, sync.groups));
  }
  return out;
}

Activity disturbed(Activity activity, double factor) {
  if (factor == 1) return activity;
  activity.work = schedule::scaled(activity.work, factor);
  activity.latency = schedule::scaled(activity.latency, factor);
  return activity;
}

void disturb(Activities& activities, const schedule::Disturbance& disturbance,
             std::int32_t phase) {
  const auto apply = [&](std::vector<Activity>& list, schedule::Together kind) {
    for (std::size_t i = 0; i < list.size(); ++i) {
      list[i] =
          disturbed(std::move(list[i]),
                    schedule::message_factor(disturbance, kind, phase,
                                             static_cast<std::int64_t>(i)));
    }
  };
  apply(activities.transfers, schedule::Together::transfer);
  apply(activities.syncs, schedule::Together::sync);
}

Activities uncontended(Activities activities) {
  for (auto* const list : {&activities.transfers, &activities.syncs}) {
    for (Activity& a : *list) a.shares.clear();
  }
  return activities;
}

Result<Run> perform(const Schedule& schedule, const PriceList& prices,
                    const Activities& activities, std::size_t links,
                    OperatorDetail* detail, bool folded) {
  std::vector<TaskId> like;
  if (folded) {
    like = fold(schedule, prices, activities);
  } else {
    like.resize(schedule.tasks.size());
    for (std::size_t t = 0; t < like.size(); ++t) like[t] = make_id<TaskId>(t);
  }
  return Engine(schedule, {&prices}, activities, links, detail, like).perform();
}

Result<Run> perform_timed(const Schedule& schedule,
                          std::span<const Time> durations,
                          const Activities& activities, std::size_t links) {
  check(durations.size() == schedule.tasks.size(), "a duration for each task");
  std::vector<TaskId> like(schedule.tasks.size());
  for (std::size_t t = 0; t < like.size(); ++t) like[t] = make_id<TaskId>(t);
  return Engine(schedule, {nullptr, durations}, activities, links, nullptr,
                like)
      .perform();
}

}  // namespace troupe::sim
