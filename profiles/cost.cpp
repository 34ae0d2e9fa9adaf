#include "profiles/cost.h"

namespace troupe::profiles {

std::string_view name_of(Provenance provenance) {
  switch (provenance) {
    case Provenance::measured:
      return "measured";
    case Provenance::interpolated:
      return "interpolated";
    case Provenance::derived:
      return "derived";
    case Provenance::roofline:
      return "roofline";
  }
  return "?";
}

std::string_view name_of(CopyRoute route) {
  switch (route) {
    case CopyRoute::device:
      return "device";
    case CopyRoute::host_to_device:
      return "host_to_device";
    case CopyRoute::device_to_host:
      return "device_to_host";
    case CopyRoute::peer_nvlink:
      return "peer_nvlink";
    case CopyRoute::peer_pcie:
      return "peer_pcie";
    case CopyRoute::peer_host:
      return "peer_host";
  }
  return "?";
}

std::optional<CopyRoute> parse_copy_route(std::string_view name) {
  for (int i = 0; i < kCopyRoutes; ++i) {
    const auto route = static_cast<CopyRoute>(i);
    if (name_of(route) == name) return route;
  }
  return {};
}

}  // namespace troupe::profiles
