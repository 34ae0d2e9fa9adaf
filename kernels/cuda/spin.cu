// Work that only takes time.
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.h"

namespace troupe::kernels::cuda {
namespace {

__global__ void spin_kernel(std::uint64_t duration) {
  const std::uint64_t from = nanoseconds();
  while (nanoseconds() - from < duration) {
  }
}

}  // namespace

Result<void> launch_spin(std::uint64_t duration, const Device& device) {
  return start(spin_kernel, dim3(1), dim3(1), 0, device, duration);
}

}  // namespace troupe::kernels::cuda
