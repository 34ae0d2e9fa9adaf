#include "exec/clock.h"

#include <algorithm>

namespace troupe::exec {

Time TaskClock::ready(const schedule::Operator& op) const {
  Time at = free_[static_cast<std::size_t>(op.stream)];
  const std::vector<Time>& ends = early_now_ ? early_ : ends_;
  for (const std::uint16_t a : op.after) at = std::max(at, ends[a]);
  return at;
}

Time TaskClock::finish(std::size_t o, const schedule::Operator& op, Time start,
                       Time time) {
  const Time end = start + time;
  free_[static_cast<std::size_t>(op.stream)] = end;
  (early_now_ ? early_ : ends_)[o] = end;
  return end;
}

void TaskClock::begin_block(std::size_t operators) {
  ends_.swap(early_);
  ends_.resize(operators, Time{});
}

void TaskClock::end_block() {
  block_end_ = free_[static_cast<std::size_t>(schedule::Stream::compute)];
}

Time TaskClock::last() const {
  return *std::max_element(free_.begin(), free_.end());
}

void TaskClock::hold(schedule::Stream stream, Time time) {
  Time& free = free_[static_cast<std::size_t>(stream)];
  free = std::max(free, time);
}

}  // namespace troupe::exec
