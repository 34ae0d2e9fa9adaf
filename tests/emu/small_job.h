// A small job for emulation: model, strategy, and both programs.
#pragma once

#include <gtest/gtest.h>

#include "emu/emulate.h"
#include "schedule/lower.h"
#include "strategy/one_device.h"
#include "tests/support/fixtures.h"

namespace troupe::emu::test {

namespace base = troupe::test;

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

inline Result<exec::Program> program_of(const strategy::Strategy& s,
                                        const models::Model& model) {
  const clusters::Cluster cluster = base::cluster_of(kCluster);
  TRY(schedule::Schedule lowered,
      schedule::lower(s, s.phases[0], model, cluster));
  return exec::make_program(
      std::move(lowered), schedule::placements(s, s.phases[0], model), cluster);
}

/// Emulates and compares with one device.
inline Result<Emulation> proven(const strategy::Strategy& s,
                                const models::Model& model,
                                EmulationOptions options = {}) {
  TRY(const exec::Program program, program_of(s, model));
  const auto batches =
      batches_of(program.schedule, data::sample_corpus(), options);
  const schedule::MicroBatches all = one_by_one(program.schedule.micro_batches);
  TRY(const exec::Program alone,
      program_of(strategy::one_device(s, model.layers, all.seq_len), model));
  TRY(const std::vector<Snapshot> truth,
      run_alone(alone, batches, options.training, options.seed));
  return emulate(program, batches, options, &truth);
}

}  // namespace troupe::emu::test
