// ZeRO 2 and 3: weights that are gathered where they are used, gradients that
// go to their owners from inside the backward.
#include <gmock/gmock.h>

#include <functional>

#include "emu/cpu_device.h"
#include "schedule/check.h"
#include "tests/emu/small_job.h"

namespace troupe::emu {
namespace {

using schedule::Action;
using schedule::Block;
using schedule::Operator;
using strategy::Zero;
using test::program_of;
using test::proven;
using test::small_model;
using testing::HasSubstr;

/// fp64 on both sides: nothing but the order of sums differs.
constexpr double kBound = 1e-10;

strategy::Strategy small(const models::Model& model,
                         const test::base::Degrees& shape, Zero zero) {
  auto s = test::base::strategy_of(model, shape);
  s.seq_len = 16;
  s.zero = zero;
  s.dtype = kernels::DType::fp64;
  return s;
}

Emulation expect_equal(const std::vector<strategy::Strategy>& list,
                       const models::Model& model) {
  const auto run = proven(list, model);
  EXPECT_TRUE(run.has_value()) << (run ? "" : run.error().message);
  if (!run) return {};
  EXPECT_LT(run->deviation->largest(), kBound);
  for (const auto& [group, value] : run->deviation->by_group) {
    EXPECT_LT(value, kBound) << group;
  }
  EXPECT_NE(run->loss[0], run->loss[1]);
  return *run;
}

/// TP 4 | 2 | 1 beside TP 2 | 4 with other cuts and micro-batches, and a third
/// of one stage whose two members share the context.
strategy::Strategy unequal(const models::Model& model, Zero zero) {
  auto s = small(model, {.dp = 2, .tp = 4, .pp = 2}, zero);
  const auto devices = [](int first, int count) {
    std::vector<clusters::DeviceId> out;
    for (int i = 0; i < count; ++i)
      out.push_back(clusters::DeviceId{first + i});
    return out;
  };
  auto& pipelines = s.phases[0].pipelines;
  auto& first = pipelines[0].stages;
  first[0].chunks = {{0, 2}};
  first[1].chunks = {{2, 3}};
  first[1].members[0].devices = devices(4, 2);
  strategy::Stage last;
  last.members = {{devices(6, 1), 1.0}};
  last.chunks = {{3, 4}};
  first.push_back(last);
  auto& second = pipelines[1];
  second.stages[0].chunks = {{0, 1}};
  second.stages[0].members[0].devices.resize(2);
  second.stages[1].chunks = {{1, 4}};
  second.micro_batches = 2;
  second.micro_batch_size = 3;
  second.seq_len = 8;
  strategy::Pipeline third;
  third.micro_batches = 5;
  strategy::Stage whole;
  whole.members = {{devices(16, 2), 0.5}, {devices(18, 2), 0.5}};
  whole.chunks = {{0, 4}};
  third.stages.push_back(whole);
  pipelines.push_back(third);
  return s;
}

TEST(Zero, UnequalPipelinesEqualOneDevice) {
  for (const bool gpt : {false, true}) {
    const auto model = small_model(gpt);
    for (const Zero zero : {Zero::two, Zero::three}) {
      expect_equal({unequal(model, zero)}, model);
    }
  }
}

TEST(Zero, RecomputationEqualsOneDevice) {
  const auto model = small_model();
  for (const auto mode :
       {strategy::Recompute::selective, strategy::Recompute::full}) {
    auto s = unequal(model, Zero::three);
    s.recompute.mode = mode;
    expect_equal({s}, model);
  }
}

/// Weight gradients as tasks of their own; those of norms come with the input
/// gradients.
TEST(Zero, SplitBackwardsEqualOneDevice) {
  for (const Zero zero : {Zero::none, Zero::two, Zero::three}) {
    for (const auto mode :
         {strategy::Recompute::none, strategy::Recompute::full}) {
      const auto model = small_model();
      auto s = small(model, {.dp = 2, .tp = 2, .pp = 2}, zero);
      s.schedule = strategy::ScheduleKind::custom;
      s.recompute.mode = mode;
      expect_equal({s}, model);
    }
  }
}

TEST(Zero, TiedTablesOfBothEndsEqualOneDevice) {
  const auto model = small_model(true);
  for (const Zero zero : {Zero::two, Zero::three}) {
    // Nothing but the table has a second holder.
    expect_equal({small(model, {.tp = 2, .pp = 2}, zero)}, model);
    expect_equal({small(model, {.dp = 2, .pp = 2}, zero)}, model);
    expect_equal({small(model, {.dp = 2}, zero)}, model);
  }
}

TEST(Zero, ContextParallelRingsEqualOneDevice) {
  const auto model = small_model();
  auto s = small(model, {.tp = 2, .cp = 3}, Zero::three);
  auto& members = s.phases[0].pipelines[0].stages[0].members;
  members[0].share = 0.5;
  members[1].share = 0.3;
  members[2].share = 0.2;
  expect_equal({s}, model);
  s.sequence_parallel = false;
  expect_equal({s}, model);
}

/// Chunks in another order than the other pipeline's layers: replicas that
/// waited for each other inside a backward would wait for ever.
TEST(Zero, InterleavedChunksBesideOneStageEqualOneDevice) {
  const auto model = small_model();
  for (const Zero zero : {Zero::two, Zero::three}) {
    auto s = small(model, {.pp = 2, .chunks = 2, .micro_batches = 4}, zero);
    strategy::Pipeline other;
    other.micro_batches = 3;
    strategy::Stage stage;
    stage.members = {{{clusters::DeviceId{2}, clusters::DeviceId{3}}, 1.0}};
    stage.chunks = {{0, 2}, {2, 4}};
    other.stages.push_back(stage);
    s.phases[0].pipelines.push_back(other);
    expect_equal({s}, model);
  }
}

TEST(Zero, HotSwitchedStepsEqualOneDevice) {
  const auto model = small_model(true);
  for (const Zero zero : {Zero::two, Zero::three}) {
    auto s = small(model, {.dp = 2, .tp = 2, .micro_batches = 2}, zero);
    auto longer = small(model, {.tp = 4, .pp = 2, .micro_batches = 1}, zero);
    longer.phases[0].pipelines[0].seq_len = 16;
    auto shorter = small(model, {.dp = 6, .micro_batches = 2}, zero);
    for (auto& p : shorter.phases[0].pipelines) p.seq_len = 8;
    s.phases.push_back(longer.phases[0]);
    s.phases.push_back(shorter.phases[0]);
    expect_equal({s}, model);
  }
}

TEST(Zero, ChangedStrategiesEqualOneDevice) {
  const auto model = small_model();
  const auto three = unequal(model, Zero::three);
  const auto wide = small(model, {.tp = 4, .cp = 2}, Zero::none);
  const auto fewer = small(model, {.dp = 3}, Zero::three);
  const auto two = small(model, {.dp = 2, .tp = 2}, Zero::two);
  expect_equal({three, fewer, wide, three, two, fewer}, model);
}

/// Four replicas of N fp64 parameters that all divide by four. A rank keeps
/// master, two moments, the gradients' sum and a rounded copy, a quarter of
/// each; below ZeRO 3 also whole parameters, below ZeRO 2 whole gradients.
TEST(Zero, ARankHoldsItsSharesAlone) {
  models::Model model = small_model();
  model.kv_heads = 4;
  model.ffn = 24;
  model.vocab = 256;
  std::int64_t n = 0;
  for (const auto& p : models::parameter_list(model)) n += p.elements();
  const auto held = [&](Zero zero) {
    return expect_equal({small(model, {.dp = 4}, zero)}, model);
  };
  const Emulation one = held(Zero::one);
  const Emulation two = held(Zero::two);
  const Emulation three = held(Zero::three);
  const std::int64_t shares = 5 * 8 * n / 4;
  const std::int64_t scratch = one.between_steps.v - shares - 2 * 8 * n;
  EXPECT_GE(scratch, 0);
  EXPECT_LT(scratch, 8 * n / 4);
  EXPECT_EQ(two.between_steps.v, shares + 8 * n + scratch);
  EXPECT_EQ(three.between_steps.v, shares + scratch);
  // While it works, two layers' weights and gradients come on top.
  EXPECT_LT(three.most_memory, one.most_memory);
}

// What is wrong with a schedule is found before it runs, and again where it
// runs all the same.

schedule::Schedule lowered(Zero zero) {
  const auto model = small_model();
  const auto s = small(model, {.dp = 2}, zero);
  auto made = schedule::lower(s, s.phases[0], model,
                              test::base::cluster_of(test::kCluster));
  EXPECT_TRUE(made.has_value());
  return std::move(*made);
}

using Change = std::function<void(Block&)>;

void change_blocks(schedule::Schedule& s, std::string_view name,
                   const Change& change) {
  for (Block& block : s.blocks) {
    if (block.name.starts_with(name)) change(block);
  }
}

/// What the check says of a schedule after a change of some blocks.
std::string said(std::string_view blocks, const Change& change) {
  schedule::Schedule s = lowered(Zero::three);
  EXPECT_TRUE(schedule::check_shapes(s).ok());
  change_blocks(s, blocks, change);
  const auto model = small_model();
  const auto strategy = small(model, {.dp = 2}, Zero::three);
  const auto program = exec::make_program(
      s, schedule::placements(strategy, strategy.phases[0], model),
      test::base::cluster_of(test::kCluster));
  EXPECT_FALSE(program.has_value());
  const auto findings = schedule::check_shapes(s);
  EXPECT_FALSE(findings.ok());
  return findings.ok() ? "" : findings.to_error().message;
}

void drop_gather(Block& b) { b.operators[0].outputs.clear(); }

void drop_releases(Block& b) {
  for (Operator& op : b.operators) op.releases.clear();
}

/// Position of the last operator that releases something.
std::size_t releasing(const Block& b) {
  std::size_t at = b.operators.size() - 1;
  while (b.operators[at].releases.empty()) --at;
  return at;
}

TEST(Zero, AScheduleThatSharesWronglyIsFound) {
  for (const char* where : {"layer.forward", "layer.backward", "head.forward",
                            "head.backward", "embedding.forward"}) {
    EXPECT_THAT(said(where, drop_gather), HasSubstr("nobody has gathered"));
    EXPECT_THAT(said(where, drop_releases), HasSubstr("never released"));
    EXPECT_THAT(said(where,
                     [](Block& b) {
                       for (Operator& op : b.operators) op.after.clear();
                     }),
                HasSubstr("without waiting for their gather"));
  }
  EXPECT_THAT(said("layer.forward",
                   [](Block& b) {
                     const auto last = releasing(b);
                     b.operators[1].releases = b.operators[last].releases;
                     b.operators[last].releases.clear();
                   }),
              HasSubstr("after their release"));
  EXPECT_THAT(said("layer.forward",
                   [](Block& b) {
                     b.operators.push_back(b.operators[0]);
                     b.operators.push_back(b.operators[0]);
                   }),
              HasSubstr("a second time"));
  for (const char* where :
       {"layer.backward", "head.backward", "embedding.backward"}) {
    EXPECT_THAT(
        said(where, [](Block& b) { b.operators.back().inputs.clear(); }),
        HasSubstr("never reach their owners"));
    EXPECT_THAT(said(where,
                     [](Block& b) {
                       std::swap(b.operators.back(), b.operators.front());
                     }),
                HasSubstr("before it is made"));
  }
}

/// Trains one step on a job whose schedule was changed after it was checked.
std::string run_says(const std::vector<Change>& changes,
                     std::string_view blocks) {
  const auto model = small_model();
  auto job = test::job_of(small(model, {.dp = 2}, Zero::three), model);
  EXPECT_TRUE(job.has_value());
  for (const Change& change : changes) {
    change_blocks(job->phases[0].schedule, blocks, change);
  }
  std::vector<Segment> segments(1);
  segments[0].job = &*job;
  const auto batches = batches_of(segments, data::sample_corpus(), 1);
  const auto run = emulate(segments, batches, {});
  return run ? "" : run.error().message;
}

TEST(Zero, AStepWithoutAGatherOrAReleaseStops) {
  EXPECT_EQ(run_says({}, "layer.forward"), "");
  for (const char* where : {"layer.forward", "layer.backward"}) {
    EXPECT_THAT(run_says({drop_gather}, where),
                HasSubstr("are not here: nobody has gathered them"));
    EXPECT_THAT(run_says({drop_releases}, where),
                HasSubstr("has not released weights"));
  }
  EXPECT_THAT(run_says({[](Block& b) {
                         const auto last = releasing(b);
                         auto& early = b.operators[last - 1].releases;
                         const auto& late = b.operators[last].releases;
                         early.insert(early.end(), late.begin(), late.end());
                       }},
                       "layer.forward"),
              HasSubstr("or they were released"));
  EXPECT_THAT(run_says({[](Block& b) { b.operators.back().inputs.clear(); }},
                       "layer.backward"),
              HasSubstr("given fewer than the schedule says"));
}

/// Reads of one layer's weights, or gradients of a rank, that go astray.
struct Astray {
  exec::Tag read = 0, instead = 0;  ///< names
  exec::Tag lost = 0;               ///< of gradients that never arrive
};

class Misled final : public exec::Communicator {
 public:
  Misled(exec::Communicator& real, const Astray& astray)
      : real_(real), astray_(astray) {}
  exec::RankId rank() const override { return real_.rank(); }
  Result<void> all_gather(std::span<const exec::RankId> group,
                          std::span<const std::byte> mine,
                          std::span<const Bytes> sizes,
                          std::span<std::byte> all, Time& time) override {
    return real_.all_gather(group, mine, sizes, all, time);
  }
  Result<void> all_reduce(std::span<const exec::RankId> group,
                          kernels::DType dtype, std::span<std::byte> numbers,
                          Time& time) override {
    return real_.all_reduce(group, dtype, numbers, time);
  }
  Result<void> send(exec::RankId to, exec::Tag tag,
                    std::span<const std::byte> bytes, Time time) override {
    if (astray_.lost != 0 && tag >> 40 == astray_.lost >> 40) return {};
    return real_.send(to, tag, bytes, time);
  }
  Result<void> receive(exec::RankId from, exec::Tag tag,
                       std::span<std::byte> bytes, Time& time) override {
    return real_.receive(from, tag, bytes, time);
  }
  Result<bool> try_receive(exec::RankId from, exec::Tag tag,
                           std::span<std::byte> bytes, Time& time) override {
    return real_.try_receive(from, tag, bytes, time);
  }
  void expose(exec::Tag name, std::span<const std::byte> memory) override {
    real_.expose(name, memory);
  }
  void withdraw(exec::Tag name) override { real_.withdraw(name); }
  Result<void> fetch(exec::RankId from, exec::Tag name,
                     std::span<const exec::Strip> strips,
                     std::span<std::byte> to) override {
    return real_.fetch(from, name == astray_.read ? astray_.instead : name,
                       strips, to);
  }
  Result<void> meet(std::span<const exec::RankId> group, Time& time) override {
    return real_.meet(group, time);
  }

 private:
  exec::Communicator& real_;
  Astray astray_;
};

/// Deviation of one step of two replicas from one device's; rank 1 is misled.
Result<double> deviation_with(const Astray& astray) {
  const auto model = small_model();
  const auto s = small(model, {.dp = 2}, Zero::three);
  TRY(const exec::Job job, test::job_of(s, model));
  std::vector<Segment> segments(1);
  segments[0].job = &job;
  const auto batches = batches_of(segments, data::sample_corpus(), 1);
  const auto alone = [&](std::span<const std::int32_t> lengths) {
    return program_of(strategy::one_device(s, model.layers, lengths), model);
  };
  TRY(const auto truth, run_alone(alone, batches, {}, exec::initial_values(1)));
  std::vector<double> off(2);
  Hub hub(2, {.threads = 1});
  const auto work = [&](exec::Communicator& world) -> Result<void> {
    Misled misled(world, world.rank() == exec::RankId{1} ? astray : Astray{});
    CpuDevice device;
    exec::Session session(job, clusters::DeviceId{world.rank().v}, device,
                          misled, job.rank_of);
    TRY_DO(session.initialise(exec::initial_values(1)));
    TRY_DO(session.step(batches[0], {}, 1));
    TRY(const Deviation d,
        compare(session.updater()->weights(), device, truth[0]));
    off[world.rank().at()] = d.largest();
    return {};
  };
  TRY_DO(hub.run(work));
  return std::max(off[0], off[1]);
}

exec::Tag name_of_weight(const std::string& wanted) {
  const auto list = models::parameter_list(small_model());
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (list[i].name == wanted) return (static_cast<exec::Tag>(i) + 1) << 40;
  }
  ADD_FAILURE() << wanted;
  return 0;
}

TEST(Zero, WeightsOfAnotherLayerAreNoticed) {
  const auto right = deviation_with({});
  ASSERT_TRUE(right.has_value()) << right.error().message;
  EXPECT_LT(*right, kBound);
  const auto wrong =
      deviation_with({.read = name_of_weight("layers.1.mlp.up"),
                      .instead = name_of_weight("layers.2.mlp.up")});
  ASSERT_TRUE(wrong.has_value()) << wrong.error().message;
  EXPECT_GT(*wrong, 1e-3);
}

TEST(Zero, LostGradientsEndTheRun) {
  const auto lost = deviation_with({.lost = name_of_weight("layers.1.mlp.up")});
  ASSERT_FALSE(lost.has_value());
  EXPECT_THAT(lost.error().message, HasSubstr("all ranks wait for each other"));
}

}  // namespace
}  // namespace troupe::emu
