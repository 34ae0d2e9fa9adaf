#include "tests/kernels/attention_bodies.h"

#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <random>
#include <vector>

#include "kernels/bf16.h"
#include "kernels/cuda.h"

namespace troupe::kernels::testing {
namespace {

struct Shape {
  std::int64_t sequences, length, heads, kv_heads, dim;
  bool causal = true;
  std::int64_t window = 0;
  bool uniform = true;  ///< told to the body
};

// Heads as the shipped models have them; then other heads and masks.
std::vector<Shape> shapes() {
  return {{1, 4096, 32, 8, 128},
          {1, 4096, 32, 32, 128},
          {4, 2048, 32, 32, 128},
          {1, 8192, 64, 8, 128},
          {2, 4096, 16, 16, 64},
          {2, 2048, 32, 32, 80},
          {2, 2048, 16, 16, 96},
          {2, 2048, 64, 64, 104},
          {1, 4096, 32, 8, 128, false},
          {1, 8192, 32, 8, 128, true, 1024},
          {4, 1024, 32, 8, 128, true, 0, false},
          {1, 32768, 8, 8, 128}};
}

Result<cuda::Buffer> normal(cuda::Context& context, std::int64_t elements) {
  std::mt19937_64 random(1);
  std::normal_distribution<float> draw;
  std::vector<Bf16> numbers(static_cast<std::size_t>(elements));
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    // A block of a million, over and over.
    numbers[i] =
        i < std::size_t{1} << 20 ? Bf16(draw(random)) : numbers[i % (1 << 20)];
  }
  TRY(cuda::Buffer buffer, context.allocate({2 * elements}));
  TRY_DO(context.copy_in(buffer.data(), numbers.data(), {2 * elements}));
  return buffer;
}

void print(const Shape& s, bool backward, bool deterministic,
           const cuda::AttentionReport& r) {
  const nlohmann::json line{
      {"attention",
       fmt::format("{}x{} heads {}/{} dim {}{}{}{}", s.sequences, s.length,
                   s.heads, s.kv_heads, s.dim, s.causal ? " causal" : "",
                   s.window > 0 ? fmt::format(" window {}", s.window) : "",
                   s.uniform ? "" : " packed")},
      {"backward", backward},
      {"deterministic", deterministic},
      {"own_s", r.own},
      {"cudnn_s", r.cudnn},
      {"by_cudnn", r.by_cudnn},
      {"refusal", r.refusal}};
  fmt::print("{}\n", line.dump());
  std::fflush(stdout);
}

// A context of its own for each call: its report is of that one.
Result<void> decide(const Shape& shape, const Call& call, bool backward,
                    bool deterministic, int device) {
  cuda::AttentionChoice choice;
  choice.deterministic = deterministic;
  choice.workspace = {std::int64_t{8} << 30};
  TRY(auto context, cuda::Context::create(device, {}, choice));
  TRY_DO(cuda::run(call, context));
  TRY_DO(context.synchronize());
  for (const auto& one : context.attention_report()) {
    print(shape, backward, deterministic, one);
  }
  return {};
}

Result<void> measure(const Shape& s, cuda::Context& context) {
  const std::int64_t tokens = s.sequences * s.length;
  const std::int64_t q_row = s.heads * s.dim, kv_row = s.kv_heads * s.dim;
  std::vector<std::int32_t> starts;
  for (std::int64_t i = 0; i <= s.sequences; ++i) {
    starts.push_back(static_cast<std::int32_t>(i * s.length));
  }
  const Bytes size{std::ssize(starts) * 4};
  TRY(const cuda::Buffer at, context.allocate(size));
  TRY_DO(context.copy_in(at.data(), starts.data(), size));
  std::vector<cuda::Buffer> m;
  for (const std::int64_t row :
       {q_row, kv_row, kv_row, q_row, q_row, q_row, kv_row, kv_row}) {
    TRY(cuda::Buffer one, normal(context, tokens * row));
    m.push_back(std::move(one));
  }
  TRY(const cuda::Buffer lse, context.allocate({4 * tokens * s.heads}));
  AttentionForward forward{.q = m[0].data(),
                           .k = m[1].data(),
                           .v = m[2].data(),
                           .out = m[3].data(),
                           .lse = lse.data()};
  auto& sizes = forward.sizes;
  sizes.sequences = s.sequences;
  sizes.q_tokens = sizes.kv_tokens = tokens;
  sizes.max_q = sizes.max_kv = s.length;
  sizes.heads = s.heads;
  sizes.kv_heads = s.kv_heads;
  sizes.head_dim = s.dim;
  sizes.causal = s.causal;
  sizes.uniform = s.uniform;
  sizes.window = s.window;
  sizes.q_starts = sizes.kv_starts =
      static_cast<const std::int32_t*>(at.data());
  const int device = context.device().ordinal;
  TRY_DO(decide(s, forward, false, true, device));
  AttentionBackward backward{.sizes = sizes,
                             .q = m[0].data(),
                             .k = m[1].data(),
                             .v = m[2].data(),
                             .out = m[3].data(),
                             .lse = lse.data(),
                             .d_out = m[4].data(),
                             .dq = m[5].data(),
                             .dk = m[6].data(),
                             .dv = m[7].data()};
  TRY(const cuda::Buffer scratch, context.allocate(workspace(backward)));
  backward.workspace = scratch.data();
  TRY_DO(decide(s, backward, true, true, device));
  return decide(s, backward, true, false, device);
}

}  // namespace

Result<void> print_attention_bodies(int device, double seconds) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  TRY(auto context, cuda::Context::create(device));
  for (const Shape& shape : shapes()) {
    const std::chrono::duration<double> used = Clock::now() - start;
    if (used.count() > seconds) return {};
    TRY_DO(measure(shape, context));
  }
  return {};
}

}  // namespace troupe::kernels::testing
