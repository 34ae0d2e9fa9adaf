#include "profiles/gather.h"

#include "base/text.h"
#include "profiles/trace_samples.h"

namespace troupe::profiles {

Gather::Gather(const std::vector<DeviceName>& known,
               const clusters::KindTable& kinds) {
  for (const DeviceName& device : known) known_.insert(device.name);
  for (const clusters::DeviceKind& kind : kinds.kinds) {
    known_.insert(kind.name);
    kinds_[kind.name] = kind;
  }
}
Gather::Gather(Gather&&) noexcept = default;
Gather& Gather::operator=(Gather&&) noexcept = default;
Gather::~Gather() = default;

std::string Gather::unknown(const std::string& device) const {
  const std::vector<std::string> names(known_.begin(), known_.end());
  return fmt::format("unknown device '{}'{}", excerpt(device),
                     did_you_mean(device, names));
}

}  // namespace troupe::profiles
