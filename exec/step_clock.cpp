#include "exec/step_clock.h"

#include <algorithm>

namespace troupe::exec {
namespace {

/// What comes after all gradients: the norm and the optimizer.
bool updates(const schedule::Task& task) {
  return task.kind == schedule::TaskKind::optimizer ||
         task.kind == schedule::TaskKind::gradient_sync;
}

}  // namespace

void find_waits_outside(StepPrices& step) {
  const std::vector<schedule::Task>& tasks = step.graph->tasks;
  // Switches are parts of their own, each task for itself.
  std::vector<std::size_t> part_of(tasks.size(), step.tasks_of.size());
  for (std::size_t k = 0; k < step.tasks_of.size(); ++k) {
    for (const TaskId id : step.tasks_of[k]) {
      if (id) part_of[id.at()] = k;
    }
  }
  step.waits_outside.assign(tasks.size(), false);
  for (std::size_t t = 0; t < tasks.size(); ++t) {
    for (const TaskId before : step.graph->dependencies_of(tasks[t])) {
      if (part_of[before.at()] != part_of[t]) step.waits_outside[t] = true;
    }
  }
}

void StepClock::note(std::size_t part, TaskId id, Time start, Time end) {
  if (has(part, id)) spans_[in_step(part, id)] = {start, end};
}

Time StepClock::known(TaskId task) const {
  const schedule::Schedule& graph = *prices_->graph;
  Time end;
  for (const TaskId before : graph.dependencies_of(graph.tasks[task.at()])) {
    const auto it = spans_.find(before);
    if (it != spans_.end()) end = std::max(end, it->second.second);
  }
  return end;
}

Time StepClock::known_end(std::size_t part, TaskId id) const {
  if (!has(part, id)) return {};
  const TaskId task = in_step(part, id);
  const bool late = prices_->waits_outside[task.at()] &&
                    updates(prices_->graph->tasks[task.at()]);
  return std::max(known(task), late ? gradients_ : Time{});
}

bool StepClock::waits_outside(std::size_t part, TaskId id) const {
  return has(part, id) && prices_->waits_outside[in_step(part, id).at()];
}

Result<void> StepClock::pass_switch(std::size_t part) {
  if (part >= prices_->switches.size()) return {};
  for (const SwitchBatch& batch : prices_->switches[part]) {
    if (!std::ranges::binary_search(batch.devices, self_)) continue;
    std::vector<RankId> group;
    for (const reshard::DeviceId d : batch.devices) {
      group.push_back(ranks_.at(d));
    }
    Time start = known(batch.task);
    TRY_DO(world_.meet(group, start));
    spans_[batch.task] = {start, start + batch.time};
    TRY_DO(pace(start + batch.time));
  }
  return {};
}

Result<void> StepClock::meet_for_update(std::size_t part,
                                        std::span<const RankId> everyone) {
  for (const TaskId id : prices_->tasks_of[part]) {
    if (!id || !prices_->waits_outside[id.at()]) continue;
    if (!updates(prices_->graph->tasks[id.at()])) continue;
    gradients_ = std::max(gradients_, known(id));
  }
  return world_.meet(everyone, gradients_);
}

void StepClock::begin_pacing(double factor) {
  factor_ = factor;
  began_ = std::chrono::steady_clock::now();
}

Result<void> StepClock::pace(Time at) {
  if (factor_ <= 0) return {};
  const std::chrono::duration<double> wait(to_seconds(at) * factor_);
  return world_.sleep_until(
      began_ +
      std::chrono::duration_cast<std::chrono::steady_clock::duration>(wait));
}

double StepClock::wall_s() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() -
                                       began_)
      .count();
}

Time StepClock::end() const {
  Time last;
  for (const auto& [task, span] : spans_) last = std::max(last, span.second);
  return last;
}

}  // namespace troupe::exec
