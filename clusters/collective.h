// The names of collective communications, shared by schedules, measurements
// and communicators.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace troupe::clusters {

enum class Collective : std::uint8_t {
  all_reduce,
  all_gather,
  reduce_scatter,
  all_to_all,
  broadcast,
  send_receive,  ///< one message between two ranks
  ring_shift,    ///< every rank sends to the next of a ring
};
std::string_view name_of(Collective collective);
std::optional<Collective> parse_collective(std::string_view name);

}  // namespace troupe::clusters
