// A rank's device in host memory.
#pragma once

#include "exec/device.h"

namespace troupe::emu {

/// Counts what it holds; nothing else is kept between calls.
class CpuDevice final : public exec::Device {
 public:
  /// `capacity`: what it may hold at most.
  explicit CpuDevice(Bytes capacity = Bytes{std::int64_t{1} << 50})
      : capacity_(capacity) {}

  Result<void*> allocate(Bytes size) override;
  void release(void* data, Bytes size) override;
  Result<void> zero(void* data, Bytes size) override;
  Result<void> copy_in(void* to, std::span<const std::byte> from) override;
  Result<void> copy_out(std::span<std::byte> to, const void* from) override;
  Result<void> copy(void* to, const void* from, Bytes size) override;
  Result<void> run(const kernels::Call& call) override;

  Bytes held() const override { return held_; }
  Bytes most_held() const override { return most_; }

 private:
  Bytes capacity_, held_, most_;
};

}  // namespace troupe::emu
