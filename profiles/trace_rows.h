// What a trace of a GPU program says about operators and collectives: the
// kernels of one call added up, repeated calls made one row, and everything
// that is no row counted by its reason.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "profiles/torch_ops.h"
#include "profiles/trace_samples.h"

namespace troupe::profiles {

/// One kernel (or copy on the device) and the calls that it was made in.
struct TraceKernel {
  std::string device;     ///< our name
  std::string_view name;  ///< of the kernel
  double seconds = 0;
  /// Calls that contain its launch, the outermost first: indices of `calls`.
  std::vector<std::size_t> around;
};

class TraceRows {
 public:
  /// `calls` must outlive this.
  explicit TraceRows(const std::vector<TorchCall>& calls) : calls_(calls) {}

  void add(const TraceKernel& kernel);
  void add(const TraceCollective& collective);
  /// A copy within a device's memory.
  void add_device_copy(const std::string& device, std::int64_t bytes,
                       double seconds);
  /// A kernel that is no row.
  void leave_out(const std::string& reason, double seconds);
  /// A copy from or to the host's memory.
  void add_host_copy(const CopyRow& copy, double seconds);

  /// Everything that was added.
  TraceSamples finish();

 private:
  struct Owner {
    std::string device;
    double seconds = 0;
    double longest = 0;
    std::string longest_kernel;
    std::int64_t elements = 0;  ///< of an optimizer step of many kernels
    int kernels = 0;
  };
  /// The call that is an operator, or nothing.
  std::optional<std::size_t> owner_of(const std::vector<std::size_t>& around);
  void close_owners();
  void close_parts();
  void close(std::size_t call, const Owner& owner);

  const std::vector<TorchCall>& calls_;
  std::map<std::size_t, Owner> owners_;
  std::map<std::pair<std::string, TorchPart>, std::vector<double>> parts_;
  TraceSamples samples_;
};

/// PyTorch's and NCCL's names of collectives ("_allgather_base",
/// "ncclAllReduce"); nothing for others.
std::optional<clusters::Collective> collective_named(std::string_view name);

}  // namespace troupe::profiles
