// A small job for emulation: model, strategy, and both programs.
#pragma once

#include <gtest/gtest.h>

#include "emu/emulate.h"
#include "schedule/lower.h"
#include "strategy/one_device.h"
#include "tests/support/fixtures.h"

namespace troupe::emu::test {

namespace base = troupe::test;

/// fp64 on both sides: nothing but the order of sums differs.
inline constexpr double kBound = 1e-10;

inline const char* const kCluster =
    "8 x h100-sxm per node, 400 Gbit/s per GPU, 16 nodes";

/// Llama-like, or GPT-2-like with biases, learned positions and a tied table.
inline models::Model small_model(bool gpt = false) {
  models::Model m;
  m.name = gpt ? "small-gpt" : "small-llama";
  m.layers = 4;
  m.hidden = 16;
  m.heads = 4;
  m.kv_heads = gpt ? 4 : 2;
  m.head_dim = 4;
  m.ffn = 22;  // does not divide by 4
  m.vocab = 257;
  m.seq_len = 16;
  if (gpt) {
    m.norm = models::Norm::layer;
    m.activation = models::Activation::gelu;
    m.positions = models::Positions::learned;
    m.max_positions = 16;
    m.qkv_bias = m.attention_out_bias = m.mlp_bias = true;
    m.tied_embeddings = true;
  }
  return m;
}

/// For ScheduleKind::custom: all forwards, all input gradients, all weight
/// gradients.
inline schedule::Orders orders_of(const strategy::Strategy& s) {
  using schedule::TaskKind;
  schedule::Orders out;
  if (s.schedule != strategy::ScheduleKind::custom) return out;
  for (const strategy::Pipeline& p : s.phases[0].pipelines) {
    std::vector<schedule::Slot> slots;
    for (const TaskKind kind : {TaskKind::forward, TaskKind::backward_input,
                                TaskKind::backward_weight}) {
      for (int m = 0; m < p.micro_batches; ++m) slots.push_back({kind, 0, m});
    }
    out.emplace_back(p.stages.size(), slots);
  }
  return out;
}

inline Result<exec::Program> program_of(const strategy::Strategy& s,
                                        const models::Model& model) {
  const clusters::Cluster cluster = base::cluster_of(kCluster);
  TRY(schedule::Schedule lowered,
      schedule::lower(s, s.phases[0], model, cluster, orders_of(s)));
  return exec::make_program(
      std::move(lowered), schedule::placements(s, s.phases[0], model), cluster);
}

/// All phases of a strategy.
inline Result<exec::Job> job_of(const strategy::Strategy& s,
                                const models::Model& model) {
  std::vector<exec::Program> phases;
  for (const strategy::Phase& phase : s.phases) {
    strategy::Strategy one = s;
    one.phases = {phase};
    TRY(exec::Program program, program_of(one, model));
    phases.push_back(std::move(program));
  }
  return exec::make_job(std::move(phases), base::cluster_of(kCluster));
}

/// Trains `steps` steps under each of the strategies and compares with one
/// device.
inline Result<Emulation> proven(const std::vector<strategy::Strategy>& list,
                                const models::Model& model, int steps = 2,
                                EmulationOptions options = {}) {
  std::vector<std::unique_ptr<exec::Job>> jobs;
  std::vector<Segment> segments;
  for (const strategy::Strategy& s : list) {
    TRY(exec::Job job, job_of(s, model));
    jobs.push_back(std::make_unique<exec::Job>(std::move(job)));
    Segment& segment = segments.emplace_back();
    segment.job = jobs.back().get();
    segment.steps = steps;
    if (jobs.size() == 1) continue;
    TRY(segment.move, exec::state_move(*jobs[jobs.size() - 2], *jobs.back(),
                                       base::cluster_of(kCluster)));
  }
  const auto batches =
      batches_of(segments, data::sample_corpus(), options.seed);
  const auto alone = [&](std::span<const std::int32_t> lengths) {
    return program_of(strategy::one_device(list[0], model.layers, lengths),
                      model);
  };
  TRY(const std::vector<Snapshot> truth,
      run_alone(alone, batches, options.training,
                exec::initial_values(options.seed)));
  return emulate(segments, batches, options, &truth);
}

}  // namespace troupe::emu::test
