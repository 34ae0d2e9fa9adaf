// Emulation on devices whose memory the host cannot touch: what works there
// works on a GPU, as far as who reads which memory goes.
#include <gmock/gmock.h>
#include <sys/mman.h>

#include <cstring>
#include <map>

#include "emu/cpu_device.h"
#include "exec/staged_communicator.h"
#include "kernels/cpu.h"
#include "tests/emu/small_job.h"

namespace troupe::emu {
namespace {

using test::kBound;
using test::small_model;

/// Memory that faults when it is touched, but for the device's own calls.
class SealedDevice final : public exec::Device {
 public:
  SealedDevice() {
    void* const all = mmap(nullptr, kSize, PROT_NONE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    check(all != MAP_FAILED, "no memory for a sealed device");
    start_ = static_cast<std::byte*>(all);
  }
  ~SealedDevice() override { munmap(start_, kSize); }

  Result<void*> allocate(Bytes size) override {
    TRY(void* const data, allocate_scratch(size));
    TRY_DO(zero(data, size));
    return data;
  }
  /// Full of NaN.
  Result<void*> allocate_scratch(Bytes size) override {
    const Bytes whole{(size.v + 63) / 64 * 64};
    auto& same = free_[whole];
    std::byte* data = start_ + used_;
    if (!same.empty()) {
      data = same.back();
      same.pop_back();
    } else {
      used_ += whole.v;
      check(used_ <= static_cast<std::int64_t>(kSize), "a sealed device ends");
    }
    held_ += size;
    most_ = std::max(most_, held_);
    TRY_DO(open([&]() -> Result<void> {
      std::memset(data, 0xFF, static_cast<std::size_t>(size.v));
      return {};
    }));
    return data;
  }
  void release(void* data, Bytes size) override {
    free_[Bytes{(size.v + 63) / 64 * 64}].push_back(
        static_cast<std::byte*>(data));
    held_ -= size;
  }
  Result<void> zero(void* data, Bytes size) override {
    return open([&] { return host_.zero(data, size); });
  }
  Result<void> copy_in(void* to, std::span<const std::byte> from) override {
    return open([&] { return host_.copy_in(to, from); });
  }
  Result<void> copy_out(std::span<std::byte> to, const void* from) override {
    return open([&] { return host_.copy_out(to, from); });
  }
  Result<void> copy(void* to, const void* from, Bytes size) override {
    return open([&] { return host_.copy(to, from, size); });
  }
  Result<void> run(const kernels::Call& call) override {
    return open([&] { return kernels::cpu::run(call); });
  }
  Bytes held() const override { return held_; }
  Bytes most_held() const override { return most_; }

 private:
  static constexpr std::size_t kSize = std::size_t{64} << 20;

  template <typename Work>
  Result<void> open(const Work& work) {
    mprotect(start_, kSize, PROT_READ | PROT_WRITE);
    const Result<void> done = work();
    mprotect(start_, kSize, PROT_NONE);
    return done;
  }

  std::byte* start_ = nullptr;
  std::int64_t used_ = 0;
  std::map<Bytes, std::vector<std::byte*>> free_;
  CpuDevice host_;
  Bytes held_, most_;
};

strategy::Strategy sealed(const models::Model& model,
                          const test::base::Degrees& shape) {
  auto s = test::base::strategy_of(model, shape);
  s.seq_len = 16;
  s.dtype = kernels::DType::fp64;
  return s;
}

void expect_sealed_equal(const std::vector<strategy::Strategy>& list,
                         const models::Model& model) {
  EmulationOptions options;
  options.device = [](exec::RankId) -> Result<std::unique_ptr<exec::Device>> {
    return std::make_unique<SealedDevice>();
  };
  const auto run = test::proven(list, model, 2, options);
  ASSERT_TRUE(run.has_value()) << run.error().message;
  ASSERT_TRUE(run->deviation.has_value());
  EXPECT_LT(run->deviation->largest(), kBound);
  EXPECT_GT(run->most_memory.v, 0);
  EXPECT_EQ(run->wall_steps_s.size(), 2 * list.size());
}

TEST(Sealed, TensorAndPipelineParallelism) {
  const auto model = small_model();
  expect_sealed_equal({sealed(model, {.dp = 2, .tp = 2, .pp = 2})}, model);
}

TEST(Sealed, RingsAndRecomputation) {
  const auto model = small_model(true);
  auto s = sealed(model, {.tp = 2, .cp = 2});
  s.recompute.mode = strategy::Recompute::full;
  expect_sealed_equal({s}, model);
}

TEST(Sealed, ShardedWeightsAndAChangeOfStrategy) {
  const auto model = small_model();
  auto third = sealed(model, {.dp = 2, .tp = 2});
  third.zero = strategy::Zero::three;
  auto first = sealed(model, {.dp = 2, .pp = 2});
  first.zero = strategy::Zero::one;
  expect_sealed_equal({third, first}, model);
}

TEST(SealedDeathTest, TouchingItsMemoryEndsTheProgram) {
  SealedDevice device;
  const auto data = device.allocate(Bytes{64});
  ASSERT_TRUE(data.has_value());
  EXPECT_DEATH(*static_cast<volatile char*>(*data) = 1, "");
}

/// Answers every copy with an error.
class BrokenDevice final : public exec::Device {
 public:
  Result<void*> allocate(Bytes) override { return broken(); }
  void release(void*, Bytes) override {}
  Result<void> zero(void*, Bytes) override { return broken(); }
  Result<void> copy_in(void*, std::span<const std::byte>) override {
    return broken();
  }
  Result<void> copy_out(std::span<std::byte>, const void*) override {
    return broken();
  }
  Result<void> copy(void*, const void*, Bytes) override { return broken(); }
  Result<void> run(const kernels::Call&) override { return broken(); }
  Bytes held() const override { return {}; }
  Bytes most_held() const override { return {}; }

 private:
  static tl::unexpected<Error> broken() {
    return fail(Fault::io, "the device is broken");
  }
};

TEST(StagedCommunicator, AFailedExposureIsToldAtTheNextCall) {
  Hub hub(1, {.threads = 1});
  const auto done = hub.run([](exec::Communicator& world) -> Result<void> {
    BrokenDevice device;
    exec::StagedCommunicator staged(world, device);
    const std::byte bytes[8]{};
    staged.expose(1, bytes);
    Time time;
    const exec::RankId self[] = {staged.rank()};
    return staged.meet(self, time);
  });
  ASSERT_FALSE(done.has_value());
  EXPECT_THAT(done.error().message, testing::HasSubstr("device is broken"));
}

}  // namespace
}  // namespace troupe::emu
