// A device that runs calls and says how long they took.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "kernels/call.h"
#include "profiles/cost.h"

namespace troupe::measure {

struct MachineInfo {
  std::string device;        ///< device kind as the database names it
  std::string architecture;  ///< "hopper", "cpu"
  std::string full_name;     ///< as the maker spells it
  std::string libraries;     ///< versions of all that ran
  std::string clocks;        ///< as read when measuring began, may be empty
  Bytes memory;              ///< that arrays may take
  Bytes cache;               ///< of the last level
  int devices = 1;           ///< of this kind in the machine
};

/// An array in the machine's memory.
class Array {
 public:
  virtual ~Array() = default;
  virtual void* data() = 0;
};

/// Between which memories a copy goes.
using Route = profiles::CopyRoute;

/// A device name of lower-case words out of a maker's name, after `prefix`:
/// "cpu", "AMD EPYC 7763" becomes "cpu-amd-epyc-7763".
std::string device_slug(std::string_view prefix, std::string_view name);

class Machine {
 public:
  virtual ~Machine() = default;
  virtual const MachineInfo& info() const = 0;

  /// Errors: unavailable when memory is short.
  virtual Result<std::unique_ptr<Array>> allocate(Bytes size) = 0;
  virtual Result<void> upload(Array& to, std::span<const std::byte> from) = 0;

  /// Runs the calls in order and waits for their end.
  virtual Result<void> run(std::span<const kernels::Call> calls) = 0;
  /// Seconds between the begin of the first call and the end of the last, on
  /// the device's own clock where it has one.
  virtual Result<double> time(std::span<const kernels::Call> calls) = 0;
  /// Seconds of one copy; nothing where the route does not exist.
  virtual Result<double> time_copy(Route route, Bytes size) = 0;
  virtual bool has(Route route) const = 0;
};

/// The processor at hand, one thread. fp32 and fp64 (bf16 as storage).
std::unique_ptr<Machine> cpu_machine();
/// GPU `ordinal`.
///
/// Errors: unavailable without CUDA, with the reason.
Result<std::unique_ptr<Machine>> cuda_machine(int ordinal);
/// N of "cuda:N", 0 of "cuda".
///
/// Errors: input for anything else.
Result<int> ordinal_of(std::string_view name);
/// "cpu", "cuda" or "cuda:N".
Result<std::unique_ptr<Machine>> open_machine(std::string_view name);

}  // namespace troupe::measure
