// What a machine does at best, measured before anything else.
#pragma once

#include "measure/memory.h"
#include "measure/shapes.h"

namespace troupe::measure {

struct Ceilings {
  double matrix_rate = 1e12;  ///< FLOP/s of the best large product
  double bandwidth = 1e11;    ///< bytes/s, a copy counted read and written
  double launch_s = 1e-6;     ///< of the smallest operator
  /// Seconds no operator beats: work at the two ceilings, and a launch.
  double least(const kernels::OpShape& op) const;
  /// Takes in an operator that took so long, its operands from memory: the
  /// ceilings are the best that was ever seen.
  void raise(const kernels::OpShape& op, double seconds);
};

/// From large products and large copies. No product begins that is expected
/// to take more than `longest_s`.
Result<Ceilings> measure_ceilings(Machine& machine, Memory& memory,
                                  kernels::DType dtype, double longest_s = 0.1);

}  // namespace troupe::measure
