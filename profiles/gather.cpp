#include "profiles/gather.h"

#include "base/text.h"

namespace troupe::profiles {

std::string Gather::unknown(const std::string& device) const {
  const std::vector<std::string> names(known_.begin(), known_.end());
  return fmt::format("unknown device '{}'{}", excerpt(device),
                     did_you_mean(device, names));
}

}  // namespace troupe::profiles
