// The time of one operator or of a list of them, out of repeated runs.
#pragma once

#include <functional>
#include <optional>
#include <span>

#include "measure/machine.h"
#include "measure/memory.h"
#include "measure/operands.h"

namespace troupe::measure {

/// Seconds of one run: the median over `samples`, with the relative standard
/// deviation.
struct Timing {
  double median_s = 0;
  double spread = 0;  ///< says nothing of a single sample
  int samples = 0;    ///< 0: cut off before there was one
};

/// How long to look. A sample is as many runs as take `sample_s`.
struct Patience {
  double sample_s = 2e-4;
  double precision = 0.005;  ///< wanted relative standard error
  double limit_s = 0.3;      ///< of samples, warm-up apart
  int least = 5;             ///< samples, within `limit_s`
  int most = 60;
  /// Seconds that are left for all; empty: no end. No run begins that is
  /// expected to take longer.
  std::function<double()> left = {};
};

struct OperatorTiming {
  Timing cold;  ///< operands come from memory: several sets in turn
  /// The same operands again and again; nothing for what was read back from
  /// the database, which keeps the cold time only.
  std::optional<Timing> warm = {};
  /// The sets together exceed the last cache, so that `cold` is.
  bool from_memory = true;
  std::vector<Body> bodies = {};  ///< that can do it, where there is a choice
};

/// How many sets of operands of `size` exceed the last cache twice; 1 where
/// one set does. At most what fits into memory, and a few hundred.
int sets_of(const MachineInfo& machine, Bytes size);

/// Whether so many sets of `size` exceed the last cache that a run finds its
/// operands in memory only.
bool comes_from_memory(const MachineInfo& machine, Bytes size);

/// Times one operator. The first run only warms up, where it may load
/// libraries and choose algorithms, or is short. When the second no longer
/// fits into what is left, `cold` has no samples.
///
/// Errors: input for an operator without a body; unavailable when its
///         operands do not fit into the machine's memory; interrupted.
Result<OperatorTiming> time_operator(Machine& machine, Memory& memory,
                                     const Wanted& wanted,
                                     const Patience& patience);

/// Times a list of operators run one after another, each with operands of its
/// own, as a layer does.
Result<Timing> time_sequence(Machine& machine, Memory& memory,
                             std::span<const Wanted> list,
                             const Patience& patience);

/// Seconds that the runs of `time_operator` will take when one run takes
/// `run_s`, placing of operands apart.
double expected_s(const MachineInfo& machine, double run_s, int sets,
                  const Patience& patience);

/// Median, spread and count of samples in seconds; at least one.
Timing summary(std::span<const double> samples);

}  // namespace troupe::measure
