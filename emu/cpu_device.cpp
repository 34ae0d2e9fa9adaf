#include "emu/cpu_device.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "kernels/cpu.h"

namespace troupe::emu {

Result<void*> CpuDevice::allocate(Bytes size) {
  if (held_ + size > capacity_) {
    return fail(Fault::infeasible,
                fmt::format("a rank needs {} bytes and may hold {}",
                            (held_ + size).v, capacity_.v));
  }
  void* const data = std::calloc(
      1, static_cast<std::size_t>(std::max<std::int64_t>(size.v, 1)));
  if (data == nullptr) {
    return fail(Fault::infeasible,
                fmt::format("this machine has no {} bytes left", size.v));
  }
  held_ += size;
  most_ = std::max(most_, held_);
  return data;
}

void CpuDevice::release(void* data, Bytes size) {
  std::free(data);
  held_ -= size;
}

Result<void> CpuDevice::zero(void* data, Bytes size) {
  std::memset(data, 0, static_cast<std::size_t>(size.v));
  return {};
}

Result<void> CpuDevice::copy_in(void* to, std::span<const std::byte> from) {
  if (!from.empty()) std::memcpy(to, from.data(), from.size());
  return {};
}

Result<void> CpuDevice::copy_out(std::span<std::byte> to, const void* from) {
  if (!to.empty()) std::memcpy(to.data(), from, to.size());
  return {};
}

Result<void> CpuDevice::copy(void* to, const void* from, Bytes size) {
  if (size.v > 0) std::memcpy(to, from, static_cast<std::size_t>(size.v));
  return {};
}

Result<void> CpuDevice::run(const kernels::Call& call) {
  return kernels::cpu::run(call);
}

}  // namespace troupe::emu
