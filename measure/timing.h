// The time of one operator or of a list of them, out of repeated runs.
#pragma once

#include <optional>
#include <span>

#include "measure/machine.h"
#include "measure/operands.h"

namespace troupe::measure {

/// Seconds of one run: the median over `samples`, with the relative standard
/// deviation.
struct Timing {
  double median_s = 0;
  double spread = 0;
  int samples = 0;
};

/// How long to look. A sample is as many runs as take `sample_s`.
struct Patience {
  double sample_s = 2e-4;
  double precision = 0.005;  ///< wanted relative standard error
  double limit_s = 0.3;      ///< of one operator, warm-up apart
  int least = 5;
  int most = 60;
};

struct OperatorTiming {
  Timing cold;  ///< operands come from memory: several sets in turn
  Timing warm;  ///< the same operands again and again
};

/// Times one operator.
///
/// Errors: input for an operator without a body; unavailable when its
///         operands do not fit into the machine's memory.
Result<OperatorTiming> time_operator(Machine& machine, const Wanted& wanted,
                                     const Patience& patience);

/// Times a list of operators run one after another, each with operands of its
/// own, as a layer does.
Result<Timing> time_sequence(Machine& machine, std::span<const Wanted> list,
                             const Patience& patience);

/// Median, spread and count of samples in seconds; at least one.
Timing summary(std::span<const double> samples);

}  // namespace troupe::measure
