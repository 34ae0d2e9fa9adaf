// The events of a PyTorch profiler (Kineto) trace that say what ran.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "profiles/torch_ops.h"

namespace troupe::profiles {

/// A collective as `record_param_comms` describes it.
struct KinetoComms {
  std::string name;  ///< "allreduce"
  std::int64_t in_elements = 0;
  std::int64_t out_elements = 0;
  std::string dtype;
  int group = 0;
  std::string ranks;  ///< "[0, 1, 2, 3]", shortened with "..." when long
  std::string group_name;
  bool uneven = false;  ///< its message is split unevenly
};

/// On the GPU: a kernel, or a copy.
struct KinetoKernel {
  std::string name;
  double micros = 0;
  std::uint64_t launch = 0;    ///< joins it to the call that launched it
  std::uint64_t external = 0;  ///< the operator, in newer traces
  double start = 0;
  int device = -1;
  std::uint64_t process = 0;  ///< of the event: mostly the device's number
  std::int64_t bytes = -1;    ///< of a copy
  bool copy = false;
  std::optional<std::size_t> comms = {};  ///< index of `comms`
};

/// A call of CUDA's runtime or driver.
struct KinetoLaunch {
  std::uint64_t process = 0;
  std::uint64_t thread = 0;
  double at = 0;
  double end = 0;
};

/// An operator or a mark, of `KinetoTrace::calls` by index.
struct KinetoSpan {
  std::uint64_t process = 0;
  std::uint64_t thread = 0;
  double start = 0;
  double micros = 0;
  std::uint64_t external = 0;
  std::optional<std::size_t> comms = {};
};

struct KinetoTrace {
  std::vector<TorchCall> calls;
  std::vector<KinetoSpan> spans;  ///< parallel to `calls`
  std::vector<KinetoKernel> kernels;
  /// Several where processes of a merged trace share a number.
  std::map<std::uint64_t, std::vector<KinetoLaunch>> launches;
  std::vector<KinetoComms> comms;
  std::map<int, std::string> devices;  ///< names by number
  int world = 0;
  int rank = -1;           ///< -1 when it does not say
  std::string backend;     ///< of its distributed run
  std::string libraries;   ///< "CUDA 12.4, NCCL 2.21.5"
  std::int64_t began = 0;  ///< seconds since 1970; 0 when unknown
  int broken = 0;          ///< events without a finite start or duration
};

/// Whether a JSON text looks like one.
bool looks_like_kineto(std::string_view text);

/// Reads the events one by one, so that a trace needs little more memory than
/// its text.
///
/// Errors: input for what is no JSON, with line and column.
Result<KinetoTrace> read_kineto_events(std::string_view text,
                                       const std::string& name);

}  // namespace troupe::profiles
