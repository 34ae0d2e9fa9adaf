#include "tests/results/sample.h"

#include <fmt/format.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>

namespace troupe::results {
namespace {

using literals::operator""_ms;
using literals::operator""_GiB;

constexpr Time kUnknown{-1};

/// Ends of forwards and backwards of every stage of one 1F1B pipeline.
struct Ends {
  std::vector<std::vector<Time>> forward, backward;
};

/// Order of a stage's work: (micro-batch, is backward).
std::vector<std::pair<int, bool>> one_f_one_b(int stage, int stages, int n) {
  std::vector<std::pair<int, bool>> order;
  const int warm = std::min(stages - stage, n);
  for (int m = 0; m < warm; ++m) order.emplace_back(m, false);
  for (int m = 0; m < n; ++m) {
    order.emplace_back(m, true);
    if (m + warm < n) order.emplace_back(m + warm, false);
  }
  return order;
}

/// Plays one pipeline; `slow` multiplies every computation.
Ends play(const SampleShape& shape, int pipeline, int slow, RunResult& run) {
  const auto stages = static_cast<std::size_t>(shape.stages);
  const auto n = static_cast<std::size_t>(shape.micro_batches);
  Ends ends{{stages, std::vector<Time>(n, kUnknown)},
            {stages, std::vector<Time>(n, kUnknown)}};
  std::vector<std::size_t> next(stages, 0);
  std::vector<Time> free(stages);
  std::vector<std::vector<std::pair<int, bool>>> orders;
  for (int s = 0; s < shape.stages; ++s) {
    orders.push_back(one_f_one_b(s, shape.stages, shape.micro_batches));
  }
  const bool drawn = pipeline < shape.drawn_pipelines;
  for (bool moved = true; moved;) {
    moved = false;
    for (std::size_t s = 0; s < stages; ++s) {
      const auto& order = orders[s];
      for (; next[s] < order.size(); ++next[s], moved = true) {
        const auto [number, back] = order[next[s]];
        const auto m = static_cast<std::size_t>(number);
        Time ready;
        const bool first = back ? s + 1 == stages : s == 0;
        if (!first) {
          ready = back ? ends.backward[s + 1][m] : ends.forward[s - 1][m];
          if (ready == kUnknown) break;
          if (drawn) {
            run.bars.push_back({pipeline, static_cast<int>(s), "transfer",
                                number, ready, ready + 1_ms});
          }
        }
        const Time start = std::max(free[s], ready);
        const Time end = start + slow * (back ? 20_ms : 10_ms);
        (back ? ends.backward : ends.forward)[s][m] = free[s] = end;
        if (drawn) {
          run.bars.push_back({pipeline, static_cast<int>(s),
                              back ? "backward" : "forward", number, start,
                              end});
        }
      }
    }
  }
  return ends;
}

void add_stages(const SampleShape& shape, int pipeline, int slow,
                RunResult& run) {
  const Time busy = shape.micro_batches * slow * 30_ms;
  for (int s = 0; s < shape.stages; ++s) {
    StageSummary stage{.pipeline = pipeline,
                       .stage = s,
                       .kind = slow > 1 ? "a100-sxm" : "h100-sxm",
                       .devices = {},
                       .tp = shape.tp,
                       .cp = 1,
                       .layers = fmt::format("{}-{}", 8 * s, 8 * s + 7),
                       .layer_count = 8,
                       .micro_batches = shape.micro_batches,
                       .breakdown = {},
                       .memory = {},
                       .out_of_memory = false};
    for (int d = 0; d < shape.tp; ++d) {
      stage.devices.push_back((pipeline * shape.stages + s) * shape.tp + d);
    }
    stage.breakdown.tp = {busy.v / 8};
    stage.breakdown.compute = busy - stage.breakdown.tp;
    stage.breakdown.dp = 100_ms;
    stage.breakdown.optimizer = 20_ms;
    stage.breakdown.pp = 14_ms;
    stage.breakdown.bubble =
        run.step_time - busy - 134_ms;  // everything else is waiting
    stage.memory = {.parameters = 4_GiB,
                    .gradients = 8_GiB,
                    .optimizer = 3_GiB,
                    .activations = (shape.stages - s) * 4_GiB,
                    .workspace = 2_GiB,
                    .reserve = 1_GiB,
                    .peak = 18_GiB + (shape.stages - s) * 4_GiB,
                    .limit = 80_GiB};
    stage.out_of_memory = stage.memory.peak > stage.memory.limit;
    run.out_of_memory = run.out_of_memory || stage.out_of_memory;
    run.stages.push_back(stage);
  }
}

void add_sync(const SampleShape& shape, RunResult& run) {
  for (int p = 0; p < std::min(shape.pipelines, shape.drawn_pipelines); ++p) {
    for (int s = 0; s < shape.stages; ++s) {
      const Time done = run.step_time - 120_ms;
      run.bars.push_back({p, s, "gradient_sync", -1, done, done + 100_ms});
      run.bars.push_back({p, s, "optimizer", -1, done + 100_ms, run.step_time});
    }
  }
}

void add_names(const SampleShape& shape, RunResult& run) {
  run.name =
      fmt::format("dp{} tp{} pp{}", shape.pipelines, shape.tp, shape.stages);
  run.model = "llama-70b";
  run.cluster = "h100-1024";
  run.schedule = "0123456789abcdef0123456789abcdef";
  run.inputs = {{"cluster", "11111111111111111111111111111111"},
                {"model", "22222222222222222222222222222222"},
                {"profiles", "33333333333333333333333333333333"},
                {"strategy", "44444444444444444444444444444444"}};
  run.command = {"troupe", "simulate", "strategy.json", "--model", "llama-70b"};
  run.provenance = {0.5, 0.25, 0.125, 0.125};
  run.events = 123456;
  run.wall_time_s = 0.75;
  run.warnings = {
      "no measured all-reduce for h100-sxm across nodes; the "
      "network model was used"};
}

}  // namespace

RunResult sample_run(const SampleShape& shape) {
  RunResult run;
  add_names(shape, run);
  run.gpus = run.cluster_gpus = shape.pipelines * shape.stages * shape.tp;
  const auto slow = [&](int p) { return shape.mixed && p % 2 == 1 ? 2 : 1; };
  Time last;
  for (int p = 0; p < shape.pipelines; ++p) {
    const Ends ends = play(shape, p, slow(p), run);
    last = std::max(last, ends.backward[0].back());
  }
  run.step_time = last + 120_ms;
  for (int p = 0; p < shape.pipelines; ++p) add_stages(shape, p, slow(p), run);
  add_sync(shape, run);
  run.breakdown = run.stages.front().breakdown;
  run.tokens = std::int64_t{4096} * shape.micro_batches * shape.pipelines;
  run.tokens_per_s =
      static_cast<double>(run.tokens) / to_seconds(run.step_time);
  run.mfu = run.mfu_whole_cluster = 0.4375;
  run.mfu_full_attention = 0.453125;
  run.hfu = 0.5;
  run.model_flops = 1.5e18;
  run.usd_per_step = 2.5;
  for (int n = 0; n * 8 < run.cluster_gpus; ++n) {
    NodeSummary node{.name = fmt::format("node{}", n),
                     .kind = slow(n * 8 / (shape.stages * shape.tp)) > 1
                                 ? "a100-sxm"
                                 : "h100-sxm",
                     .devices = 8,
                     .used = 8,
                     .pipelines = {}};
    for (int d = 0; d < 8; ++d) {
      node.pipelines.push_back((n * 8 + d) / (shape.stages * shape.tp));
    }
    run.nodes.push_back(node);
  }
  return run;
}

TemporaryFolder::TemporaryFolder() {
  std::string pattern =
      (std::filesystem::temp_directory_path() / "troupe-results-XXXXXX")
          .string();
  const char* made = ::mkdtemp(pattern.data());
  check(made != nullptr, "a temporary folder can be made");
  path_ = pattern;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace troupe::results
