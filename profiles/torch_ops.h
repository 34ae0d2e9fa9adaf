// PyTorch's operators as ours: shapes from the sizes of a recorded call.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/operator.h"
#include "profiles/gather.h"

namespace troupe::profiles {

/// A call as a profiler of PyTorch recorded it. Arguments by position.
struct TorchCall {
  std::string name;  ///< "aten::addmm"
  /// Sizes of the tensors; empty for other arguments and scalars.
  std::vector<std::vector<std::int64_t>> sizes;
  /// Elements of all tensors of an argument that is a list of them, else 0.
  std::vector<std::int64_t> list_elements;
  std::vector<std::string> types;   ///< "c10::BFloat16"; may be missing
  std::vector<std::string> values;  ///< of other arguments; may be missing
  std::optional<kernels::OpShape> op = {};  ///< where the record says it
};

/// One of our operators, or one of the calls that together make it up.
struct TorchPart {
  kernels::OpShape op;
  int part = 0;
  int parts = 1;
  auto operator<=>(const TorchPart&) const = default;
};

/// What a call is, or why it is none of ours.
struct TorchMatch {
  std::optional<TorchPart> part;
  std::string reason;
};

/// How much a name says: `wrapper` calls others that say more, and counts only
/// where those are not recorded.
enum class TorchName : std::uint8_t { unknown, wrapper, op };
TorchName torch_name(const TorchCall& call);

/// `kernel` is what its longest kernel computes in, where the call does not
/// say; it also tells TF32 from FP32.
TorchMatch match_torch(const TorchCall& call,
                       std::optional<kernels::DType> kernel);

/// The number format in the name of a CUDA kernel.
std::optional<kernels::DType> kernel_dtype(std::string_view kernel);
/// "c10::BFloat16", "float", "Half", ...
std::optional<kernels::DType> torch_dtype(std::string_view type);

}  // namespace troupe::profiles
