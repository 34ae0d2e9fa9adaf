// The clock that a GPU's cores run at, by the driver's management library.
#pragma once

#include <string>

#include "base/result.h"

namespace troupe::measure {

/// Reads one GPU's clock; opened when first needed, never closed.
class SmClock {
 public:
  /// Errors: unavailable, with the reason, where there is no NVML or it does
  ///         not know the GPU.
  static Result<SmClock> open(const std::string& bus_id);
  /// MHz at this moment; 0 where it cannot be told.
  double mhz() const;

 private:
  using Read = int (*)(void* device, int which, unsigned* mhz);
  Read read_ = nullptr;
  void* device_ = nullptr;
};

}  // namespace troupe::measure
