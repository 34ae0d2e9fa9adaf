// GPUs: which there are, memory and events on them, and operators run on
// them. Plain C++; where CUDA is not built in, every function answers
// Fault::unavailable (no_cuda.cpp). A Context and what it made belong to one
// thread at a time; contexts of several threads may share a GPU.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "kernels/call.h"
#include "kernels/cuda/device.h"

namespace troupe::kernels::cuda {

/// What a GPU is, as its driver says.
struct DeviceInfo {
  std::string name;
  int ordinal = 0;
  int major = 0, minor = 0;  ///< compute capability
  int multiprocessors = 0;
  Bytes memory, free_memory, l2_cache, shared_per_block;
  double clock_mhz = 0, memory_clock_mhz = 0;  ///< peak; 0 where not told
  int memory_bus_bits = 0;
  int driver_version = 0, runtime_version = 0;  ///< 13000 is 13.0
  std::string cublaslt;  ///< its version, or why it cannot be used
  std::string cudnn;     ///< likewise
  std::string bus_id;
};

/// How many GPUs there are. Errors: unavailable, with the driver's reason.
Result<int> device_count();
Result<DeviceInfo> device_info(int ordinal);
/// Two lines for people.
std::string describe(const DeviceInfo& info);

/// How one GPU reaches another of the same machine.
enum class PeerPath : std::uint8_t {
  nvlink,  ///< directly, with atomics: NVLink, in all machines known to us
  pcie,    ///< directly, without them
  host,    ///< only through the host's memory
};
/// Errors: unavailable for a GPU that is not there.
Result<PeerPath> peer_path(int from, int to);

/// Memory of a GPU or pinned memory of the host, freed with this. Empty when
/// default-made.
class Buffer {
 public:
  static constexpr int kHost = -1;  ///< instead of a GPU's ordinal
  Buffer() = default;
  Buffer(void* data, Bytes size, int device)
      : data_(data), size_(size), device_(device) {}
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept { return swap(other), *this; }
  ~Buffer();

  void* data() const { return data_; }
  Bytes size() const { return size_; }

 private:
  void swap(Buffer& other) noexcept;
  void* data_ = nullptr;
  Bytes size_;
  int device_ = 0;
};

/// A point in a stream, with its time.
class Event {
 public:
  Event() = default;
  explicit Event(void* handle) : handle_(handle) {}
  Event(Event&& other) noexcept : handle_(other.handle_) {
    other.handle_ = nullptr;
  }
  Event& operator=(Event&& other) noexcept;
  ~Event();
  void* handle() const { return handle_; }  ///< cudaEvent_t

 private:
  void* handle_ = nullptr;
};

/// How matrix products choose their algorithm.
struct GemmChoice {
  /// Times this many candidates of cuBLASLt at the first call of each shape
  /// and keeps the fastest; 1 takes its first suggestion untimed.
  int candidates = 1;
  Bytes workspace{32 << 20};  ///< that an algorithm may use
  bool own_kernel = false;    ///< never the library: for comparison
};

/// Who does attention: the own kernels, cuDNN wherever it can, or whichever is
/// faster, found by running both at the first call of each shape. cuDNN is
/// not used where its result differs from that of the own kernels.
enum class AttentionBody : std::uint8_t { fastest, own, cudnn };

/// What the environment's TROUPE_ATTENTION says: own, cudnn, or fastest (also
/// where it is not set). Errors: input for anything else.
Result<AttentionBody> attention_body_from_environment();

struct AttentionChoice {
  AttentionBody body = AttentionBody::fastest;
  /// Gradients are the same bytes every time, as those of the own kernels
  /// are. cuDNN then takes more time and memory.
  bool deterministic = true;
  Bytes workspace{std::int64_t{4} << 30};  ///< that cuDNN may use
};

/// An attention as it was decided: what is known of both bodies. What cuDNN
/// does not take by its own rules has neither time.
struct AttentionReport {
  std::string problem{};      ///< as in `choices`
  double own = 0, cudnn = 0;  ///< seconds; 0: not run
  bool by_cudnn = false;
  std::string refusal{};  ///< why cuDNN cannot do it
};

/// A stream of one GPU with what operators need: library handle, workspace,
/// and the algorithms chosen so far. Movable.
class Context {
 public:
  /// Errors: unavailable (no such GPU, driver too old); cuBLASLt is opened
  /// at the first matrix product and reported then, cuDNN at the first
  /// attention, which the own kernels do where it is absent.
  static Result<Context> create(int ordinal, GemmChoice choice = {},
                                AttentionChoice attention = {});
  Context(Context&&) noexcept;
  Context& operator=(Context&&) noexcept;
  ~Context();

  const Device& device() const;
  void* stream() const;  ///< cudaStream_t

  /// Errors: unavailable when memory is short.
  Result<Buffer> allocate(Bytes size);
  /// Host memory that copies reach without staging.
  Result<Buffer> allocate_pinned(Bytes size);
  /// Lets copies and kernels of this GPU reach memory of another directly,
  /// where `peer_path` is not `host`; nothing happens elsewhere.
  Result<void> reach(int other);
  /// Copies run in the stream's order. `copy_in` and `copy_out` are for
  /// ordinary host memory and have ended when they return; `copy` is between
  /// any of: this GPU's memory, another's, pinned memory; it only begins.
  Result<void> copy_in(void* device, const void* host, Bytes size);
  Result<void> copy_out(void* host, const void* device, Bytes size);
  Result<void> copy(void* to, const void* from, Bytes size);
  Result<void> fill(void* device, std::uint8_t value, Bytes size);

  /// Keeps the GPU busy for `seconds` (at most a hundredth), so that what is
  /// put on the stream meanwhile begins without a gap.
  Result<void> busy(double seconds);
  Result<Event> event();
  Result<void> record(const Event& event);
  /// Work put on the stream from now on waits for `event` (of any stream).
  Result<void> wait(const Event& event);
  /// Whether all work before `event` has ended; never waits.
  Result<bool> reached(const Event& event);
  /// Waits for `to`; seconds of device time between two recorded events.
  Result<double> elapsed(const Event& from, const Event& to);
  Result<void> synchronize();

  /// The algorithms and bodies chosen by timing, one per line, for this kind
  /// of GPU and versions of the libraries; `load_choices` ignores lines of
  /// others.
  std::string choices() const;
  /// Every attention decided so far, in the order of problems.
  std::vector<AttentionReport> attention_report() const;
  Result<void> load_choices(std::string_view text);

  struct State;
  State& state() { return *state_; }

 private:
  explicit Context(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// Puts the call on the context's stream; returns before it has run.
///
/// Requires: every operand in memory of the context's GPU.
/// Errors:   input for what `cpu::run` refuses, before anything runs (but for
///           sequence starts, which lie on the GPU), and for a null
///           `workspace` that is needed; unavailable for a type or size
///           without a kernel; io for what the driver reports (perhaps of an
///           earlier call).
Result<void> run(const Call& call, Context& context);

}  // namespace troupe::kernels::cuda
