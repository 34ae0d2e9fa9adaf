#include "sim/fold.h"

#include <algorithm>
#include <bit>
#include <map>

namespace troupe::sim {

using schedule::Schedule;
using schedule::Task;
using schedule::TaskId;

namespace {

/// The pipeline whose stages a sync is between; -1 for more than one.
int pipeline_of(const Schedule& s, const schedule::Sync& sync) {
  const int first = s.stage(sync.stages.front()).pipeline;
  for (const schedule::StageId id : sync.stages) {
    if (s.stage(id).pipeline != first) return -1;
  }
  return first;
}

/// The pipeline that a task is of; -1 for a sync across pipelines.
int pipeline_of(const Schedule& s, const Task& task) {
  if (task.stage) return s.stage(task.stage).pipeline;
  return pipeline_of(s, s.syncs[static_cast<std::size_t>(task.what)]);
}

/// Tasks of each pipeline in task order.
std::vector<std::vector<TaskId>> tasks_of_pipelines(const Schedule& s) {
  std::vector<std::vector<TaskId>> out(static_cast<std::size_t>(s.pipelines));
  for (std::size_t t = 0; t < s.tasks.size(); ++t) {
    const int p = pipeline_of(s, s.tasks[t]);
    if (p >= 0) out[static_cast<std::size_t>(p)].push_back(make_id<TaskId>(t));
  }
  return out;
}

std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  a = (a ^ b) * 0x9e3779b97f4a7c15ULL;
  return (a ^ (a >> 29)) * 0xbf58476d1ce4e5b9ULL;
}

/// A number for how the syncs across pipelines load each link.
std::map<std::int32_t, std::uint64_t> common_loads(const Schedule& s,
                                                   const Activities& a) {
  std::map<std::int32_t, std::uint64_t> loads;
  for (std::size_t i = 0; i < a.syncs.size(); ++i) {
    if (pipeline_of(s, s.syncs[i]) >= 0) continue;
    for (const Share& share : a.syncs[i].shares) {
      std::uint64_t& load = loads[share.link];
      load = mix(mix(load, std::bit_cast<std::uint64_t>(share.of_capacity)),
                 i + 1);
    }
  }
  return loads;
}

class Folder {
 public:
  Folder(const Schedule& s, const PriceList& prices, const Activities& a)
      : s_(s), prices_(prices), a_(a), tasks_(tasks_of_pipelines(s)) {
    read_activities();
  }

  std::vector<TaskId> run() {
    std::vector<TaskId> out(s_.tasks.size());
    for (std::size_t t = 0; t < out.size(); ++t) out[t] = make_id<TaskId>(t);
    std::vector<std::size_t> leaders;
    for (std::size_t p = 0; p < tasks_.size(); ++p) {
      if (shares_[p]) continue;
      const auto like =
          std::find_if(leaders.begin(), leaders.end(),
                       [&](std::size_t leader) { return equal(leader, p); });
      if (like == leaders.end()) {
        leaders.push_back(p);
        continue;
      }
      for (std::size_t i = 0; i < tasks_[p].size(); ++i) {
        out[tasks_[p][i].at()] = tasks_[*like][i];
      }
    }
    return out;
  }

 private:
  const Activity& activity_of(const Task& task) const {
    const auto& list = task.stage ? a_.transfers : a_.syncs;
    return list[static_cast<std::size_t>(task.what)];
  }

  /// Numbers the links of each pipeline in the order of their use, and marks
  /// pipelines that use a link of another.
  void read_activities() {
    const auto loads = common_loads(s_, a_);
    keys_.resize(s_.tasks.size());
    shares_.resize(tasks_.size());
    std::map<std::int32_t, std::size_t> owner;
    for (std::size_t p = 0; p < tasks_.size(); ++p) {
      std::map<std::int32_t, std::uint64_t> number;
      for (const TaskId id : tasks_[p]) {
        const Task& task = s_.tasks[id.at()];
        if (schedule::computes(task.kind)) continue;
        const Activity& activity = activity_of(task);
        std::uint64_t key = mix(static_cast<std::uint64_t>(activity.work.v),
                                static_cast<std::uint64_t>(activity.latency.v));
        for (const Share& share : activity.shares) {
          const auto load = loads.find(share.link);
          key = mix(key, std::bit_cast<std::uint64_t>(share.of_capacity));
          key = mix(key, load == loads.end() ? 0 : load->second);
          key = mix(
              key,
              number.try_emplace(share.link, number.size() + 1).first->second);
          const auto it = owner.try_emplace(share.link, p).first;
          if (it->second != p) shares_[p] = shares_[it->second] = 1;
        }
        keys_[id.at()] = key;
      }
    }
  }

  bool equal(std::size_t a, std::size_t b) const {
    if (tasks_[a].size() != tasks_[b].size()) return false;
    for (std::size_t i = 0; i < tasks_[a].size(); ++i) {
      if (!same(tasks_[a][i], tasks_[b][i])) return false;
    }
    return true;
  }

  bool same(TaskId a, TaskId b) const {
    const Task& x = s_.tasks[a.at()];
    const Task& y = s_.tasks[b.at()];
    if (x.kind != y.kind || x.chunk != y.chunk || x.backward != y.backward ||
        x.micro_batch != y.micro_batch || indices_of(x) != indices_of(y)) {
      return false;
    }
    if (schedule::computes(x.kind)) {
      return &prices_.of(a) == &prices_.of(b);
    }
    return keys_[a.at()] == keys_[b.at()];
  }

  /// Places of a task's stages in their pipeline.
  std::vector<int> indices_of(const Task& task) const {
    if (task.stage) return {s_.stage(task.stage).index};
    std::vector<int> out;
    for (const auto id : s_.syncs[static_cast<std::size_t>(task.what)].stages) {
      out.push_back(s_.stage(id).index);
    }
    return out;
  }

  const Schedule& s_;
  const PriceList& prices_;
  const Activities& a_;
  std::vector<std::vector<TaskId>> tasks_;
  std::vector<std::uint64_t> keys_;  ///< of hand-overs and syncs, by task
  std::vector<char> shares_;         ///< pipelines that share a link
};

}  // namespace

std::vector<TaskId> fold(const Schedule& schedule, const PriceList& prices,
                         const Activities& activities) {
  return Folder(schedule, prices, activities).run();
}

}  // namespace troupe::sim
