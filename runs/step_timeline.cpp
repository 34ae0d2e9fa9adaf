#include "runs/step_timeline.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "reshard/price.h"
#include "schedule/lower.h"

namespace troupe::runs {

using clusters::DeviceId;
using schedule::StageId;
using schedule::Task;
using schedule::TaskId;
using schedule::TaskKind;
using Tasks = std::vector<TaskId>;

namespace {

/// A stage of one part.
struct StageTasks {
  std::vector<DeviceId> devices;
  Tasks order;  ///< compute, without the optimizer
  Tasks syncs;  ///< of its gradients
};

/// One part, as far as the others must know it.
struct PartTasks {
  std::vector<StageTasks> stages;
  std::map<DeviceId, std::size_t> stage_of;
  Tasks updates;  ///< optimizer tasks and the gradient norm

  /// The stage of a device, or -1 when the part does not use it.
  int stage(DeviceId device) const {
    const auto found = stage_of.find(device);
    return found == stage_of.end() ? -1 : static_cast<int>(found->second);
  }
};

/// Messages between the same stages: those that wait for, and are waited for
/// by, the same.
struct Batch {
  int from = -1;  ///< stage before, of the senders; -1: not in use then
  int to = -1;    ///< stage before, of the receivers
  int next = -1;  ///< stage after, of the receivers
  auto operator<=>(const Batch&) const = default;
};

class Builder {
 public:
  Builder(const clusters::Cluster& cluster, const sim::Network& network,
          const TimelineOptions& options)
      : cluster_(cluster),
        network_(network),
        waiting_(options.waiting),
        disturbance_(options.disturbance) {}

  void add_part(const StepPart& part);
  /// The switch that comes before `next`, which is added afterwards.
  void add_switch(const reshard::PhaseSwitch& change,
                  const schedule::Schedule& next);
  StepTimeline take();

 private:
  TaskId add(Task task, Time duration) {
    out_.schedule.tasks.push_back(task);
    out_.durations.push_back(duration);
    return make_id<TaskId>(out_.schedule.tasks.size() - 1);
  }
  void wait(TaskId task, TaskId before) { waits_.emplace(task, before); }
  void wait(TaskId task, const Tasks& before) {
    for (const TaskId b : before) wait(task, b);
  }

  void copy_stages(const StepPart& part, const std::vector<TaskId>& now,
                   PartTasks& tasks);
  void link_to_previous(const PartTasks& previous, PartTasks& tasks);
  TaskId add_barrier(const Tasks& before);
  TaskId add_batch(const std::vector<sim::Network::Message>& messages);
  Tasks before_gradients(const PartTasks& part, int stage) const;
  void add_plan(const reshard::SwitchPlan& plan, bool gradients);
  void add_bucket(std::map<Batch, std::vector<sim::Network::Message>>& batches,
                  bool gradients);

  const clusters::Cluster& cluster_;
  const sim::Network& network_;
  Waiting waiting_;
  const schedule::Disturbance* disturbance_;
  std::int64_t batches_ = 0;  ///< of the switch
  StepTimeline out_;
  std::set<std::pair<TaskId, TaskId>> waits_;
  std::vector<PartTasks> parts_;
  std::map<DeviceId, int> next_stage_;      ///< of devices, in the part to come
  std::map<int, Tasks> parameters_for_;     ///< by stage of the part to come
  std::map<DeviceId, Tasks> gradients_at_;  ///< what brought them so far
  std::map<DeviceId, Tasks> arriving_;      ///< the same, of this switch
  std::map<DeviceId, Tasks> busy_;          ///< the bucket before, by device
  TaskId barrier_;                          ///< for Waiting::apart
  Tasks section_;                           ///< since the last barrier
};

/// Whether a task belongs to the update, which waits for all gradients.
bool is_update(const schedule::Schedule& s, const Task& task) {
  return task.kind == TaskKind::optimizer ||
         (task.kind == TaskKind::gradient_sync &&
          s.syncs[static_cast<std::size_t>(task.what)].name ==
              schedule::kGradientNorm);
}

bool left_out(const schedule::Schedule& s, const Task& task, Doing doing) {
  switch (doing) {
    case Doing::all:
      return false;
    case Doing::gradients:
      return task.kind == TaskKind::parameter_gather || is_update(s, task);
    case Doing::update:
      return !is_update(s, task);
  }
  return false;
}

void Builder::copy_stages(const StepPart& part, const std::vector<TaskId>& now,
                          PartTasks& tasks) {
  const schedule::Schedule& s = *part.schedule;
  const auto base = static_cast<std::int32_t>(out_.schedule.stages.size());
  for (std::size_t i = 0; i < s.stages.size(); ++i) {
    schedule::Stage stage;
    StageTasks mine;
    for (const auto& member : s.stages[i].members) {
      for (const auto rank : member) {
        mine.devices.push_back(s.rank(rank).device);
        tasks.stage_of[mine.devices.back()] = i;
      }
    }
    for (const TaskId old : s.stages[i].order) {
      const TaskId id = now[old.at()];
      if (!id) continue;
      stage.order.push_back(id);
      const bool updates = s.tasks[old.at()].kind == TaskKind::optimizer;
      if (!updates) mine.order.push_back(id);
    }
    out_.schedule.stages.push_back(std::move(stage));
    out_.stages.push_back(mine.devices);
    tasks.stages.push_back(std::move(mine));
  }
  for (std::size_t t = 0; t < s.tasks.size(); ++t) {
    if (!now[t]) continue;
    Task& copy = out_.schedule.tasks[now[t].at()];
    if (copy.stage) copy.stage.v += base;
    if (is_update(s, s.tasks[t])) {
      tasks.updates.push_back(now[t]);
      continue;
    }
    if (copy.kind != TaskKind::gradient_sync) continue;
    const auto& sync = s.syncs[static_cast<std::size_t>(s.tasks[t].what)];
    for (const StageId id : sync.stages) {
      tasks.stages[id.at()].syncs.push_back(now[t]);
    }
  }
}

void Builder::link_to_previous(const PartTasks& previous, PartTasks& tasks) {
  for (std::size_t n = 0; n < tasks.stages.size(); ++n) {
    const StageTasks& stage = tasks.stages[n];
    if (stage.order.empty()) continue;
    const TaskId first = stage.order.front();
    wait(first, parameters_for_[static_cast<int>(n)]);
    std::set<int> had;
    for (const DeviceId d : stage.devices) had.insert(previous.stage(d));
    for (const int h : had) {
      if (h < 0) continue;
      const Tasks& order = previous.stages[static_cast<std::size_t>(h)].order;
      if (!order.empty()) wait(first, order.back());
    }
  }
}

void Builder::add_part(const StepPart& part) {
  const schedule::Schedule& s = *part.schedule;
  const auto transfers =
      static_cast<std::int32_t>(out_.activities.transfers.size());
  const auto syncs = static_cast<std::int32_t>(out_.activities.syncs.size());
  const auto append = [](auto& list, const auto& more) {
    list.insert(list.end(), more.begin(), more.end());
  };
  append(out_.activities.transfers, part.activities.transfers);
  append(out_.activities.syncs, part.activities.syncs);
  std::vector<TaskId> now(s.tasks.size());
  for (std::size_t t = 0; t < s.tasks.size(); ++t) {
    Task task = s.tasks[t];
    if (left_out(s, task, part.doing)) continue;
    const bool computes = schedule::computes(task.kind);
    if (!computes) {
      task.what += task.kind == TaskKind::transfer ? transfers : syncs;
    }
    task.first_dependency = 0;
    task.dependencies = 0;
    now[t] = add(task, computes ? part.durations[t] : Time{});
  }
  for (std::size_t t = 0; t < s.tasks.size(); ++t) {
    if (!now[t]) continue;
    for (const TaskId before : s.dependencies_of(s.tasks[t])) {
      if (now[before.at()]) wait(now[t], now[before.at()]);
    }
  }
  PartTasks tasks;
  copy_stages(part, now, tasks);
  if (waiting_ == Waiting::apart) {
    for (const TaskId id : now) {
      if (id && barrier_) wait(id, barrier_);
    }
  } else if (!parts_.empty()) {
    link_to_previous(parts_.back(), tasks);
  } else {
    // The first part of a step waits for its parameters alone.
    link_to_previous({}, tasks);
  }
  // The norm is of all gradients, so every update waits for all of them.
  for (const TaskId update : tasks.updates) {
    for (const auto& [device, brought] : gradients_at_) wait(update, brought);
    // Also for those that stayed where they were summed.
    for (const PartTasks& before : parts_) {
      for (std::size_t h = 0; h < before.stages.size(); ++h) {
        wait(update, before_gradients(before, static_cast<int>(h)));
      }
    }
  }
  auto& mine = out_.parts.emplace_back();
  for (const TaskId id : now) {
    if (id) mine.push_back(id);
  }
  append(section_, mine);
  out_.tasks_of.push_back(now);
  parts_.push_back(std::move(tasks));
}

TaskId Builder::add_barrier(const Tasks& before) {
  Task task;
  task.kind = TaskKind::layout_switch;
  task.what = static_cast<std::int32_t>(out_.activities.syncs.size());
  out_.activities.syncs.emplace_back();
  const TaskId id = add(task, {});
  wait(id, before);
  return id;
}

TaskId Builder::add_batch(const std::vector<sim::Network::Message>& messages) {
  Task task;
  task.kind = TaskKind::layout_switch;
  task.what = static_cast<std::int32_t>(out_.activities.syncs.size());
  sim::Activity activity;
  if (waiting_ != Waiting::without) {
    activity = network_.messages(messages);
    std::map<DeviceId, std::int64_t> packed, unpacked;
    for (const auto& m : messages) {
      packed[m.from] += m.bytes.v;
      unpacked[m.to] += m.bytes.v;
    }
    // Read and written once at each end.
    for (const auto* side : {&packed, &unpacked}) {
      Time longest;
      for (const auto& [device, bytes] : *side) {
        const Bandwidth memory = cluster_.kind_of(device).memory_bandwidth;
        if (memory.v > 0)
          longest = std::max(longest, Bytes{2 * bytes} / memory);
      }
      activity.latency += longest;
    }
    activity.latency += reshard::kStart;
  }
  if (disturbance_ != nullptr) {
    activity = sim::disturbed(
        std::move(activity),
        schedule::message_factor(
            *disturbance_, schedule::Together::switching,
            static_cast<std::int64_t>(out_.switches.size()), batches_++));
  }
  out_.activities.syncs.push_back(std::move(activity));
  return add(task, {});
}

/// What a stage's gradients wait for before they can leave it.
Tasks Builder::before_gradients(const PartTasks& part, int stage) const {
  if (stage < 0) return {};
  const StageTasks& s = part.stages[static_cast<std::size_t>(stage)];
  Tasks out = s.syncs;
  if (!s.order.empty()) out.push_back(s.order.back());
  return out;
}

void Builder::add_bucket(
    std::map<Batch, std::vector<sim::Network::Message>>& batches,
    bool gradients) {
  ++out_.buckets;
  std::map<DeviceId, Tasks> busy, brought;
  Tasks all;
  for (const auto& [batch, messages] : batches) {
    const TaskId id = add_batch(messages);
    all.push_back(id);
    out_.switches.back().push_back(id);
    std::set<DeviceId> devices;
    for (const auto& m : messages) devices.insert({m.from, m.to});
    out_.batches.back().push_back(
        {{devices.begin(), devices.end()}, out_.buckets});
    if (waiting_ == Waiting::apart) {
      wait(id, barrier_);
    } else {
      for (const DeviceId d : devices) wait(id, busy_[d]);
      for (const int stage : {batch.from, batch.to}) {
        if (stage < 0) continue;
        const PartTasks& part = parts_.back();
        const auto& order = part.stages[static_cast<std::size_t>(stage)].order;
        if (gradients) {
          wait(id, before_gradients(part, stage));
        } else if (!order.empty()) {
          wait(id, order.back());
        }
      }
    }
    for (const auto& m : messages) {
      if (!gradients) break;
      wait(id, gradients_at_[m.from]);
      brought[m.to].push_back(id);
    }
    for (const DeviceId d : devices) busy[d].push_back(id);
    if (!gradients) parameters_for_[batch.next].push_back(id);
  }
  for (auto& [device, tasks] : busy) busy_[device] = std::move(tasks);
  for (auto& [device, tasks] : brought) {
    Tasks& at = arriving_[device];
    at.insert(at.end(), tasks.begin(), tasks.end());
  }
  if (waiting_ == Waiting::apart) barrier_ = add_barrier(all);
}

void Builder::add_plan(const reshard::SwitchPlan& plan, bool gradients) {
  const auto stage_before = [&](DeviceId d) {
    return parts_.empty() ? -1 : parts_.back().stage(d);
  };
  for (const reshard::Bucket& bucket : plan.buckets) {
    std::map<Batch, std::vector<sim::Network::Message>> batches;
    for (std::size_t t = bucket.first; t < bucket.last; ++t) {
      const reshard::Transfer& transfer = plan.transfers[t];
      const auto next = next_stage_.find(transfer.to);
      const Batch batch{stage_before(transfer.from), stage_before(transfer.to),
                        next == next_stage_.end() ? -1 : next->second};
      auto& messages = batches[batch];
      const bool same = !messages.empty() &&
                        messages.back().from == transfer.from &&
                        messages.back().to == transfer.to;
      if (same) {
        messages.back().bytes.v += transfer.bytes;
      } else {
        messages.push_back({transfer.from, transfer.to, {transfer.bytes}});
      }
    }
    add_bucket(batches, gradients);
  }
}

void Builder::add_switch(const reshard::PhaseSwitch& change,
                         const schedule::Schedule& next) {
  out_.switches.emplace_back();
  out_.batches.emplace_back();
  batches_ = 0;
  if (waiting_ == Waiting::apart) barrier_ = add_barrier(section_);
  section_.clear();
  parameters_for_.clear();
  arriving_.clear();
  next_stage_.clear();
  for (const schedule::Rank& rank : next.ranks) {
    next_stage_[rank.device] = rank.stage.v;
  }
  if (change.parameters) add_plan(change.parameters->plan, false);
  if (change.gradients) add_plan(change.gradients->plan, true);
  if (change.states) add_plan(change.states->plan, false);
  for (auto& [device, tasks] : arriving_) {
    Tasks& at = gradients_at_[device];
    at.insert(at.end(), tasks.begin(), tasks.end());
  }
}

StepTimeline Builder::take() {
  std::vector<Task>& tasks = out_.schedule.tasks;
  // The set is in the order of the tasks that wait.
  auto at = waits_.begin();
  for (std::size_t t = 0; t < tasks.size(); ++t) {
    tasks[t].first_dependency =
        static_cast<std::uint32_t>(out_.schedule.dependencies.size());
    for (; at != waits_.end() && at->first.at() == t; ++at) {
      out_.schedule.dependencies.push_back(at->second);
      ++tasks[t].dependencies;
    }
  }
  return std::move(out_);
}

}  // namespace

StepTimeline step_timeline(std::span<const StepPart> parts,
                           std::span<const reshard::PhaseSwitch> switches,
                           const clusters::Cluster& cluster,
                           const sim::Network& network,
                           const TimelineOptions& options) {
  Builder builder(cluster, network, options);
  for (std::size_t k = 0; k < parts.size(); ++k) {
    if (k < switches.size())
      builder.add_switch(switches[k], *parts[k].schedule);
    builder.add_part(parts[k]);
  }
  return builder.take();
}

StepTimeline switch_timeline(const reshard::PhaseSwitch& change,
                             const schedule::Schedule& next,
                             const clusters::Cluster& cluster,
                             const sim::Network& network,
                             const TimelineOptions& options) {
  Builder builder(cluster, network, options);
  builder.add_switch(change, next);
  return builder.take();
}

}  // namespace troupe::runs
