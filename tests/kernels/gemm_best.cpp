#include "tests/kernels/gemm_best.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>
#include <vector>

#include "kernels/bf16.h"
#include "kernels/cuda.h"

namespace troupe::kernels::testing {
namespace {

constexpr int kOurCandidates = 8;  // as the profiler's
constexpr int kAllCandidates = 256;
constexpr int kTurns = 15;

struct Shape {
  const char* form;
  std::int64_t m, n, k;
};

/// The products of a layer on `tp` devices, forward; the gradients of its
/// largest.
void add_layer(std::vector<Shape>& all, std::int64_t tokens,
               std::int64_t hidden, std::int64_t ffn, std::int64_t tp) {
  all.push_back({"forward", tokens, 3 * hidden / tp, hidden});
  all.push_back({"forward", tokens, hidden, hidden / tp});
  all.push_back({"forward", tokens, 2 * ffn / tp, hidden});
  all.push_back({"forward", tokens, hidden, ffn / tp});
  all.push_back({"input_gradient", tokens, hidden, 2 * ffn / tp});
  all.push_back({"weight_gradient", 2 * ffn / tp, hidden, tokens});
}

// The most used first, so that a short run has them.
std::vector<Shape> shapes() {
  std::vector<Shape> all;
  for (const std::int64_t tokens : {4096, 2048, 8192, 512}) {
    for (const std::int64_t tp : {1, 8, 4, 2}) {
      add_layer(all, tokens, 4096, 11008, tp);
      add_layer(all, tokens, 5120, 13824, tp);
      add_layer(all, tokens, 8192, 28672, tp);
    }
  }
  return all;
}

/// Random numbers: products of zeros draw less power and run faster.
Result<cuda::Buffer> filled(cuda::Context& context, std::int64_t elements) {
  static const std::vector<Bf16> block = [] {
    std::mt19937_64 random(1);
    std::normal_distribution<float> normal;
    std::vector<Bf16> numbers(std::size_t{1} << 20);
    for (Bf16& x : numbers) x = Bf16(normal(random));
    return numbers;
  }();
  const std::int64_t size = 2 * elements;
  const auto whole = static_cast<std::int64_t>(2 * block.size());
  TRY(cuda::Buffer buffer, context.allocate({size}));
  auto* at = static_cast<std::byte*>(buffer.data());
  TRY_DO(context.copy_in(at, block.data(), {std::min(size, whole)}));
  for (std::int64_t done = whole; done < size; done += whole) {
    TRY_DO(context.copy(at + done, at, {std::min(whole, size - done)}));
  }
  TRY_DO(context.synchronize());
  return buffer;
}

Result<double> once(const Gemm& call, cuda::Context& context,
                    const cuda::Event& from, const cuda::Event& to) {
  TRY_DO(context.record(from));
  TRY_DO(cuda::run(call, context));
  TRY_DO(context.record(to));
  return context.elapsed(from, to);
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

Result<void> compare(const Shape& s, cuda::Context& ours, cuda::Context& all) {
  const bool weight = std::string_view(s.form) == "weight_gradient";
  const DType out = weight ? DType::fp32 : DType::bf16;
  TRY(const cuda::Buffer a, filled(ours, s.m * s.k));
  TRY(const cuda::Buffer b, filled(ours, s.k * s.n));
  TRY(const cuda::Buffer c, ours.allocate({size_of(out).v * s.m * s.n}));
  const Gemm call{.out = out,
                  .m = s.m,
                  .n = s.n,
                  .k = s.k,
                  .transpose_a = weight,
                  .transpose_b = std::string_view(s.form) == "forward",
                  .a = a.data(),
                  .b = b.data(),
                  .c = c.data()};
  TRY(const cuda::Event from, ours.event());
  TRY(const cuda::Event to, ours.event());
  std::vector<double> chosen, best;
  for (int turn = 0; turn <= kTurns; ++turn) {
    TRY(const double x, once(call, ours, from, to));
    TRY(const double y, once(call, all, from, to));
    if (turn == 0) continue;  // the choice is made then
    chosen.push_back(x);
    best.push_back(y);
  }
  const double x = median(std::move(chosen)), y = median(std::move(best));
  fmt::print(R"({{"m":{},"n":{},"k":{},"form":"{}","chosen_s":{:.6g},)"
             R"("best_s":{:.6g},"ratio":{:.4f}}})"
             "\n",
             s.m, s.n, s.k, s.form, x, y, std::min(x, y) / x);
  std::fflush(stdout);
  return {};
}

}  // namespace

Result<void> print_gemms_against_best(int device, double seconds) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  cuda::GemmChoice few;
  few.candidates = kOurCandidates;
  cuda::GemmChoice many;
  many.candidates = kAllCandidates;
  many.workspace = {4 * few.workspace.v};
  TRY(auto ours, cuda::Context::create(device, few));
  TRY(auto all, cuda::Context::create(device, many));
  for (const Shape& shape : shapes()) {
    const std::chrono::duration<double> used = Clock::now() - start;
    if (used.count() > seconds) return {};
    TRY_DO(compare(shape, ours, all));
  }
  return {};
}

}  // namespace troupe::kernels::testing
