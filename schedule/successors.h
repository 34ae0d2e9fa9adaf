// Which task waits for which: the one walk over the task graph that checking
// and simulation share.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "schedule/schedule.h"

namespace troupe::schedule {

/// Calls `use(before, after)` for every pair of which the second may start
/// only when the first has ended, where `wanted(after)`: dependencies by task,
/// then the order of each stage's tasks. A pair may come twice.
template <typename Wanted, typename Use>
void each_edge(const Schedule& s, Wanted wanted, Use use) {
  for (std::size_t t = 0; t < s.tasks.size(); ++t) {
    const auto after = make_id<TaskId>(t);
    if (!wanted(after)) continue;
    for (const TaskId before : s.dependencies_of(s.tasks[t])) {
      use(before, after);
    }
  }
  for (const Stage& stage : s.stages) {
    for (std::size_t i = 1; i < stage.order.size(); ++i) {
      const TaskId after = stage.order[i];
      if (wanted(after)) use(stage.order[i - 1], after);
    }
  }
}

/// The tasks that wait for each task, and how many each still waits for. The
/// caller counts `waiting` down as tasks end.
class Successors {
 public:
  /// Where task `t` has a stand-in, `like[t] != t`, it waits for nothing and
  /// whoever waits for it waits for the stand-in; an empty `like` has none.
  explicit Successors(const Schedule& schedule,
                      std::span<const TaskId> like = {});

  std::span<const TaskId> of(TaskId t) const {
    return {list_.data() + first_[t.at()], list_.data() + first_[t.at() + 1]};
  }
  std::vector<std::uint32_t> waiting;  ///< dependencies not yet ended

 private:
  std::vector<std::uint32_t> first_;
  std::vector<TaskId> list_;
};

}  // namespace troupe::schedule
