// fp32 and bf16 bodies against the fp64 one on the same values, over the
// cases that devices are compared by: operands exactly as large as they
// should be, outputs poisoned.
#include <gtest/gtest.h>

#include <cstring>
#include <thread>

#include "kernels/cpu.h"
#include "tests/kernels/cuda_cases.h"

namespace troupe::kernels {
namespace {

using testing::Case;
using testing::Memory;

Result<void> perform(Memory& operands,
                     const std::function<Call(std::span<void* const>)>& make) {
  std::vector<void*> addresses;
  for (auto& bytes : operands) {
    addresses.push_back(bytes.empty() ? nullptr : bytes.data());
  }
  return cpu::run(make(addresses));
}

void expect_all(const std::vector<Case>& cases) {
  ASSERT_FALSE(cases.empty());
  for (const Case& one : cases) {
    for (const DType dtype : {DType::fp32, DType::bf16}) {
      const auto outcome = testing::compare(one, dtype, perform);
      ASSERT_TRUE(outcome) << one.name << ": " << outcome.error().message;
      EXPECT_TRUE(outcome->ok())
          << one.name << " " << name_of(dtype) << ": " << outcome->note << " ("
          << outcome->error << ", at most " << outcome->tolerance << ")";
    }
  }
}

TEST(CpuPrecision, OfOperators) { expect_all(testing::operator_cases(1)); }
TEST(CpuPrecision, OfProducts) { expect_all(testing::gemm_cases(2)); }
TEST(CpuPrecision, OfAttention) { expect_all(testing::attention_cases(3)); }

// Ranks are threads: many run bodies at once, and all get the same bits.
TEST(CpuPrecision, ManyThreadsGetTheSameBits) {
  std::vector<std::vector<float>> results(8);
  std::vector<std::thread> threads;
  for (auto& result : results) {
    threads.emplace_back([&result] {
      const std::int64_t n = 70;
      std::vector<float> a(static_cast<std::size_t>(n * n));
      for (std::size_t i = 0; i < a.size(); ++i) {
        a[i] = static_cast<float>(i % 97) / 31;
      }
      result.resize(a.size());
      for (int repeat = 0; repeat < 5; ++repeat) {
        const auto ran = cpu::run(Gemm{.dtype = DType::fp32,
                                       .out = DType::fp32,
                                       .m = n,
                                       .n = n,
                                       .k = n,
                                       .a = a.data(),
                                       .b = a.data(),
                                       .c = result.data()});
        if (!ran) result.clear();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(results[0].size(), 4900U);
  for (const auto& result : results) EXPECT_EQ(result, results[0]);
}

}  // namespace
}  // namespace troupe::kernels
