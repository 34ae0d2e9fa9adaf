// Who waits for whom, and which rank is to blame when nobody goes on.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace troupe::emu {

/// What a rank waits for. One that waits for itself hangs.
struct Wait {
  std::int32_t on = -1;   ///< the rank that it needs next, if known
  std::string text = {};  ///< "rank 3 waits for a message of rank 1"
};

/// Follows who waits for whom, from the lowest rank on, to a rank that does
/// not wait (it is gone, hangs or computes), to one that waits for itself, or
/// around a circle: a message that names it.
///
/// Requires: at least one wait.
std::string blame(const std::map<std::int32_t, Wait>& waits);

}  // namespace troupe::emu
