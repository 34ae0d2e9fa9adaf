// Every CUDA kernel, run on the CPU thread by thread, against the CPU's own
// body of the operator.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <cstring>

#include "kernels/cpu.h"
#include "kernels/cuda/launch.h"
#include "tests/kernels/cuda_cases.h"
#include "tests/kernels/cuda_on_host/machine.h"

namespace troupe::kernels {
namespace {

using testing::Case;
using testing::Memory;

// Device memory: ends where the operand ends; starts as aligned as cudaMalloc
// does, and `offset` bytes on.
class DeviceMemory {
 public:
  DeviceMemory(const std::vector<std::byte>& bytes, std::size_t offset)
      : size_(bytes.size()), offset_(offset) {
    if (size_ == 0) return;
    if (posix_memalign(&at_, 256, size_ + offset_) != 0) std::abort();
    std::memcpy(get(), bytes.data(), size_);
  }
  DeviceMemory(DeviceMemory&& other) noexcept
      : at_(std::exchange(other.at_, nullptr)),
        size_(other.size_),
        offset_(other.offset_) {}
  ~DeviceMemory() { std::free(at_); }
  void* get() const {
    return at_ == nullptr ? nullptr : static_cast<std::byte*>(at_) + offset_;
  }
  void copy_to(std::vector<std::byte>& bytes) const {
    if (size_ > 0) std::memcpy(bytes.data(), get(), size_);
  }

 private:
  void* at_ = nullptr;
  std::size_t size_ = 0, offset_ = 0;
};

Result<void> perform_at(
    std::size_t offset, Memory& operands,
    const std::function<Call(std::span<void* const>)>& make) {
  std::vector<DeviceMemory> memory;
  std::vector<void*> addresses;
  for (const auto& bytes : operands) {
    addresses.push_back(memory.emplace_back(bytes, offset).get());
  }
  // As a Hopper GPU would, but with few multiprocessors: grids stay small
  // and every loop over the grid runs more than once.
  const cuda::Device device{
      .multiprocessors = 2, .shared_limit = 227 << 10, .major = 9};
  TRY_DO(cuda::launch_any(make(addresses), device));
  for (std::size_t i = 0; i < operands.size(); ++i) {
    memory[i].copy_to(operands[i]);
  }
  return {};
}

void expect_all(const std::vector<Case>& cases, std::uint64_t seed,
                std::size_t offset = 0) {
  const testing::Perform perform = [&](Memory& operands, const auto& make) {
    return perform_at(offset, operands, make);
  };
  ASSERT_FALSE(cases.empty());
  // Forward and shuffled in turn: results must not depend on the order.
  int turn = 0;
  for (const Case& one : cases) {
    for (const DType dtype : {DType::fp32, DType::bf16}) {
      on_host::set_order(
          turn++ % 2 == 0 ? on_host::Order::forward : on_host::Order::shuffled,
          seed);
      const auto outcome = testing::compare(one, dtype, perform);
      ASSERT_TRUE(outcome) << one.name << ": " << outcome.error().message;
      EXPECT_TRUE(outcome->ok())
          << one.name << " " << name_of(dtype) << ": " << outcome->note
          << " (error " << outcome->error << ", tolerance "
          << outcome->tolerance << ", seed " << seed << ")";
    }
  }
}

TEST(CudaKernelsOnHost, OperatorsMatchTheCpu) {
  const std::uint64_t seed = std::random_device{}();
  expect_all(testing::operator_cases(seed), seed);
}

TEST(CudaKernelsOnHost, GemmMatchesTheCpu) {
  const std::uint64_t seed = std::random_device{}();
  expect_all(testing::gemm_cases(seed), seed);
}

TEST(CudaKernelsOnHost, ABadCallIsRefusedBeforeAnythingRuns) {
  const cuda::Device device{.multiprocessors = 2, .major = 9};
  std::vector<float> memory(64, 0.5F);
  float* const x = memory.data();
  const Call bad[] = {
      Gemm{.dtype = DType::fp32,
           .out = DType::fp32,
           .m = 2,
           .n = 2,
           .k = 2,
           .ldc = 1,
           .a = x,
           .b = x,
           .c = x},
      NormForward{.dtype = DType::fp32,
                  .rows = 2,
                  .columns = 2,
                  .in = x,
                  .weight = nullptr,
                  .out = x,
                  .rstd = x},
      Add{.dtype = DType::fp32, .elements = -1, .a = x, .b = x, .out = x},
      AdamW{.dtype = DType::fp32,
            .elements = 2,
            .step = 0,
            .gradient = x,
            .master = x,
            .m = x,
            .v = x}};
  for (const Call& call : bad) {
    const auto result = cuda::launch_any(call, device);
    ASSERT_FALSE(result) << call.index();
    EXPECT_EQ(result.error().fault, Fault::input);
    const auto host = cpu::run(call);
    ASSERT_FALSE(host);
    EXPECT_EQ(result.error().message, host.error().message);
  }
  for (const float v : memory) ASSERT_EQ(v, 0.5F);
}

// Eight bytes on: an fp64 or a pair is aligned, no 16-byte access is.
TEST(CudaKernelsOnHost, OperatorsTakeAnyAlignmentOfElements) {
  const std::uint64_t seed = std::random_device{}();
  expect_all(testing::operator_cases(seed), seed, 8);
}

TEST(CudaKernelsOnHost, AttentionMatchesTheCpu) {
  const std::uint64_t seed = std::random_device{}();
  const auto cases = testing::attention_cases(seed);
  if (cases.empty()) GTEST_SKIP() << "no attention kernels yet";
  expect_all(cases, seed);
}

TEST(CudaKernelsOnHost, SpinTakesItsTime) {
  const auto from = std::chrono::steady_clock::now();
  ASSERT_TRUE(cuda::launch_spin(2'000'000, {.multiprocessors = 2}));
  EXPECT_GE(std::chrono::steady_clock::now() - from,
            std::chrono::milliseconds(2));
}

}  // namespace
}  // namespace troupe::kernels
