// Deviations from a price list: noise, and devices that are slow. One law for
// whoever performs a schedule, so that all of them deviate alike.
#pragma once

#include <cstdint>
#include <map>

#include "schedule/schedule.h"

namespace troupe::schedule {

struct Disturbance {
  double noise = 0;  ///< times lie within 1 - noise and 1 + noise of the price
  std::uint64_t seed = 1;
  /// How many times as long a device takes for operators that compute.
  std::map<clusters::DeviceId, double> slower = {};
  bool none() const { return noise == 0 && slower.empty(); }
  bool operator==(const Disturbance&) const = default;
};

/// Which operator on which device.
struct OperatorPlace {
  std::int32_t phase = 0;  ///< of the strategy
  TaskId task;
  std::int32_t layer = 0;
  std::size_t index = 0;  ///< in its block
  DeviceId device;
  DeviceId lead;  ///< the first one of its tensor-parallel group
};

/// What an operator of that price takes there.
///
/// Model: price * slower * (1 + noise * u), rounded to a picosecond, with u
///        uniform in [-1, 1), a hash of the seed and the place: neither the
///        order of execution nor what else runs changes it, and every step has
///        the same. A tensor-parallel collective takes one time for its whole
///        group; communication is never slowed by a device.
Time disturbed(const Disturbance& disturbance, const OperatorPlace& place,
               const Operator& op, Time price);

/// Communication that several ranks have together.
enum class Together : std::uint8_t {
  transfer = 2,
  sync,
  switching,
  transition
};

/// The factor of one of them, 1 + noise * u; `index` counts those of a kind
/// within a phase (a switch).
double message_factor(const Disturbance& disturbance, Together kind,
                      std::int64_t phase, std::int64_t index);

/// A time that a factor is applied to, rounded to a picosecond.
Time scaled(Time time, double factor);

}  // namespace troupe::schedule
