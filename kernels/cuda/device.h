// The device on which kernels are launched, in plain C++: what a launch
// function needs to choose its grid.
#pragma once

#include <cstddef>

namespace troupe::kernels::cuda {

/// A stream of one GPU. Launches on one Device run in order.
struct Device {
  void* stream = nullptr;               ///< cudaStream_t
  int ordinal = 0;                      ///< of the GPU in this process
  int multiprocessors = 1;              ///< a full grid is a few blocks on each
  std::size_t shared_limit = 48 << 10;  ///< bytes that a block may ask for
  int major = 8, minor = 0;             ///< compute capability
};

}  // namespace troupe::kernels::cuda
