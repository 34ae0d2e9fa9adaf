#include "measure/ceilings.h"

#include <algorithm>

#include "measure/timing.h"

namespace troupe::measure {
namespace {

constexpr int kCopies = 5;
constexpr std::int64_t kLeastCopy = std::int64_t{64} << 20;

/// Seconds of a square product of this size.
Result<double> product_time(Machine& machine, Memory& memory, std::int64_t size,
                            kernels::DType dtype) {
  const Wanted wanted{kernels::gemm(size, size, size, dtype), Product::forward,
                      "ceiling", 1};
  Patience patience;
  patience.limit_s = 0.05;
  patience.least = 3;
  TRY(const Timing t, time_sequence(machine, memory, {&wanted, 1}, patience));
  return t.median_s;
}

Result<double> copy_bandwidth(Machine& machine) {
  const MachineInfo& info = machine.info();
  const std::int64_t most =
      std::max(std::min(info.memory.v / 4, info.largest_copy.v), kLeastCopy);
  const std::int64_t large = std::clamp(8 * info.cache.v, kLeastCopy, most);
  double best = 0;
  for (int i = 0; i < kCopies; ++i) {
    TRY(const double t, machine.time_copy(Route::device, {large}));
    best = std::max(best, 2 * static_cast<double>(large) / t);
  }
  return best;
}

}  // namespace

double Ceilings::least(const kernels::OpShape& op) const {
  const double matrix = kernels::uses_matrix_units(op.kind)
                            ? kernels::flops(op).v / matrix_rate
                            : 0;
  const double memory = static_cast<double>(kernels::traffic(op).v) / bandwidth;
  return std::max(matrix, memory) + launch_s;
}

void Ceilings::raise(const kernels::OpShape& op, double seconds) {
  if (kernels::uses_matrix_units(op.kind)) {
    matrix_rate = std::max(matrix_rate, kernels::flops(op).v / seconds);
  }
  bandwidth = std::max(bandwidth,
                       static_cast<double>(kernels::traffic(op).v) / seconds);
}

Result<Ceilings> measure_ceilings(Machine& machine, Memory& memory,
                                  kernels::DType dtype, double longest_s) {
  Ceilings top;
  top.matrix_rate = 0;
  for (std::int64_t size = 128; size <= 8192; size *= 2) {
    const auto t = product_time(machine, memory, size, dtype);
    if (!t) {
      const bool full = t.error().fault == Fault::unavailable;
      if (full && top.matrix_rate > 0) break;
      return fail(t.error());
    }
    const auto n = static_cast<double>(size);
    top.matrix_rate = std::max(top.matrix_rate, 2 * n * n * n / *t);
    if (8 * *t > longest_s) break;  // what the next size would take
  }
  TRY(top.bandwidth, copy_bandwidth(machine));
  const Wanted tiny{
      kernels::rows_by_columns(kernels::OpKind::add, 1, 32, dtype),
      Product::forward, "launch", 1};
  TRY(const OperatorTiming t, time_operator(machine, memory, tiny, {}));
  top.launch_s = t.warm->median_s;
  return top;
}

}  // namespace troupe::measure
