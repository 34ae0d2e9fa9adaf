// What ran when, task by task and operator by operator: kept beside a run, so
// that simulated, emulated and executed steps are compared event by event.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "base/units.h"

namespace troupe::results {

/// Which event of a step; equal in all performances of a schedule.
struct EventKey {
  /// Tasks of a part of the step, messages of the switch before it.
  static constexpr std::int32_t kTask = -1, kSwitch = -2;
  std::int32_t part = 0;        ///< of the step: phases in the order they run
  std::int32_t device = kTask;  ///< of an operator, or one of the above
  std::int32_t task = 0;
  std::int32_t layer = 0;
  std::int32_t index = 0;  ///< of the operator in its block
  auto operator<=>(const EventKey&) const = default;
};

struct Event {
  EventKey key;
  std::int32_t micro_batch = -1;
  std::string name;  ///< of the operator, or kind of the task
  Time start, end;
  std::int32_t stream = 0;  ///< of an operator, as in its schedule
  bool operator==(const Event&) const = default;
};

struct Timeline {
  std::vector<Event> events;
  bool cut = false;  ///< events beyond a limit were left out
  bool operator==(const Timeline&) const = default;
};

/// Compressed; `unpacked` gives it back equal.
std::string packed(const Timeline& timeline);
/// Errors: io, for bytes that `packed` did not write.
Result<Timeline> unpacked(const std::string& bytes);

/// The events of both, joined by their keys.
///
/// Model: `events` counts {"both", "equal", "only_a", "only_b"}; `operators`
///        has a row for each name: how many, total time in a and in b, ratio
///        b / a, and the largest difference of one; `longest` the events whose
///        duration differs most, `first` the first one that differs at all, by
///        its start in a. Times in seconds.
Json compare(const Timeline& a, const Timeline& b);

/// The same as text.
std::string timeline_text(const Json& compared);

}  // namespace troupe::results
