#include <cuda_runtime.h>
#include <fmt/format.h>

#include <utility>

#include "kernels/cuda.h"
#include "kernels/cuda/cudnn.h"
#include "kernels/cuda/state.h"

namespace troupe::kernels::cuda {

Result<void> checked(cudaError_t code, const char* what) {
  if (code == cudaSuccess) return {};
  // Else it would be taken for an error of the next launch.
  (void)cudaGetLastError();
  const bool absent = code == cudaErrorInsufficientDriver ||
                      code == cudaErrorNoDevice ||
                      code == cudaErrorInvalidDevice;
  return fail(absent ? Fault::unavailable : Fault::io,
              fmt::format("{}: {} ({})", what, cudaGetErrorString(code),
                          cudaGetErrorName(code)));
}

// Declared in device_nvcc.cuh, for launches.
Result<void> launched() {
  return checked(cudaGetLastError(), "launching a kernel");
}

Result<void> allow_shared(const void* kernel, std::size_t bytes) {
  // The limit is a property of the kernel on each GPU; setting it again is
  // harmless, and costs about a microsecond.
  return checked(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           static_cast<int>(bytes)),
      "raising a kernel's shared memory");
}

Result<int> device_count() {
  int count = 0;
  TRY_DO(checked(cudaGetDeviceCount(&count), "looking for GPUs"));
  return count;
}

namespace {

int attribute(cudaDeviceAttr which, int ordinal) {
  int value = 0;
  if (cudaDeviceGetAttribute(&value, which, ordinal) != cudaSuccess) {
    (void)cudaGetLastError();
    return 0;
  }
  return value;
}

Result<void> memory_of(DeviceInfo& info) {
  int before = 0;
  TRY_DO(checked(cudaGetDevice(&before), "asking for the current GPU"));
  TRY_DO(checked(cudaSetDevice(info.ordinal), "choosing a GPU"));
  std::size_t free = 0, total = 0;
  const auto code = cudaMemGetInfo(&free, &total);
  (void)cudaSetDevice(before);
  TRY_DO(checked(code, "asking for a GPU's memory"));
  info.memory = {static_cast<std::int64_t>(total)};
  info.free_memory = {static_cast<std::int64_t>(free)};
  return {};
}

}  // namespace

Result<DeviceInfo> device_info(int ordinal) {
  TRY(const int count, device_count());
  if (ordinal < 0 || ordinal >= count) {
    return fail(Fault::unavailable,
                fmt::format("no GPU {}: this machine has {}", ordinal, count));
  }
  DeviceInfo info;
  info.ordinal = ordinal;
  cudaDeviceProp properties{};
  TRY_DO(checked(cudaGetDeviceProperties(&properties, ordinal),
                 "reading a GPU's properties"));
  info.name = properties.name;
  info.major = properties.major;
  info.minor = properties.minor;
  info.multiprocessors = properties.multiProcessorCount;
  info.l2_cache = {properties.l2CacheSize};
  info.shared_per_block = {
      static_cast<std::int64_t>(properties.sharedMemPerBlockOptin)};
  info.memory_bus_bits = properties.memoryBusWidth;
  info.clock_mhz = attribute(cudaDevAttrClockRate, ordinal) / 1e3;
  info.memory_clock_mhz = attribute(cudaDevAttrMemoryClockRate, ordinal) / 1e3;
  TRY_DO(checked(cudaDriverGetVersion(&info.driver_version),
                 "reading the driver's version"));
  TRY_DO(checked(cudaRuntimeGetVersion(&info.runtime_version),
                 "reading the runtime's version"));
  char bus[32] = {};
  if (cudaDeviceGetPCIBusId(bus, sizeof bus, ordinal) == cudaSuccess) {
    info.bus_id = bus;
  }
  TRY_DO(memory_of(info));
  auto lt = Lt::open();
  info.cublaslt = lt ? fmt::format("{}", (*lt)->version()) : lt.error().message;
  const auto cudnn = cudnn::Library::open();
  info.cudnn =
      cudnn ? cudnn::version_text((*cudnn)->version()) : cudnn.error().message;
  return info;
}

std::string describe(const DeviceInfo& info) {
  return fmt::format(
      "{} (sm_{}{}, {} multiprocessors, {:.0f} MHz, {:.1f} GiB, {} at "
      "{:.0f} MHz x {} bit)\nCUDA driver {}.{}, runtime {}.{}, cuBLASLt {}, "
      "cuDNN {}",
      info.name, info.major, info.minor, info.multiprocessors, info.clock_mhz,
      static_cast<double>(info.memory.v) / (1 << 30), info.bus_id,
      info.memory_clock_mhz, info.memory_bus_bits, info.driver_version / 1000,
      info.driver_version % 1000 / 10, info.runtime_version / 1000,
      info.runtime_version % 1000 / 10, info.cublaslt, info.cudnn);
}

Result<PeerPath> peer_path(int from, int to) {
  int direct = 0;
  TRY_DO(checked(cudaDeviceCanAccessPeer(&direct, from, to),
                 "asking how GPUs reach each other"));
  if (direct == 0) return PeerPath::host;
  int atomics = 0;
  TRY_DO(checked(cudaDeviceGetP2PAttribute(
                     &atomics, cudaDevP2PAttrNativeAtomicSupported, from, to),
                 "asking how GPUs reach each other"));
  return atomics != 0 ? PeerPath::nvlink : PeerPath::pcie;
}

Buffer::~Buffer() {
  // Nothing can be done about a failure here; it shows at the next call.
  if (data_ == nullptr) return;
  if (device_ == kHost) {
    (void)cudaFreeHost(data_);
  } else {
    (void)cudaFree(data_);
  }
}

void Buffer::swap(Buffer& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(device_, other.device_);
}

Event::~Event() {
  if (handle_ != nullptr) {
    (void)cudaEventDestroy(static_cast<cudaEvent_t>(handle_));
  }
}

Event& Event::operator=(Event&& other) noexcept {
  std::swap(handle_, other.handle_);
  return *this;
}

}  // namespace troupe::kernels::cuda
