// What makes a call one that can be performed; memory is not looked at but for
// the sequence starts of attention.
#pragma once

#include "base/result.h"
#include "kernels/call.h"

namespace troupe::kernels::cpu {

/// The first thing wrong with the call, naming operator, field and value.
Result<void> check_call(const Call& call);

}  // namespace troupe::kernels::cpu
