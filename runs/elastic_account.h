// Where the wall time of a run went. Every picosecond belongs to exactly one
// account, so that they add up to the end of the run.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/units.h"

namespace troupe::runs {

enum class Account : std::uint8_t {
  useful,      ///< steps whose result lived to the end
  undone,      ///< steps whose result a loss took
  cut,         ///< the begun step that an event broke off
  redundancy,  ///< of steps: copies of optimizer shards for peers
  saving,      ///< steps waited for a checkpoint
  detecting,   ///< from a loss until the run knew of it
  restarting,  ///< processes, groups and kernels set up again
  loading,     ///< states read from a checkpoint
  moving,      ///< states sent between devices
  stopped,     ///< no strategy fits, or nothing was left to go on with
};
inline constexpr std::size_t kAccounts = 10;

std::string_view name_of(Account account);

/// The longest that anything of a run takes, far below where sums of
/// picoseconds overflow (106 days): longer than any run (`kMostSeconds`).
inline constexpr Time kLongest{std::int64_t{31} * 86400 * 1'000'000'000'000};
/// `time`, at most kLongest; a sum that overflowed counts as that.
constexpr Time bounded(Time time) {
  return time.v < 0 || time > kLongest ? kLongest : time;
}

/// Time by account.
struct WallTime {
  std::array<Time, kAccounts> at{};

  Time& operator[](Account account) {
    return at[static_cast<std::size_t>(account)];
  }
  Time operator[](Account account) const {
    return at[static_cast<std::size_t>(account)];
  }
  /// The sum, which is the wall time.
  Time total() const;
  WallTime& operator+=(const WallTime& more);
  bool operator==(const WallTime&) const = default;
};

}  // namespace troupe::runs
