// Attention kernels run on the CPU: what the list of cases does not ask. The
// list itself runs with every other operator in cuda_on_host_test.cpp.
#include "tests/kernels/cuda_attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>

#include "kernels/cpu.h"
#include "kernels/cuda/launch.h"
#include "tests/kernels/cuda_on_host/machine.h"

namespace troupe::kernels::testing {
namespace {

// The most shared memory that a block may ask for: H100, A100, and the
// consumer GPUs of sm_86 and sm_89.
constexpr std::size_t kHopper = 227 << 10, kAmpere = 163 << 10,
                      kConsumer = 99 << 10;

cuda::Device device(std::size_t shared_limit) {
  return {.multiprocessors = 2, .shared_limit = shared_limit, .major = 9};
}

struct Free {
  void operator()(void* at) const { std::free(at); }
};

Perform perform_on(std::size_t shared_limit) {
  return [=](Memory& operands,
             const std::function<Call(std::span<void* const>)>& make)
             -> Result<void> {
    std::vector<std::unique_ptr<void, Free>> memory;
    std::vector<void*> addresses;
    for (const auto& bytes : operands) {
      void* at = nullptr;
      if (!bytes.empty()) {
        if (posix_memalign(&at, 256, bytes.size()) != 0) std::abort();
        std::memcpy(at, bytes.data(), bytes.size());
      }
      memory.emplace_back(at);
      addresses.push_back(at);
    }
    TRY_DO(cuda::launch_any(make(addresses), device(shared_limit)));
    for (std::size_t i = 0; i < operands.size(); ++i) {
      if (operands[i].empty()) continue;
      std::memcpy(operands[i].data(), addresses[i], operands[i].size());
    }
    return {};
  };
}

void expect_match(const Case& one, DType dtype, std::size_t shared_limit) {
  const auto outcome = compare(one, dtype, perform_on(shared_limit));
  ASSERT_TRUE(outcome) << one.name << ": " << outcome.error().message;
  EXPECT_TRUE(outcome->ok())
      << one.name << " " << name_of(dtype) << ": " << outcome->note;
}

// fp32 rounds no weight to bf16: nothing but single precision is allowed. A
// third of the problems, another one every time.
TEST(CudaAttention, Fp32IsExactToSinglePrecision) {
  Values values(std::random_device{}());
  const std::vector<Attention> all = attentions(values);
  for (auto i = static_cast<std::size_t>(values.pick(0, 2)); i < all.size();
       i += 3) {
    Case forward = forward_case(all[i], values);
    Case backward = backward_case(all[i], values);
    forward.extra = backward.extra = 0;
    expect_match(forward, DType::fp32, kHopper);
    expect_match(backward, DType::fp32, kHopper);
  }
}

// Less shared memory means one stage where there were two, never a refusal.
TEST(CudaAttention, SmallerGpusGetSmallerTiles) {
  Values values(std::random_device{}());
  for (const std::int64_t dim : {64, 80, 96, 112, 128}) {
    const Attention a{
        .dim = dim, .q = {150}, .kv = {190}, .heads = 2, .kv_heads = 1};
    for (const std::size_t limit : {kAmpere, kConsumer}) {
      expect_match(forward_case(a, values), DType::bf16, limit);
      expect_match(backward_case(a, values), DType::bf16, limit);
    }
  }
}

// Threads of a block in another order, twice: the same bytes.
TEST(CudaAttention, BackwardGivesTheSameBytesInAnyOrder) {
  Values values(7);
  const Case one = backward_case(
      {.dim = 96, .q = {130}, .kv = {140}, .heads = 4, .kv_heads = 2}, values);
  const auto run = [&](on_host::Order order, std::uint64_t seed) {
    on_host::set_order(order, seed);
    std::vector<std::byte> bytes;
    const Perform inner = perform_on(kHopper);
    const auto outcome =
        compare(one, DType::bf16, [&](Memory& operands, const auto& make) {
          auto result = inner(operands, make);
          for (std::size_t i = 8; i < 11; ++i) {
            bytes.insert(bytes.end(), operands[i].begin(), operands[i].end());
          }
          return result;
        });
    EXPECT_TRUE(outcome && outcome->ok());
    return bytes;
  };
  const auto first = run(on_host::Order::forward, 0);
  EXPECT_EQ(run(on_host::Order::backward, 0), first);
  EXPECT_EQ(run(on_host::Order::shuffled, 5), first);
  on_host::set_order(on_host::Order::forward);
}

template <typename T>
std::vector<T> normals(std::int64_t n, Values& values) {
  const Operand operand = values.normal(n);
  return {operand.values.begin(), operand.values.end()};
}

// One sequence of 64 queries and some of 110 keys, and what comes of it.
template <typename T>
struct Ring {
  static constexpr std::int64_t kQueries = 64, kKeys = 110, kHeads = 2,
                                kDim = 80, kRow = kHeads * kDim;
  std::vector<T> q, k, v;
  std::vector<T> out = std::vector<T>(kQueries * kRow);
  std::vector<T> lse = std::vector<T>(kQueries * kHeads);
  std::vector<T> sum = out, sum_lse = lse;
  std::int32_t q_starts[2] = {0, kQueries}, kv_starts[2] = {0, kKeys};

  AttentionForward forward(std::int32_t from, std::int32_t to, bool causal) {
    kv_starts[0] = from;
    kv_starts[1] = to;
    AttentionForward call;
    call.dtype = sizeof(T) == 8 ? DType::fp64 : DType::fp32;
    call.sizes = {.sequences = 1,
                  .q_tokens = kQueries,
                  .kv_tokens = kKeys,
                  .max_q = kQueries,
                  .max_kv = to - from,
                  .heads = kHeads,
                  .kv_heads = kHeads,
                  .head_dim = kDim,
                  .causal = causal,
                  .q_starts = q_starts,
                  .kv_starts = kv_starts};
    call.q = q.data();
    call.k = k.data();
    call.v = v.data();
    call.out = out.data();
    call.lse = lse.data();
    return call;
  }
  AttentionMerge merge(bool first) {
    return {.dtype = DType::fp32,
            .tokens = kQueries,
            .heads = kHeads,
            .head_dim = kDim,
            .first = first,
            .out = out.data(),
            .out_lse = lse.data(),
            .sum = sum.data(),
            .lse = sum_lse.data()};
  }
};

// Keys [0, 40) and [40, 110) in two rounds, then merged, are attention over
// all keys; queries are the last 64, so the second round is causal.
TEST(CudaAttention, MergedRoundsOfARingAreTheWhole) {
  Values values(std::random_device{}());
  using Rounds = Ring<float>;
  Rounds ring{normals<float>(Rounds::kQueries * Rounds::kRow, values),
              normals<float>(Rounds::kKeys * Rounds::kRow, values),
              normals<float>(Rounds::kKeys * Rounds::kRow, values)};
  const cuda::Device gpu = device(kHopper);
  ASSERT_TRUE(cuda::launch(ring.forward(0, 40, false), gpu));
  ASSERT_TRUE(cuda::launch(ring.merge(true), gpu));
  ASSERT_TRUE(cuda::launch(ring.forward(40, 110, true), gpu));
  ASSERT_TRUE(cuda::launch(ring.merge(false), gpu));
  Ring<double> whole{{ring.q.begin(), ring.q.end()},
                     {ring.k.begin(), ring.k.end()},
                     {ring.v.begin(), ring.v.end()}};
  ASSERT_TRUE(cpu::run(whole.forward(0, 110, true)));
  // Sums of 110 terms below 5 in fp32: 5 * 2^-24 * (8 + 2 sqrt(110)).
  for (std::size_t i = 0; i < whole.out.size(); ++i) {
    ASSERT_NEAR(ring.sum[i], whole.out[i], 9e-6) << i;
  }
  for (std::size_t i = 0; i < whole.lse.size(); ++i) {
    ASSERT_NEAR(ring.sum_lse[i], whole.lse[i], 9e-6) << i;
  }
}

TEST(CudaAttention, RefusesWhatItCannotDo) {
  const auto forward = [](auto change) {
    AttentionForward call{.sizes = {.sequences = 1,
                                    .q_tokens = 4,
                                    .kv_tokens = 4,
                                    .max_q = 4,
                                    .max_kv = 4,
                                    .heads = 4,
                                    .kv_heads = 2,
                                    .head_dim = 64}};
    change(call);
    const auto result = cuda::launch(call, device(kHopper));
    return result ? std::string() : result.error().message;
  };
  EXPECT_NE(forward([](auto& c) { c.dtype = DType::fp16; }).find("fp16"),
            std::string::npos);
  EXPECT_NE(forward([](auto& c) { c.sizes.head_dim = 257; }).find("257"),
            std::string::npos);
  EXPECT_NE(forward([](auto& c) { c.sizes.q_ld = 255; }).find("q stride"),
            std::string::npos);
  for (const double scale : {-1.0, 1e-60, 1e60, std::nan(""),
                             std::numeric_limits<double>::infinity()}) {
    EXPECT_NE(forward([=](auto& c) { c.sizes.scale = scale; }).find("scale"),
              std::string::npos)
        << scale;
  }
  EXPECT_NE(
      forward([](auto& c) { c.sizes.sequences = 1 << 17; }).find("sequences"),
      std::string::npos);
}

}  // namespace
}  // namespace troupe::kernels::testing
