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
  std::string clocks;        ///< the peaks as the driver says, may be empty
  Bytes memory;              ///< that arrays may take
  Bytes cache;               ///< of the last level
  Bytes largest_copy{std::int64_t{1} << 30};  ///< worth measuring
  /// The first run of a call may load libraries and choose algorithms.
  bool prepares_at_first_run = true;
  int devices = 1;  ///< of this kind in the machine
};

/// An array in the machine's memory, aligned to 256 bytes.
class Array {
 public:
  virtual ~Array() = default;
  virtual void* data() = 0;
};

/// Between which memories a copy goes.
using Route = profiles::CopyRoute;

/// What the last cache holds when a sample begins.
enum class Caches : std::uint8_t {
  cold,  ///< nothing that the calls need, where the machine can see to it
  warm,  ///< what the calls need, as far as it fits
};

/// Clock of the cores in MHz over the samples so far; 0 where not told.
struct Clocks {
  double least = 0, median = 0;
  int samples = 0;
};

/// What one of several bodies takes for a call.
struct Body {
  std::string name;
  double time_s = 0;  ///< 0: it did not run
  bool chosen = false;
  std::string refusal = {};  ///< why it cannot do the call
};

/// A device name of lower-case words out of a maker's name, after `prefix`:
/// "cpu", "AMD EPYC 7763" becomes "cpu-amd-epyc-7763".
std::string device_slug(std::string_view prefix, std::string_view name);

class Machine {
 public:
  virtual ~Machine() = default;
  virtual const MachineInfo& info() const = 0;

  /// Errors: unavailable when memory is short.
  virtual Result<std::unique_ptr<Array>> allocate(Bytes size) = 0;
  /// Replaces `array` (null: none yet) by one of `size`; contents are lost.
  /// Errors: as `allocate`; there is no array then.
  virtual Result<void> enlarge(std::unique_ptr<Array>& array, Bytes size);
  /// From the host, to within an array.
  virtual Result<void> upload(void* to, std::span<const std::byte> from) = 0;
  /// Within the machine's memory, in order with calls; may only begin.
  virtual Result<void> copy(void* to, const void* from, Bytes size) = 0;
  virtual Result<void> zero(void* to, Bytes size) = 0;
  /// Waits for all that was begun.
  /// Errors: what went wrong; the machine is of no use any more then.
  virtual Result<void> settle() = 0;

  /// Runs the calls in order. Seconds between the begin of the first and the
  /// end of the last, on the device's own clock where it has one; a host that
  /// gives out calls more slowly than they run is not in it, as far as the
  /// machine can hide it.
  ///
  /// Errors: interrupted between two calls.
  virtual Result<double> time(std::span<const kernels::Call> calls,
                              Caches caches) = 0;
  /// Seconds of work after which the device runs at its clock: 0 where it
  /// has just worked or has no such thing.
  virtual double ramp_s() const { return 0; }
  /// Seconds of one copy; nothing where the route does not exist.
  virtual Result<double> time_copy(Route route, Bytes size) = 0;
  virtual bool has(Route route) const = 0;
  /// Gives back what `time_copy` keeps.
  virtual void release_copies() {}

  virtual Clocks clocks() const { return {}; }
  /// Of a call that has run, where there is a choice; empty elsewhere.
  virtual std::vector<Body> bodies(const kernels::Call& /*call*/) const {
    return {};
  }
  /// What was chosen by timing, for a later process with the same libraries.
  virtual std::string choices() const { return {}; }
  virtual Result<void> load_choices(std::string_view /*text*/) { return {}; }
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
