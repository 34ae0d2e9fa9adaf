// A GPU as a rank's device. Several ranks may share one.
#pragma once

#include <memory>

#include "exec/device.h"

namespace troupe::exec {

struct CudaDeviceOptions {
  int ordinal = 0;
  /// Candidates of cuBLASLt that are timed at the first product of a shape.
  int gemm_candidates = 8;
};

/// A stream of a GPU, with memory that is kept for reuse and given back when
/// there is none left or the device ends. Work is put on the stream and done
/// in its order; `copy_in`, `copy_out` and `finish` wait for it. Memory given
/// to `copy`, `copy_in` and `copy_out` may as well be the host's.
///
/// Errors: unavailable, without CUDA or such a GPU; later calls infeasible,
///         when it has no memory left.
Result<std::unique_ptr<Device>> make_cuda_device(
    const CudaDeviceOptions& options);

}  // namespace troupe::exec
