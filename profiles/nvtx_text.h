// What NVTX ranges say: PyTorch's, NCCL's, and a short form of our own.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "profiles/torch_ops.h"

namespace troupe::profiles {

/// A range as a call. PyTorch's emit_nvtx(record_shapes=True) writes
/// "aten::mm, seq = 3, sizes = [[16, 32], [32, 8]]"; without sizes, and for any
/// other text, the call has only a name.
TorchCall read_nvtx_call(std::string_view text);

/// Our own: "op=gemm dtype=bf16 dims=1x16x8x32 [causal=1] [gated=1]", sizes as
/// in kernels/operator.h. Nothing for any other text.
std::optional<kernels::OpShape> read_nvtx_operator(std::string_view text);

/// What NCCL adds to its ranges.
struct NcclPayload {
  std::string communicator;
  std::int64_t bytes = 0;  ///< 0 where it is not said
  int ranks = 0;
  int rank = -1;
};
/// From the JSON that nsys makes of it; nothing when it is none.
std::optional<NcclPayload> read_nccl_payload(std::string_view json);

}  // namespace troupe::profiles
