// Whole training steps by the CUDA kernels, run on the CPU thread by thread,
// against one rank of the CPU's bodies: every call that the interpreter makes
// has a kernel of the right types.
#include <gtest/gtest.h>

#include "emu/cpu_device.h"
#include "kernels/cuda/launch.h"
#include "tests/emu/small_job.h"

namespace troupe::kernels {
namespace {

class KernelsDevice final : public exec::Device {
 public:
  Result<void*> allocate(Bytes size) override { return memory_.allocate(size); }
  void release(void* data, Bytes size) override { memory_.release(data, size); }
  Result<void> zero(void* data, Bytes size) override {
    return memory_.zero(data, size);
  }
  Result<void> copy_in(void* to, std::span<const std::byte> from) override {
    return memory_.copy_in(to, from);
  }
  Result<void> copy_out(std::span<std::byte> to, const void* from) override {
    return memory_.copy_out(to, from);
  }
  Result<void> copy(void* to, const void* from, Bytes size) override {
    return memory_.copy(to, from, size);
  }
  Result<void> run(const Call& call) override {
    return cuda::launch_any(
        call, {.multiprocessors = 1, .shared_limit = 227 << 10, .major = 9});
  }
  Bytes held() const override { return memory_.held(); }
  Bytes most_held() const override { return memory_.most_held(); }

 private:
  emu::CpuDevice memory_;
};

emu::Deviation deviation_of(const test::Degrees& shape, bool gpt, DType dtype) {
  auto model = emu::test::small_model(gpt);
  model.layers = 2;
  model.vocab = 67;
  auto s = test::strategy_of(model, shape);
  s.seq_len = 16;
  s.dtype = dtype;
  emu::EmulationOptions options;
  options.hub.threads = 1;
  options.device = [](exec::RankId) -> Result<std::unique_ptr<exec::Device>> {
    return std::make_unique<KernelsDevice>();
  };
  const auto run = emu::test::proven({s}, model, 1, options);
  EXPECT_TRUE(run.has_value()) << run.error().message;
  return run ? *run->deviation : emu::Deviation{.loss = 1e9};
}

TEST(CudaTraining, OfFp32EqualsTheCpu) {
  for (const bool gpt : {false, true}) {
    const auto d = deviation_of({}, gpt, DType::fp32);
    EXPECT_LT(d.largest(), 1e-5) << "gpt " << gpt;
  }
}

TEST(CudaTraining, OfBf16EqualsTheCpu) {
  // Eight roundings to bf16, 2^-9 each.
  const auto d = deviation_of({}, false, DType::bf16);
  EXPECT_LT(d.largest(), 0x1p-6);
}

TEST(CudaTraining, OfSeveralRanksEqualsOne) {
  const auto d = deviation_of({.tp = 2, .cp = 2}, false, DType::fp32);
  EXPECT_LT(d.largest(), 1e-5);
}

}  // namespace
}  // namespace troupe::kernels
