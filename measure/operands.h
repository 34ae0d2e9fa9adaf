// Operands for an operator that is to be timed: which arrays it needs, how
// large, and with what inside.
#pragma once

#include <functional>
#include <vector>

#include "base/result.h"
#include "kernels/call.h"
#include "measure/shapes.h"

namespace troupe::measure {

/// What an array holds. Values matter: products of zeros are faster on GPUs
/// than products of random numbers, for they draw less power.
enum class Fill : std::uint8_t {
  normal,  ///< standard normal numbers of the operand's type
  ones,    ///< of the operand's type
  zeros,
  tokens,     ///< int32, uniform in [0, limit)
  positions,  ///< int32, 0, 1, 2, ... repeated after limit
  starts,     ///< int32, 0, limit, 2 limit, ...
};

struct Operand {
  Bytes size;
  kernels::DType dtype = kernels::DType::bf16;
  Fill fill = Fill::normal;
  std::int64_t limit = 0;
  std::function<void(kernels::Call&, void*)> bind;
};

/// A call whose pointers wait for its operands.
struct CallPlan {
  kernels::Call call;
  std::vector<Operand> operands;
  Bytes size() const;  ///< of all operands
};

/// Errors: input for an operator without a body (fp16, fp8, a product over
///         2^31 rows).
Result<CallPlan> plan_call(const Wanted& wanted);

/// The bytes of an operand, by a generator that `seed` starts.
std::vector<std::byte> contents(const Operand& operand, std::uint64_t seed);

}  // namespace troupe::measure
