#include <cuda_runtime.h>

#include <utility>

#include "kernels/check.h"
#include "kernels/cuda.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/state.h"

namespace troupe::kernels::cuda {
namespace {

cudaStream_t stream_of(const Device& device) {
  return static_cast<cudaStream_t>(device.stream);
}

cudaEvent_t handle_of(const Event& event) {
  return static_cast<cudaEvent_t>(event.handle());
}

// Allocations and events are made on the thread's current GPU.
Result<void> choose(const Device& device) {
  return checked(cudaSetDevice(device.ordinal), "choosing a GPU");
}

std::size_t count(Bytes size) { return static_cast<std::size_t>(size.v); }

}  // namespace

Context::State::~State() {
  if (device.stream == nullptr) return;
  (void)cudaSetDevice(device.ordinal);
  (void)cudaStreamSynchronize(stream_of(device));
  // The libraries' handles end before the stream that they use.
  attention = {};
  lt.reset();
  (void)cudaStreamDestroy(stream_of(device));
}

Context::Context(std::unique_ptr<State> state) : state_(std::move(state)) {}
Context::Context(Context&&) noexcept = default;
Context& Context::operator=(Context&&) noexcept = default;
Context::~Context() = default;

Result<Context> Context::create(int ordinal, GemmChoice choice,
                                AttentionChoice attention) {
  TRY(const DeviceInfo info, device_info(ordinal));
  if (info.major < 8) {
    return fail(Fault::unavailable,
                info.name + " is older than Ampere (compute capability 8.0)");
  }
  auto state = std::make_unique<State>();
  state->device.ordinal = ordinal;
  state->device.multiprocessors = info.multiprocessors;
  state->device.shared_limit = count(info.shared_per_block);
  state->device.major = info.major;
  state->device.minor = info.minor;
  state->gpu = info.name;
  state->choice = choice;
  state->attention.choice = attention;
  TRY_DO(choose(state->device));
  cudaStream_t stream = nullptr;
  TRY_DO(checked(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking),
                 "creating a stream"));
  state->device.stream = stream;
  return Context(std::move(state));
}

const Device& Context::device() const { return state_->device; }
void* Context::stream() const { return state_->device.stream; }

Result<Buffer> Context::allocate(Bytes size) {
  if (size.v < 0) return fail(Fault::input, "a negative size of memory");
  if (size.v == 0) return Buffer();
  TRY_DO(choose(device()));
  void* data = nullptr;
  const auto code = cudaMalloc(&data, count(size));
  if (code == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();
    std::size_t free = 0, total = 0;
    (void)cudaMemGetInfo(&free, &total);
    return fail(Fault::unavailable,
                "GPU " + std::to_string(device().ordinal) + " has " +
                    std::to_string(free >> 20) + " MiB free, " +
                    std::to_string(size.v >> 20) + " MiB were asked for");
  }
  TRY_DO(checked(code, "allocating GPU memory"));
  return Buffer(data, size, device().ordinal);
}

Result<Buffer> Context::allocate_pinned(Bytes size) {
  if (size.v < 0) return fail(Fault::input, "a negative size of memory");
  if (size.v == 0) return Buffer();
  TRY_DO(choose(device()));
  void* data = nullptr;
  // Portable: pinned for every GPU of the process.
  const auto code = cudaHostAlloc(&data, count(size), cudaHostAllocPortable);
  if (code == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();
    return fail(Fault::unavailable,
                "the host cannot pin " + std::to_string(size.v >> 20) + " MiB");
  }
  TRY_DO(checked(code, "allocating pinned memory"));
  return Buffer(data, size, Buffer::kHost);
}

Result<void> Context::reach(int other) {
  if (other == device().ordinal) return {};
  TRY(const PeerPath path, peer_path(device().ordinal, other));
  if (path == PeerPath::host) return {};
  TRY_DO(choose(device()));
  const auto code = cudaDeviceEnablePeerAccess(other, 0);
  if (code != cudaErrorPeerAccessAlreadyEnabled) {
    return checked(code, "reaching another GPU's memory");
  }
  (void)cudaGetLastError();
  return {};
}

Result<void> Context::copy_in(void* device, const void* host, Bytes size) {
  if (size.v == 0) return {};
  TRY_DO(checked(cudaMemcpyAsync(device, host, count(size), cudaMemcpyDefault,
                                 stream_of(state_->device)),
                 "copying to the GPU"));
  return synchronize();
}

Result<void> Context::copy_out(void* host, const void* device, Bytes size) {
  if (size.v == 0) return {};
  TRY_DO(checked(cudaMemcpyAsync(host, device, count(size), cudaMemcpyDefault,
                                 stream_of(state_->device)),
                 "copying from the GPU"));
  return synchronize();
}

Result<void> Context::copy(void* to, const void* from, Bytes size) {
  if (size.v == 0) return {};
  return checked(cudaMemcpyAsync(to, from, count(size), cudaMemcpyDefault,
                                 stream_of(state_->device)),
                 "copying on the GPU");
}

Result<void> Context::fill(void* device, std::uint8_t value, Bytes size) {
  if (size.v == 0) return {};
  TRY_DO(choose(state_->device));
  return checked(
      cudaMemsetAsync(device, value, count(size), stream_of(state_->device)),
      "filling GPU memory");
}

Result<Event> Context::event() {
  TRY_DO(choose(device()));
  cudaEvent_t handle = nullptr;
  TRY_DO(checked(cudaEventCreate(&handle), "creating an event"));
  return Event(handle);
}

Result<void> Context::record(const Event& event) {
  return checked(cudaEventRecord(handle_of(event), stream_of(device())),
                 "recording an event");
}

Result<void> Context::wait(const Event& event) {
  return checked(cudaStreamWaitEvent(stream_of(device()), handle_of(event), 0),
                 "waiting for an event");
}

Result<bool> Context::reached(const Event& event) {
  const auto code = cudaEventQuery(handle_of(event));
  if (code == cudaErrorNotReady) {
    (void)cudaGetLastError();
    return false;
  }
  TRY_DO(checked(code, "asking a GPU how far it is"));
  return true;
}

Result<double> Context::elapsed(const Event& from, const Event& to) {
  TRY_DO(checked(cudaEventSynchronize(handle_of(to)), "waiting for the GPU"));
  float milliseconds = 0;
  TRY_DO(checked(
      cudaEventElapsedTime(&milliseconds, handle_of(from), handle_of(to)),
      "reading the time between events"));
  return static_cast<double>(milliseconds) * 1e-3;
}

Result<void> Context::synchronize() {
  return checked(cudaStreamSynchronize(stream_of(device())),
                 "waiting for the GPU");
}

Result<void> run(const Call& call, Context& context) {
  if (const auto* gemm = std::get_if<Gemm>(&call)) {
    TRY_DO(check_call(call, Side::device));
    TRY_DO(choose(context.device()));
    return run_gemm(*gemm, context);
  }
  if (const auto* forward = std::get_if<AttentionForward>(&call)) {
    TRY_DO(check_call(call, Side::device));
    TRY_DO(choose(context.device()));
    return run_attention(*forward, context);
  }
  if (const auto* backward = std::get_if<AttentionBackward>(&call)) {
    TRY_DO(check_call(call, Side::device));
    TRY_DO(choose(context.device()));
    return run_attention(*backward, context);
  }
  TRY_DO(choose(context.device()));
  return launch_any(call, context.device());
}

}  // namespace troupe::kernels::cuda
