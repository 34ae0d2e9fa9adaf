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

}  // namespace troupe::profiles
