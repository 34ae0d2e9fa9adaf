#include "clusters/collective.h"

#include <array>
#include <utility>

namespace troupe::clusters {

std::string_view name_of(Collective collective) {
  switch (collective) {
    case Collective::all_reduce:
      return "all_reduce";
    case Collective::all_gather:
      return "all_gather";
    case Collective::reduce_scatter:
      return "reduce_scatter";
    case Collective::all_to_all:
      return "all_to_all";
    case Collective::broadcast:
      return "broadcast";
    case Collective::send_receive:
      return "send_receive";
    case Collective::ring_shift:
      return "ring_shift";
  }
  return "";
}

std::optional<Collective> parse_collective(std::string_view name) {
  static constexpr std::array kAll{
      Collective::all_reduce,     Collective::all_gather,
      Collective::reduce_scatter, Collective::all_to_all,
      Collective::broadcast,      Collective::send_receive,
      Collective::ring_shift};
  for (const Collective collective : kAll) {
    if (name_of(collective) == name) return collective;
  }
  return {};
}

}  // namespace troupe::clusters
