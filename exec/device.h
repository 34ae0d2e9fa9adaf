// Where a rank's tensors live and its operators run. The interpreter is the
// same for all devices: host memory in emu/, a GPU in cuda_device.h.
#pragma once

#include <cstddef>
#include <span>
#include <utility>

#include "base/result.h"
#include "base/units.h"
#include "kernels/call.h"

namespace troupe::exec {

/// A device as one rank uses it. Calls of one rank run in the order they are
/// made; a rank's device is used by one thread at a time.
class Device {
 public:
  virtual ~Device() = default;

  /// Zeroed memory. Errors: infeasible when there is not enough.
  virtual Result<void*> allocate(Bytes size) = 0;
  /// Memory that holds anything.
  virtual Result<void*> allocate_scratch(Bytes size) { return allocate(size); }
  virtual void release(void* data, Bytes size) = 0;

  virtual Result<void> zero(void* data, Bytes size) = 0;
  virtual Result<void> copy_in(void* to, std::span<const std::byte> from) = 0;
  virtual Result<void> copy_out(std::span<std::byte> to, const void* from) = 0;
  virtual Result<void> copy(void* to, const void* from, Bytes size) = 0;
  virtual Result<void> run(const kernels::Call& call) = 0;
  /// Waits for all calls so far, where they only begin.
  virtual Result<void> finish() { return {}; }

  /// What has been asked for and not given back, now and at most.
  virtual Bytes held() const = 0;
  virtual Bytes most_held() const = 0;
};

/// Memory of a device, given back with this.
class Buffer {
 public:
  Buffer() = default;
  static Result<Buffer> of(Device& device, Bytes size) {
    TRY(void* const data, device.allocate(size));
    return Buffer(device, data, size);
  }
  /// Of memory that is written before it is read.
  static Result<Buffer> scratch(Device& device, Bytes size) {
    TRY(void* const data, device.allocate_scratch(size));
    return Buffer(device, data, size);
  }
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    Buffer old(std::move(other));
    swap(old);
    return *this;
  }
  ~Buffer() {
    if (data_ != nullptr) device_->release(data_, size_);
  }

  void* data() const { return data_; }
  std::byte* at(Bytes offset) const {
    return static_cast<std::byte*>(data_) + offset.v;
  }
  Bytes size() const { return size_; }
  explicit operator bool() const { return data_ != nullptr; }

 private:
  Buffer(Device& device, void* data, Bytes size)
      : device_(&device), data_(data), size_(size) {}
  void swap(Buffer& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
  }
  Device* device_ = nullptr;
  void* data_ = nullptr;
  Bytes size_;
};

}  // namespace troupe::exec
