// What a strided copy really is: dimensions of one element gone, neighbours
// that are one run joined, and which of three ways moves it.
#pragma once

#include <array>
#include <cstdint>

#include "kernels/call.h"

namespace troupe::kernels::cuda {

struct CopyDimension {
  std::int64_t size = 1, from = 0, to = 0;  ///< strides in elements
};

enum class CopyWay : std::uint8_t {
  nothing,    ///< no element
  rows,       ///< both sides step by `inner.from` and `inner.to` in a row
  transpose,  ///< `inner` is contiguous in `to`, `across` in `from`
};

/// Shapes: outer[0] is the slowest; unused ones have size 1.
struct CopyPlan {
  CopyWay way = CopyWay::nothing;
  CopyDimension inner, across;
  std::array<CopyDimension, 3> outer;
  std::int64_t outer_size() const {
    return outer[0].size * outer[1].size * outer[2].size;
  }
  /// True where `width` elements from each multiple of `width` are together.
  bool aligned_to(std::int64_t width) const;
};

CopyPlan plan_copy(const CopyBlock& call);

}  // namespace troupe::kernels::cuda
