// Sequences of many short documents, and of padding, through every way to cut
// them: the numbers are those of one device.
#include <array>
#include <random>

#include "tests/emu/small_job.h"

namespace troupe::emu {
namespace {

using test::job_of;
using test::kBound;
using test::program_of;
using test::small_model;

/// Documents of 1 to 9 tokens: ends fall everywhere in a ring's chunks.
data::Corpus short_documents(std::uint64_t seed) {
  std::mt19937_64 dice(seed);
  data::Corpus corpus;
  for (int d = 0; d < 40; ++d) {
    auto& document = corpus.documents.emplace_back();
    for (std::uint64_t n = 1 + dice() % 9; n > 0; --n) {
      document.push_back(static_cast<std::int32_t>(dice() % 257));
    }
  }
  return corpus;
}

/// Takes the last document of every other sequence away.
void pad(data::Batch& batch) {
  bool turn = false;
  for (auto& pipeline : batch.pipelines) {
    for (data::MicroBatch& micro_batch : pipeline) {
      for (data::Sequence& s : micro_batch) {
        turn = !turn;
        if (!turn || s.starts.size() < 3) continue;
        s.starts.pop_back();
        for (auto i = static_cast<std::size_t>(s.starts.back());
             i < s.tokens.size(); ++i) {
          batch.labels -= s.labels[i] >= 0 ? 1 : 0;
          s.labels[i] = -1;
          s.tokens[i] = s.positions[i] = 0;
        }
      }
    }
  }
}

void expect_equal(strategy::Strategy s, const models::Model& model,
                  std::uint64_t seed) {
  s.dtype = kernels::DType::fp64;
  const auto job = job_of(s, model);
  ASSERT_TRUE(job.has_value()) << job.error().message;
  EmulationOptions options;
  options.seed = seed;
  const std::vector<Segment> segments{{&*job, 2, {}}};
  auto batches = batches_of(segments, short_documents(seed), seed);
  for (StepBatches& step : batches) pad(step.at(0));
  const auto alone = [&](std::span<const std::int32_t> lengths) {
    return program_of(strategy::one_device(s, model.layers, lengths), model);
  };
  const auto truth =
      run_alone(alone, batches, options.training, exec::initial_values(seed));
  ASSERT_TRUE(truth.has_value()) << truth.error().message;
  const auto run = emulate(segments, batches, options, &*truth);
  ASSERT_TRUE(run.has_value()) << run.error().message;
  for (const auto& [group, value] : run->deviation->by_group) {
    EXPECT_LT(value, kBound) << group << ", seed " << seed;
  }
  EXPECT_LT(run->deviation->largest(), kBound);
}

strategy::Strategy small(const models::Model& model,
                         const test::base::Degrees& shape, int seq_len) {
  auto s = test::base::strategy_of(model, shape);
  s.seq_len = seq_len;
  return s;
}

TEST(Documents, OfRingsEqualOneDevice) {
  const auto model = small_model();
  for (const std::uint64_t seed : {1U, 2U, 3U, 4U}) {
    expect_equal(small(model, {.cp = 2}, 23), model, seed);
    expect_equal(small(model, {.tp = 2, .cp = 3, .micro_batch_size = 2}, 31),
                 model, seed);
    auto unequal = small(model, {.cp = 4, .pp = 2}, 37);
    const std::array<double, 4> shares{0.45, 0.3, 0.2, 0.05};
    for (auto& stage : unequal.phases[0].pipelines[0].stages) {
      for (std::size_t m = 0; m < 4; ++m) stage.members[m].share = shares[m];
    }
    expect_equal(unequal, model, seed);
  }
}

TEST(Documents, OfWholeSequencesEqualOneDevice) {
  for (const bool gpt : {false, true}) {
    const auto model = small_model(gpt);
    for (const std::uint64_t seed : {1U, 2U}) {
      expect_equal(small(model, {.dp = 2, .tp = 2, .micro_batch_size = 3}, 13),
                   model, seed);
      expect_equal(small(model, {.tp = 4, .pp = 2}, 15), model, seed);
    }
  }
}

/// Documents of one token have no label: nothing is learnt, nothing breaks.
TEST(Documents, WithoutALabelLeaveOnlyDecay) {
  const auto model = small_model();
  auto s = small(model, {.dp = 2}, 8);
  s.dtype = kernels::DType::fp64;
  const auto job = job_of(s, model);
  ASSERT_TRUE(job.has_value());
  const data::Corpus corpus{.documents = {{5}}};
  const std::vector<Segment> segments{{&*job, 2, {}}};
  const auto batches = batches_of(segments, corpus, 1);
  ASSERT_EQ(batches[0][0].labels, 0);
  const auto run = emulate(segments, batches, {});
  ASSERT_TRUE(run.has_value()) << run.error().message;
  EXPECT_EQ(run->loss, (std::vector<double>{0, 0}));
  EXPECT_EQ(run->gradient_norm, (std::vector<double>{0, 0}));
}

}  // namespace
}  // namespace troupe::emu
