// Whether a device kind can have been as fast as a row says.
#pragma once

#include <optional>
#include <string>

#include "clusters/cluster.h"
#include "profiles/rows.h"

namespace troupe::profiles {

/// Why the kind cannot have done this: more dense FLOP/s than 1.25 times its
/// peak, or more bytes/s than its memory where no cache explains it. The
/// margin is for clocks above the datasheet's (at most a fifth on any card)
/// and for rounded times. Nothing where the kind's peak is not known.
std::optional<std::string> problem_on(const OperatorRow& row,
                                      const clusters::DeviceKind& kind);
/// Of a layer the products with its weights are counted, nothing else.
std::optional<std::string> problem_on(const LayerRow& row,
                                      const clusters::DeviceKind& kind);

}  // namespace troupe::profiles
