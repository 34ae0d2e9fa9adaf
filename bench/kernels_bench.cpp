// Speed of operators on the CPU: products, attention and norms, large and as
// small as those of emulated ranks.
#include <benchmark/benchmark.h>

#include <vector>

#include "kernels/bf16.h"
#include "kernels/cpu.h"

namespace {

using namespace troupe::kernels;

void perform(benchmark::State& state, const Call& call) {
  for (auto _ : state) {
    if (!cpu::run(call)) state.SkipWithError("the call was refused");
  }
  state.counters["flop/s"] = benchmark::Counter(
      flops(shape_of(call)).v, benchmark::Counter::kIsIterationInvariantRate);
}

template <typename T>
void gemm(benchmark::State& state, DType dtype) {
  const auto n = state.range(0);
  const auto size = static_cast<std::size_t>(n * n);
  std::vector<T> a(size), b(size), c(size);
  perform(state, Gemm{.dtype = dtype,
                      .out = dtype,
                      .m = n,
                      .n = n,
                      .k = n,
                      .transpose_b = true,
                      .a = a.data(),
                      .b = b.data(),
                      .c = c.data()});
}
void gemm_fp32(benchmark::State& state) { gemm<float>(state, DType::fp32); }
void gemm_fp64(benchmark::State& state) { gemm<double>(state, DType::fp64); }
void gemm_bf16(benchmark::State& state) { gemm<Bf16>(state, DType::bf16); }
BENCHMARK(gemm_fp32)->Arg(8)->Arg(64)->Arg(768);
BENCHMARK(gemm_fp64)->Arg(8)->Arg(64)->Arg(768);
BENCHMARK(gemm_bf16)->Arg(8)->Arg(64)->Arg(768);

void attention(benchmark::State& state, bool backward) {
  const auto n = state.range(0);
  const std::int64_t heads = n > 64 ? 8 : 2, dim = n > 64 ? 64 : 8;
  const auto size = static_cast<std::size_t>(n * heads * dim);
  std::vector<float> q(size), k(size), v(size), out(size), d_out(size),
      dq(size), dk(size), dv(size), lse(static_cast<std::size_t>(n * heads));
  const std::int32_t starts[2] = {0, static_cast<std::int32_t>(n)};
  const AttentionSizes sizes{.sequences = 1,
                             .q_tokens = n,
                             .kv_tokens = n,
                             .max_q = n,
                             .max_kv = n,
                             .heads = heads,
                             .kv_heads = heads,
                             .head_dim = dim,
                             .q_starts = starts,
                             .kv_starts = starts};
  const AttentionForward forward{.dtype = DType::fp32,
                                 .sizes = sizes,
                                 .q = q.data(),
                                 .k = k.data(),
                                 .v = v.data(),
                                 .out = out.data(),
                                 .lse = lse.data()};
  if (!backward) return perform(state, forward);
  if (!cpu::run(forward)) return state.SkipWithError("refused");
  perform(state, AttentionBackward{.dtype = DType::fp32,
                                   .sizes = sizes,
                                   .q = q.data(),
                                   .k = k.data(),
                                   .v = v.data(),
                                   .out = out.data(),
                                   .lse = lse.data(),
                                   .d_out = d_out.data(),
                                   .dq = dq.data(),
                                   .dk = dk.data(),
                                   .dv = dv.data()});
}
BENCHMARK_CAPTURE(attention, forward, false)->Arg(16)->Arg(1024);
BENCHMARK_CAPTURE(attention, backward, true)->Arg(16)->Arg(1024);

void norm(benchmark::State& state) {
  const auto columns = state.range(0);
  const std::int64_t rows = columns > 64 ? 1024 : 16;
  const auto n = static_cast<std::size_t>(columns);
  std::vector<float> in(n * static_cast<std::size_t>(rows)), out(in), weight(n),
      rstd(static_cast<std::size_t>(rows));
  perform(state, NormForward{.dtype = DType::fp32,
                             .rows = rows,
                             .columns = columns,
                             .in = in.data(),
                             .weight = weight.data(),
                             .out = out.data(),
                             .rstd = rstd.data()});
}
BENCHMARK(norm)->Arg(32)->Arg(4096);

}  // namespace
