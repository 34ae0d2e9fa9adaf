#include "emu/emulate.h"

#include "tests/emu/small_job.h"

namespace troupe::emu {
namespace {

using test::kBound;
using test::proven;
using test::small_model;

void expect_equal(std::vector<strategy::Strategy> list,
                  const models::Model& model) {
  for (strategy::Strategy& s : list) s.dtype = kernels::DType::fp64;
  const auto run = proven(list, model);
  ASSERT_TRUE(run.has_value()) << run.error().message;
  ASSERT_TRUE(run->deviation.has_value());
  for (const auto& [group, value] : run->deviation->by_group) {
    EXPECT_LT(value, kBound) << group;
  }
  EXPECT_LT(run->deviation->gradients, kBound);
  EXPECT_LT(run->deviation->parameters, kBound);
  EXPECT_LT(run->deviation->loss, kBound);
  EXPECT_GT(run->loss[0], 0);
  EXPECT_NE(run->loss[0], run->loss[1]);
}

void expect_equal(const strategy::Strategy& s, const models::Model& model) {
  expect_equal(std::vector{s}, model);
}

strategy::Strategy small(const models::Model& model,
                         const test::base::Degrees& shape) {
  auto s = test::base::strategy_of(model, shape);
  s.seq_len = 16;
  return s;
}

TEST(Emulation, OneRankEqualsItself) {
  const auto model = small_model();
  expect_equal(small(model, {}), model);
}

TEST(Emulation, DataParallelismEqualsOneDevice) {
  const auto model = small_model();
  expect_equal(small(model, {.dp = 3}), model);
}

TEST(Emulation, TensorParallelismEqualsOneDevice) {
  const auto model = small_model();
  expect_equal(small(model, {.tp = 2}), model);
  expect_equal(small(model, {.tp = 4}), model);
  auto whole = small(model, {.tp = 4});
  whole.sequence_parallel = false;
  expect_equal(whole, model);
}

TEST(Emulation, PipelinesEqualOneDevice) {
  const auto model = small_model();
  expect_equal(small(model, {.pp = 4, .micro_batches = 3}), model);
}

TEST(Emulation, Gpt2EqualsOneDevice) {
  const auto model = small_model(true);
  expect_equal(small(model, {}), model);
  expect_equal(small(model, {.dp = 2, .tp = 2, .pp = 2}), model);
  auto whole = small(model, {.tp = 2});
  whole.sequence_parallel = false;
  expect_equal(whole, model);
}

TEST(Emulation, LocalLayersEqualOneDevice) {
  auto model = small_model();
  model.attention_window = 5;
  model.full_attention_every = 2;
  model.rotary_base = 100;
  expect_equal(small(model, {.dp = 2, .tp = 2, .pp = 2}), model);
  auto recomputed = small(model, {.tp = 2, .pp = 2});
  recomputed.recompute.mode = strategy::Recompute::full;
  expect_equal(recomputed, model);
}

TEST(Emulation, ContextParallelRingsEqualOneDevice) {
  const auto model = small_model();
  expect_equal(small(model, {.cp = 2}), model);
  expect_equal(small(model, {.tp = 2, .cp = 3, .micro_batch_size = 2}), model);
  auto unequal = small(model, {.cp = 3});
  auto& members = unequal.phases[0].pipelines[0].stages[0].members;
  members[0].share = 0.5;
  members[1].share = 0.3;
  members[2].share = 0.2;
  expect_equal(unequal, model);
}

TEST(Emulation, ZeroEqualsOneDevice) {
  const auto model = small_model();
  for (const auto zero :
       {strategy::Zero::one, strategy::Zero::two, strategy::Zero::three}) {
    auto s = small(model, {.dp = 2, .tp = 2});
    s.zero = zero;
    expect_equal(s, model);
  }
}

TEST(Emulation, RecomputationEqualsOneDevice) {
  const auto model = small_model();
  for (const auto mode :
       {strategy::Recompute::selective, strategy::Recompute::full}) {
    auto s = small(model, {.tp = 2, .cp = 2, .pp = 2});
    s.recompute.mode = mode;
    expect_equal(s, model);
  }
}

TEST(Emulation, InterleavedChunksEqualOneDevice) {
  const auto model = small_model();
  expect_equal(small(model, {.pp = 2, .chunks = 2, .micro_batches = 5}), model);
}

/// TP 4 | 2 | 1 beside TP 2 | 4 with other cuts and micro-batch counts.
TEST(Emulation, UnequalPipelinesEqualOneDevice) {
  const auto model = small_model();
  auto s = small(model, {.dp = 2, .tp = 4, .pp = 2});
  auto& first = s.phases[0].pipelines[0].stages;
  first[0].chunks = {{0, 2}};
  first[1].chunks = {{2, 3}};
  first[1].members[0].devices = {clusters::DeviceId{4}, clusters::DeviceId{5}};
  strategy::Stage last;
  last.members = {{{clusters::DeviceId{6}}, 1.0}};
  last.chunks = {{3, 4}};
  first.push_back(last);
  auto& second = s.phases[0].pipelines[1];
  second.stages[0].chunks = {{0, 1}};
  second.stages[0].members[0].devices.resize(2);
  second.stages[1].chunks = {{1, 4}};
  second.micro_batches = 2;
  second.micro_batch_size = 3;
  second.seq_len = 8;
  for (const auto zero : {strategy::Zero::none, strategy::Zero::one}) {
    s.zero = zero;
    expect_equal(s, model);
  }
  s.overlap_gradient_sync = true;
  expect_equal(s, model);
}

/// Three phases in one step, as HotSPa switches: parameters and gradients
/// move between unequal layouts on overlapping sets of devices.
TEST(Emulation, HotSwitchedStepsEqualOneDevice) {
  const auto model = small_model();
  auto s = small(model, {.dp = 2, .tp = 2, .micro_batches = 2});
  auto longer = small(model, {.tp = 4, .pp = 2, .micro_batches = 1});
  longer.phases[0].pipelines[0].seq_len = 24;
  auto shorter = small(model, {.dp = 6, .micro_batches = 2});
  for (auto& p : shorter.phases[0].pipelines) p.seq_len = 8;
  s.phases.push_back(longer.phases[0]);
  s.phases.push_back(shorter.phases[0]);
  for (const auto zero : {strategy::Zero::none, strategy::Zero::one}) {
    s.zero = zero;
    expect_equal(s, model);
  }
}

/// Steps under one strategy, then under others: parameters and optimizer
/// states move along.
TEST(Emulation, ChangedStrategiesEqualOneDevice) {
  const auto model = small_model(true);
  auto sharded = small(model, {.dp = 2, .tp = 2, .pp = 2});
  sharded.zero = strategy::Zero::one;
  const auto wide = small(model, {.tp = 4, .cp = 2});
  auto fewer = small(model, {.dp = 3});
  fewer.zero = strategy::Zero::three;
  expect_equal({sharded, wide, fewer, sharded}, model);
}

/// The reduction differs from rank to rank only in rounding.
TEST(Emulation, SinglePrecisionStaysWithinItsBound) {
  for (const bool gpt : {false, true}) {
    const auto model = small_model(gpt);
    auto s = small(model, {.dp = 2, .tp = 2, .pp = 2});
    s.dtype = kernels::DType::fp32;
    for (std::uint64_t seed = 1; seed < 8; ++seed) {
      EmulationOptions options;
      options.seed = seed;
      const auto run = proven({s}, model, 3, options);
      ASSERT_TRUE(run.has_value()) << run.error().message;
      for (const auto& [group, value] : run->deviation->by_group) {
        EXPECT_LT(value, 1e-5) << group << " seed " << seed;
      }
      EXPECT_LT(run->deviation->largest(), 1e-5);
      EXPECT_GT(run->deviation->largest(), 0);
    }
  }
}

}  // namespace
}  // namespace troupe::emu
