// What every reader of models takes for possible. For the sources of this
// folder only.
#pragma once

#include "base/json.h"

namespace troupe::models {

inline constexpr Limits kLayers{1, 1 << 14};
inline constexpr RealLimits kEpsilon{1e-12, 0.1};
inline constexpr RealLimits kRotaryBase{1, 1e12};
inline constexpr RealLimits kScaling{1e-3, 1e9};

}  // namespace troupe::models
