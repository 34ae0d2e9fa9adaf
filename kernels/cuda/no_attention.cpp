// Stands where attention kernels are not there.
#include "kernels/cuda/launch.h"

namespace troupe::kernels::cuda {

Result<void> launch(const AttentionForward& call, const Device& /*device*/) {
  return no_kernel("attention_forward", call.dtype);
}
Result<void> launch(const AttentionBackward& call, const Device& /*device*/) {
  return no_kernel("attention_backward", call.dtype);
}
Result<void> launch(const AttentionMerge& call, const Device& /*device*/) {
  return no_kernel("attention_merge", call.dtype);
}

}  // namespace troupe::kernels::cuda
