#include <fmt/format.h>
#include <unistd.h>

#include <Eigen/Core>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "kernels/cpu.h"
#include "measure/machine.h"

namespace troupe::measure {
namespace {

using Clock = std::chrono::steady_clock;

class HostArray final : public Array {
 public:
  explicit HostArray(std::size_t size) : bytes_(size) {}
  void* data() override { return bytes_.data(); }

 private:
  std::vector<std::byte> bytes_;
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
    info_.memory = available_memory();
    info_.cache = last_cache();
  }

  const MachineInfo& info() const override { return info_; }

  Result<std::unique_ptr<Array>> allocate(Bytes size) override {
    if (size > info_.memory) {
      return fail(Fault::unavailable,
                  fmt::format("an array of {} bytes exceeds the {} free",
                              size.v, info_.memory.v));
    }
    return std::make_unique<HostArray>(static_cast<std::size_t>(size.v));
  }

  Result<void> upload(Array& to, std::span<const std::byte> from) override {
    std::memcpy(to.data(), from.data(), from.size());
    return {};
  }

  Result<void> run(std::span<const kernels::Call> calls) override {
    for (const kernels::Call& call : calls) {
      TRY_DO(kernels::cpu::run(call));
    }
    return {};
  }

  Result<double> time(std::span<const kernels::Call> calls) override {
    const auto start = Clock::now();
    TRY_DO(run(calls));
    return std::chrono::duration<double>(Clock::now() - start).count();
  }

  Result<double> time_copy(Route route, Bytes size) override {
    check(route == Route::device, "a processor copies only in its memory");
    const auto n = static_cast<std::size_t>(size.v);
    if (from_.size() < n) from_.assign(n, std::byte{1});
    if (to_.size() < n) to_.assign(n, std::byte{2});
    const auto start = Clock::now();
    std::memcpy(to_.data(), from_.data(), n);
    const auto end = Clock::now();
    // The copy's result is used, so that it is not left out.
    if (to_[n / 2] != std::byte{1}) {
      return fail(Fault::io, "a copy in memory went wrong");
    }
    return std::max(std::chrono::duration<double>(end - start).count(), 1e-9);
  }

  bool has(Route route) const override { return route == Route::device; }

 private:
  MachineInfo info_;
  std::vector<std::byte> from_, to_;
};

}  // namespace

std::unique_ptr<Machine> cpu_machine() {
  return std::make_unique<CpuMachine>();
}

}  // namespace troupe::measure
