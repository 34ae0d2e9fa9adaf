// A rank's virtual time: what its work would take by a price list, while it
// does the arithmetic. Rules are those of simulation (sim/streams.h).
#pragma once

#include <array>
#include <functional>
#include <map>
#include <vector>

#include "schedule/disturbance.h"
#include "schedule/schedule.h"

namespace troupe::exec {

/// Prices of one block of a body on one member.
struct BlockTimes {
  const schedule::Block* block = nullptr;  ///< whose operators are priced
  std::vector<Time> operators;
};

/// Prices of a schedule. Tables only: read by many ranks at once.
struct Prices {
  /// By compute task and member: the runs of its body, and the least time
  /// that the host needs.
  std::function<const std::vector<BlockTimes>&(schedule::TaskId, std::size_t)>
      runs;
  std::function<Time(schedule::TaskId, std::size_t)> host;
  std::vector<Time> transfers, syncs;  ///< by index
  /// Of operators; the other times have theirs in them.
  schedule::Disturbance disturbance = {};
  std::int32_t phase = 0;  ///< of the strategy
};

/// An operator as it ran in virtual time.
struct Performed {
  schedule::TaskId task;
  std::int32_t layer = 0;
  std::uint16_t index = 0;  ///< of the operator in its block
  const schedule::Block* block = nullptr;
  Time start, end;
  std::size_t part = 0;  ///< of the step
};

/// The in-order streams of a rank within one task; times count from the
/// task's start.
class TaskClock {
 public:
  /// When operator `o` could start for all this rank knows.
  Time ready(const schedule::Operator& op) const;
  /// It started at `start` and takes `time`.
  Time finish(std::size_t o, const schedule::Operator& op, Time start,
              Time time);
  /// Operators from now on are of the next block, issued early.
  void begin_prefetch(std::size_t operators) {
    early_.assign(operators, Time{});
    early_now_ = true;
  }
  void end_prefetch() { early_now_ = false; }
  /// The block whose prefetches were issued last runs now.
  void begin_block(std::size_t operators);
  void end_block();
  Time block_end() const { return block_end_; }
  Time last() const;
  /// No operator of the stream starts before `time`.
  void hold(schedule::Stream stream, Time time);

 private:
  std::array<Time, schedule::kStreams> free_{};
  std::vector<Time> ends_, early_;
  bool early_now_ = false;
  Time block_end_;
};

}  // namespace troupe::exec
