#include "kernels/cuda/launch.h"

#include <string>

#include "kernels/check.h"

namespace troupe::kernels::cuda {

Result<void> launch_any(const Call& call, const Device& device) {
  TRY_DO(check_call(call, Side::device));
  return std::visit([&](const auto& c) { return launch(c, device); }, call);
}

tl::unexpected<Error> no_kernel(const char* operation, DType dtype) {
  return fail(Fault::unavailable,
              std::string("no CUDA kernel of ") + operation + " for " +
                  std::string(name_of(dtype)) +
                  "; use bf16 or fp32, or run it on the CPU");
}

}  // namespace troupe::kernels::cuda
