#include "exec/cuda_device.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <unordered_map>
#include <vector>

#include "kernels/cuda.h"

namespace troupe::exec {
namespace {

namespace cuda = kernels::cuda;

/// Sizes that memory is handed out in, so that a piece serves the next request
/// of nearly its size: powers of two up to a MiB, then whole MiB.
Bytes handed_out(Bytes size) {
  constexpr std::int64_t kMiB = 1 << 20;
  if (size.v > kMiB) return {ceil_div(size.v, kMiB) * kMiB};
  std::int64_t out = 256;
  while (out < size.v) out *= 2;
  return {out};
}

class CudaDevice final : public Device {
 public:
  explicit CudaDevice(cuda::Context context) : context_(std::move(context)) {}

  Result<void*> allocate(Bytes size) override {
    TRY(void* const data, allocate_scratch(size));
    TRY_DO(context_.fill(data, 0, size));
    return data;
  }

  Result<void*> allocate_scratch(Bytes size) override {
    const Bytes whole = handed_out(size);
    TRY(cuda::Buffer buffer, piece_of(whole));
    void* const data = buffer.data();
    used_.emplace(data, std::move(buffer));
    held_ += size;
    most_ = std::max(most_, held_);
    return data;
  }

  void release(void* data, Bytes size) override {
    const auto it = used_.find(data);
    check(it != used_.end(), "memory of another device is released");
    // What is still on the stream uses it before whoever gets it next.
    free_[it->second.size()].push_back(std::move(it->second));
    used_.erase(it);
    held_ -= size;
  }

  Result<void> zero(void* data, Bytes size) override {
    return context_.fill(data, 0, size);
  }
  Result<void> copy_in(void* to, std::span<const std::byte> from) override {
    return context_.copy_in(to, from.data(), Bytes{std::ssize(from)});
  }
  Result<void> copy_out(std::span<std::byte> to, const void* from) override {
    return context_.copy_out(to.data(), from, Bytes{std::ssize(to)});
  }
  Result<void> copy(void* to, const void* from, Bytes size) override {
    return context_.copy(to, from, size);
  }
  Result<void> run(const kernels::Call& call) override {
    return cuda::run(call, context_);
  }
  Result<void> finish() override { return context_.synchronize(); }

  Bytes held() const override { return held_; }
  Bytes most_held() const override { return most_; }

 private:
  Result<cuda::Buffer> piece_of(Bytes whole) {
    std::vector<cuda::Buffer>& same = free_[whole];
    if (!same.empty()) {
      cuda::Buffer out = std::move(same.back());
      same.pop_back();
      return out;
    }
    auto made = context_.allocate(whole);
    if (made) return made;
    // Freeing waits for the GPU; nothing on the stream loses its memory.
    free_.clear();
    made = context_.allocate(whole);
    if (made) return made;
    return fail(Fault::infeasible, made.error().message);
  }

  cuda::Context context_;
  std::unordered_map<void*, cuda::Buffer> used_;
  std::map<Bytes, std::vector<cuda::Buffer>> free_;  ///< by size
  Bytes held_, most_;
};

}  // namespace

Result<std::unique_ptr<Device>> make_cuda_device(
    const CudaDeviceOptions& options) {
  cuda::GemmChoice choice;
  choice.candidates = options.gemm_candidates;
  TRY(cuda::Context context, cuda::Context::create(options.ordinal, choice));
  return std::make_unique<CudaDevice>(std::move(context));
}

}  // namespace troupe::exec
