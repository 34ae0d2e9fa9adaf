#include <fmt/format.h>

#include <algorithm>

#include "kernels/cuda.h"
#include "measure/machine.h"
#include "profiles/devices.h"

namespace troupe::measure {
namespace {

namespace cuda = kernels::cuda;

// Candidates that are timed for each new matrix product.
constexpr int kCandidates = 8;
// What stays free for the library's workspace and the driver.
constexpr std::int64_t kReserve = std::int64_t{2} << 30;

class CudaArray final : public Array {
 public:
  explicit CudaArray(cuda::Buffer buffer) : buffer_(std::move(buffer)) {}
  void* data() override { return buffer_.data(); }

 private:
  cuda::Buffer buffer_;
};

std::string version(int number) {
  return fmt::format("{}.{}", number / 1000, number % 1000 / 10);
}

MachineInfo info_of(const cuda::DeviceInfo& device, int devices) {
  MachineInfo info;
  info.full_name = device.name;
  info.device = profiles::device_alias(device.name)
                    .value_or(device_slug("", device.name));
  info.architecture = std::string(profiles::architecture_of(info.device));
  if (info.architecture.empty()) {
    info.architecture = fmt::format("sm_{}{}", device.major, device.minor);
  }
  info.libraries = fmt::format("CUDA {}, driver {}, cuBLASLt {}, cuDNN {}",
                               version(device.runtime_version),
                               version(device.driver_version), device.cublaslt,
                               device.cudnn);
  if (device.clock_mhz > 0) {
    info.clocks = fmt::format("up to {:.0f} MHz, memory {:.0f} MHz",
                              device.clock_mhz, device.memory_clock_mhz);
  }
  info.memory = {std::max<std::int64_t>(device.free_memory.v - kReserve, 0)};
  info.cache = device.l2_cache;
  info.devices = devices;
  return info;
}

class CudaMachine final : public Machine {
 public:
  CudaMachine(MachineInfo info, cuda::Context context, cuda::Event from,
              cuda::Event to)
      : info_(std::move(info)),
        context_(std::move(context)),
        from_(std::move(from)),
        to_(std::move(to)) {}

  const MachineInfo& info() const override { return info_; }

  Result<std::unique_ptr<Array>> allocate(Bytes size) override {
    TRY(cuda::Buffer buffer, context_.allocate(size));
    return std::make_unique<CudaArray>(std::move(buffer));
  }

  Result<void> upload(Array& to, std::span<const std::byte> from) override {
    return context_.copy_in(to.data(), from.data(),
                            {static_cast<std::int64_t>(from.size())});
  }

  Result<void> run(std::span<const kernels::Call> calls) override {
    for (const kernels::Call& call : calls) {
      TRY_DO(cuda::run(call, context_));
    }
    return context_.synchronize();
  }

  Result<double> time(std::span<const kernels::Call> calls) override {
    TRY_DO(context_.record(from_));
    for (const kernels::Call& call : calls) {
      TRY_DO(cuda::run(call, context_));
    }
    TRY_DO(context_.record(to_));
    return context_.elapsed(from_, to_);
  }

  Result<double> time_copy(Route route, Bytes size) override {
    check(has(route), "one GPU has no peers");
    if (copy_from_.size() < size) {
      copy_from_ = cuda::Buffer();
      copy_to_ = cuda::Buffer();
      TRY(copy_from_, context_.allocate(size));
      TRY(copy_to_, context_.allocate(size));
    }
    if (route != Route::device && host_.size() < size) {
      host_ = cuda::Buffer();
      TRY(host_, context_.allocate_pinned(size));
    }
    void* to = route == Route::device_to_host ? host_.data() : copy_to_.data();
    const void* from =
        route == Route::host_to_device ? host_.data() : copy_from_.data();
    TRY_DO(context_.record(from_));
    TRY_DO(context_.copy(to, from, size));
    TRY_DO(context_.record(to_));
    return context_.elapsed(from_, to_);
  }

  bool has(Route route) const override {
    return route == Route::device || route == Route::host_to_device ||
           route == Route::device_to_host;
  }

 private:
  MachineInfo info_;
  cuda::Context context_;
  cuda::Event from_, to_;
  cuda::Buffer copy_from_, copy_to_;
  cuda::Buffer host_;
};

}  // namespace

Result<std::unique_ptr<Machine>> cuda_machine(int ordinal) {
  TRY(const cuda::DeviceInfo device, cuda::device_info(ordinal));
  TRY(const int devices, cuda::device_count());
  cuda::GemmChoice choice;
  choice.candidates = kCandidates;
  cuda::AttentionChoice attention;
  TRY(attention.body, cuda::attention_body_from_environment());
  TRY(cuda::Context context, cuda::Context::create(ordinal, choice, attention));
  TRY(cuda::Event from, context.event());
  TRY(cuda::Event to, context.event());
  return std::make_unique<CudaMachine>(info_of(device, devices),
                                       std::move(context), std::move(from),
                                       std::move(to));
}

}  // namespace troupe::measure
