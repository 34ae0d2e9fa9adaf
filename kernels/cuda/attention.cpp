// Which kernels do an attention call. Plain C++.
#include "kernels/cuda/attention_launch.h"
#include "kernels/cuda/launch.h"

namespace troupe::kernels::cuda {
namespace {

bool has_kernel(DType dtype) {
  return dtype == DType::bf16 || dtype == DType::fp32;
}

bool on_matrix_units(DType dtype, const AttentionShape& shape) {
  return dtype == DType::bf16 && shape.head_dim <= kWidestTile;
}

}  // namespace

Result<void> launch(const AttentionForward& call, const Device& device) {
  if (!has_kernel(call.dtype)) {
    return no_kernel("attention_forward", call.dtype);
  }
  TRY(AttentionShape shape, attention_shape(call.sizes));
  if (!on_matrix_units(call.dtype, shape)) {
    return launch_plain(call, shape, device);
  }
  shape.aligned = aligned_rows(shape, {call.q, call.k, call.v, call.out});
  return launch_tiles(call, shape, device);
}

Result<void> launch(const AttentionBackward& call, const Device& device) {
  if (!has_kernel(call.dtype)) {
    return no_kernel("attention_backward", call.dtype);
  }
  TRY(AttentionShape shape, attention_shape(call.sizes));
  TRY_DO(launch_delta(call, shape, device));
  if (!on_matrix_units(call.dtype, shape)) {
    return launch_plain(call, shape, device);
  }
  shape.aligned = aligned_rows(
      shape, {call.q, call.k, call.v, call.d_out, call.dq, call.dk, call.dv});
  TRY_DO(launch_key_tiles(call, shape, device));
  return launch_query_tiles(call, shape, device);
}

}  // namespace troupe::kernels::cuda
