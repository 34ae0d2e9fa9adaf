#include "measure/sm_clock.h"

#include <dlfcn.h>

#include <array>

#include "kernels/dynamic_library.h"

namespace troupe::measure {
namespace {

// As NVIDIA documents its management library: 0 is success, 1 the clock of
// the multiprocessors.
constexpr int kSuccess = 0;
constexpr int kSmClock = 1;

template <typename F>
F function(void* library, const char* name) {
  return reinterpret_cast<F>(dlsym(library, name));
}

}  // namespace

Result<SmClock> SmClock::open(const std::string& bus_id) {
  const std::array<std::string, 2> places{"libnvidia-ml.so.1",
                                          "libnvidia-ml.so"};
  TRY(void* const library, kernels::open_library("NVML", places));
  const auto begin = function<int (*)()>(library, "nvmlInit_v2");
  const auto find = function<int (*)(const char*, void**)>(
      library, "nvmlDeviceGetHandleByPciBusId_v2");
  SmClock clock;
  clock.read_ = function<Read>(library, "nvmlDeviceGetClockInfo");
  if (begin == nullptr || find == nullptr || clock.read_ == nullptr) {
    return fail(Fault::unavailable, "this NVML lacks functions");
  }
  if (begin() != kSuccess || find(bus_id.c_str(), &clock.device_) != kSuccess) {
    return fail(Fault::unavailable, "NVML does not know GPU " + bus_id);
  }
  return clock;
}

double SmClock::mhz() const {
  unsigned value = 0;
  const bool told =
      read_ != nullptr && read_(device_, kSmClock, &value) == kSuccess;
  return told ? value : 0;
}

}  // namespace troupe::measure
