// What makes a call one that can be performed: the one validation in front of
// every body. Operands are not looked at, but for the sequence starts of
// attention where they lie in host memory.
#pragma once

#include "base/result.h"
#include "kernels/call.h"

namespace troupe::kernels {

/// Where the operands of a call lie.
enum class Side : std::uint8_t {
  host,
  /// Of a GPU: sequence starts cannot be read, so that the caller answers for
  /// them; scratch memory is needed; which types have a kernel is the
  /// kernels' answer (unavailable).
  device,
};

/// The first thing wrong with the call, naming operator, field and value.
Result<void> check_call(const Call& call, Side side);

}  // namespace troupe::kernels
