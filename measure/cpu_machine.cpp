#include <fmt/format.h>
#include <unistd.h>

#include <Eigen/Core>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>

#include "base/progress.h"
#include "kernels/cpu.h"
#include "measure/machine.h"

namespace troupe::measure {
namespace {

using Clock = std::chrono::steady_clock;

/// Memory that nobody has touched yet costs time at its first touch, so that
/// it is kept when the array grows.
class HostArray final : public Array {
 public:
  HostArray() = default;
  HostArray(const HostArray&) = delete;
  HostArray& operator=(const HostArray&) = delete;
  ~HostArray() override { std::free(block_); }
  void* data() override { return aligned_; }

  bool resize(std::size_t size) {
    void* const larger = std::realloc(block_, size + kAlignment);
    if (larger == nullptr) return false;
    block_ = larger;
    aligned_ = larger;
    std::size_t room = size + kAlignment;
    return std::align(kAlignment, size, aligned_, room) != nullptr;
  }

 private:
  static constexpr std::size_t kAlignment = 256;
  void* block_ = nullptr;
  void* aligned_ = nullptr;
};

/// "AMD EPYC 7763 64-Core Processor" from /proc/cpuinfo, or "processor".
std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("model name")) continue;
    const std::size_t colon = line.find(": ");
    if (colon != std::string::npos) return line.substr(colon + 2);
  }
  return "processor";
}

Bytes available_memory() {
  const long pages = sysconf(_SC_AVPHYS_PAGES);
  const long page = sysconf(_SC_PAGESIZE);
  if (pages <= 0 || page <= 0) return {std::int64_t{1} << 30};
  return {static_cast<std::int64_t>(pages) * page / 2};
}

Bytes last_cache() {
  const long size = sysconf(_SC_LEVEL3_CACHE_SIZE);
  // Caches beyond this are shared by many cores; one thread evicts sooner.
  constexpr std::int64_t kMost = std::int64_t{32} << 20;
  if (size <= 0) return {kMost};
  return {std::min<std::int64_t>(size, kMost)};
}

class CpuMachine final : public Machine {
 public:
  CpuMachine() {
    info_.full_name = processor_name();
    info_.device = device_slug("cpu", info_.full_name);
    info_.architecture = "cpu";
    info_.libraries =
        fmt::format("Eigen {}.{}.{}, one thread", EIGEN_WORLD_VERSION,
                    EIGEN_MAJOR_VERSION, EIGEN_MINOR_VERSION);
    info_.prepares_at_first_run = false;
    info_.memory = available_memory();
    info_.cache = last_cache();
    // Beyond this a copy only takes memory.
    info_.largest_copy = {4 * info_.cache.v};
  }

  const MachineInfo& info() const override { return info_; }

  Result<std::unique_ptr<Array>> allocate(Bytes size) override {
    std::unique_ptr<Array> array;
    TRY_DO(enlarge(array, size));
    return array;
  }

  Result<void> enlarge(std::unique_ptr<Array>& array, Bytes size) override {
    auto* host = dynamic_cast<HostArray*>(array.get());
    if (host == nullptr) {
      auto made = std::make_unique<HostArray>();
      host = made.get();
      array = std::move(made);
    }
    if (size <= info_.memory &&
        host->resize(static_cast<std::size_t>(size.v))) {
      return {};
    }
    array.reset();
    return fail(Fault::unavailable,
                fmt::format("an array of {} bytes exceeds the {} free", size.v,
                            info_.memory.v));
  }

  Result<void> upload(void* to, std::span<const std::byte> from) override {
    std::memcpy(to, from.data(), from.size());
    return {};
  }
  Result<void> copy(void* to, const void* from, Bytes size) override {
    std::memcpy(to, from, static_cast<std::size_t>(size.v));
    return {};
  }
  Result<void> zero(void* to, Bytes size) override {
    std::memset(to, 0, static_cast<std::size_t>(size.v));
    return {};
  }
  Result<void> settle() override { return {}; }

  Result<double> time(std::span<const kernels::Call> calls,
                      Caches /*caches*/) override {
    const auto start = Clock::now();
    for (const kernels::Call& call : calls) {
      if (interrupted()) return fail(Fault::interrupted, "interrupted");
      TRY_DO(kernels::cpu::run(call));
    }
    return std::chrono::duration<double>(Clock::now() - start).count();
  }

  Result<double> time_copy(Route route, Bytes size) override {
    check(route == Route::device, "a processor copies only in its memory");
    const auto n = static_cast<std::size_t>(size.v);
    if (copied_ < size) {
      copied_ = {};
      TRY_DO(enlarge(from_, size));
      TRY_DO(enlarge(to_, size));
      std::memset(from_->data(), 1, n);
      std::memset(to_->data(), 2, n);
      copied_ = size;
    }
    const auto start = Clock::now();
    std::memcpy(to_->data(), from_->data(), n);
    const auto end = Clock::now();
    // The copy's result is used, so that it is not left out.
    if (static_cast<const std::byte*>(to_->data())[n / 2] != std::byte{1}) {
      return fail(Fault::io, "a copy in memory went wrong");
    }
    return std::max(std::chrono::duration<double>(end - start).count(), 1e-9);
  }

  bool has(Route route) const override { return route == Route::device; }

  void release_copies() override {
    copied_ = {};
    from_.reset();
    to_.reset();
  }

 private:
  MachineInfo info_;
  std::unique_ptr<Array> from_, to_;  ///< of copies
  Bytes copied_;                      ///< their size
};

}  // namespace

std::unique_ptr<Machine> cpu_machine() {
  return std::make_unique<CpuMachine>();
}

}  // namespace troupe::measure
