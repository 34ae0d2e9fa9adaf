#include "schedule/successors.h"

namespace troupe::schedule {
Successors::Successors(const Schedule& schedule, std::span<const TaskId> like)
    : waiting(schedule.tasks.size(), 0), first_(schedule.tasks.size() + 1, 0) {
  const auto each = [&](auto use) {
    if (like.empty()) {
      each_edge(schedule, [](TaskId) { return true; }, use);
    } else {
      each_edge(
          schedule, [&](TaskId t) { return like[t.at()] == t; },
          [&](TaskId before, TaskId after) { use(like[before.at()], after); });
    }
  };
  each([&](TaskId before, TaskId) { ++first_[before.at() + 1]; });
  for (std::size_t i = 1; i < first_.size(); ++i) first_[i] += first_[i - 1];
  list_.resize(first_.back());
  std::vector<std::uint32_t> next(first_.begin(), first_.end() - 1);
  each([&](TaskId before, TaskId after) {
    list_[next[before.at()]++] = after;
    ++waiting[after.at()];
  });
}

}  // namespace troupe::schedule
