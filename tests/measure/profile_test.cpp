#include "measure/profile.h"

#include <gmock/gmock.h>

#include <chrono>
#include <cmath>
#include <thread>

#include "models/read.h"

namespace troupe::measure {
namespace {

using kernels::Call;
using kernels::OpShape;

/// A machine that computes nothing and takes the time of a formula.
class FakeMachine final : public Machine {
 public:
  class Nothing final : public Array {
   public:
    void* data() override { return this; }
  };

  FakeMachine() {
    info_.device = "fake-gpu";
    info_.architecture = "hopper";
    info_.full_name = "Fake GPU";
    info_.libraries = "none";
    info_.memory = {std::int64_t{1} << 34};
    info_.cache = {1 << 20};
  }
  const MachineInfo& info() const override { return info_; }
  Result<std::unique_ptr<Array>> allocate(Bytes) override {
    return std::make_unique<Nothing>();
  }
  Result<void> upload(Array&, std::span<const std::byte>) override {
    return {};
  }
  Result<void> run(std::span<const Call>) override { return {}; }
  Result<double> time(std::span<const Call> calls) override {
    double sum = 0;
    for (const Call& call : calls) sum += seconds_of(shape_of(call));
    ++timed;
    return sum;
  }
  Result<double> time_copy(Route, Bytes size) override {
    return 1e-6 + 2 * static_cast<double>(size.v) / 2e12;
  }
  bool has(Route) const override { return true; }

  static double seconds_of(const OpShape& op) {
    const double work =
        kernels::uses_matrix_units(op.kind) ? kernels::flops(op).v / 5e14 : 0;
    const double memory = static_cast<double>(kernels::traffic(op).v) / 1.8e12;
    return 2e-6 + std::max(work, memory);
  }

  int timed = 0;

 private:
  MachineInfo info_;
};

ProfileOptions small() {
  models::Model model = *models::read_model("llama-7b");
  model.layers = 4;
  model.hidden = 512;
  model.heads = model.kv_heads = 8;
  model.head_dim = 64;
  model.ffn = 1376;
  model.vocab = 1000;
  ProfileOptions options;
  options.range.models = {model};
  options.range.tp = {1, 8};
  options.range.seq_len = {512, 4096};
  options.budget_s = 60;
  options.accuracy = 1e-9;
  return options;
}

TEST(Profile, MeasuresEveryOperatorIntoTheDatabase) {
  FakeMachine machine;
  auto db = profiles::open_or_create(":memory:");
  ASSERT_TRUE(db);
  const ProfileOptions options = small();
  const auto report = profile(machine, *db, options);
  ASSERT_TRUE(report) << report.error().message;
  const auto wanted = wanted_operators(options.range);
  EXPECT_EQ(report->operators.size(), wanted.size());
  EXPECT_EQ(report->left, 0);
  const auto rows = db->select<profiles::OperatorRow>("fake-gpu", "");
  ASSERT_TRUE(rows);
  ASSERT_EQ(rows->size(), wanted.size());
  for (const auto& [source, row] : *rows) {
    // Six significant digits are kept.
    EXPECT_NEAR(row.time_s / FakeMachine::seconds_of(row.op), 1, 1e-5)
        << to_string(row.op);
  }
}

TEST(Profile, ASecondRunGoesOnWhereTheFirstStopped) {
  FakeMachine machine;
  auto db = profiles::open_or_create(":memory:");
  ProfileOptions options = small();
  const auto all = wanted_operators(options.range).size();
  ProfileOptions half = options;
  half.range.tp = {1};
  ASSERT_TRUE(profile(machine, *db, half));
  const auto known = wanted_operators(half.range).size();
  const auto report = profile(machine, *db, options);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->remembered, static_cast<int>(known));
  EXPECT_EQ(report->operators.size(), all - known);
  const auto again = profile(machine, *db, options);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->operators.size(), 0);
  EXPECT_EQ(again->layers.size(), 0);
}

TEST(Profile, LayersTakeTheSumOfTheirOperatorsOnAMachineWithoutGaps) {
  FakeMachine machine;
  auto db = profiles::open_or_create(":memory:");
  const auto report = profile(machine, *db, small());
  ASSERT_TRUE(report);
  ASSERT_EQ(report->layers.size(), 4);
  for (const MeasuredLayer& layer : report->layers) {
    EXPECT_NEAR(layer.cold_sum_s / layer.whole.median_s, 1, 1e-5);
  }
  const auto rows = db->select<profiles::LayerRow>("fake-gpu", "");
  ASSERT_TRUE(rows);
  EXPECT_EQ(rows->size(), 4);
}

TEST(Profile, SaysWhichDegreesAreLeftOut) {
  FakeMachine machine;
  auto db = profiles::open_or_create(":memory:");
  ProfileOptions options = small();
  options.range.tp = {3};
  const auto report = profile(machine, *db, options);
  ASSERT_TRUE(report);
  EXPECT_THAT(report->notes, testing::Contains(testing::HasSubstr("tp 3")));
  ASSERT_FALSE(report->layers.empty());
  EXPECT_GT(report->layers[0].guessed, 0);
}

TEST(Profile, FindsTheCeilings) {
  FakeMachine machine;
  const auto top = measure_ceilings(machine, kernels::DType::bf16);
  ASSERT_TRUE(top);
  // 8192^3 takes 2.2 ms at 500 TFLOP/s, 2 us of it a launch.
  EXPECT_NEAR(top->matrix_rate, 5e14, 5e12);
  EXPECT_NEAR(top->bandwidth, 2e12, 1e11);
  EXPECT_NEAR(top->launch_s, 2e-6, 1e-7);
}

TEST(Profile, EndsWithinItsBudgetOnTheProcessor) {
  const auto machine = cpu_machine();
  auto db = profiles::open_or_create(":memory:");
  ProfileOptions options = small();
  options.range.dtype = kernels::DType::fp32;
  options.range.seq_len = {32, 128};
  options.budget_s = 4;
  const auto start = std::chrono::steady_clock::now();
  const auto report = profile(*machine, *db, options);
  const double took =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
          .count();
  ASSERT_TRUE(report) << report.error().message;
  // The last measurement may run over: a loaded machine gets a margin.
  EXPECT_LT(took, 40);
  EXPECT_GT(report->operators.size(), 0);
}

TEST(OpenMachine, RefusesAnUnknownName) {
  const auto machine = open_machine("tpu:0");
  ASSERT_FALSE(machine);
  EXPECT_EQ(machine.error().fault, Fault::input);
  EXPECT_NE(machine.error().message.find("tpu:0"), std::string::npos);
}

TEST(DeviceSlug, IsLowerCaseWords) {
  EXPECT_EQ(device_slug("cpu", "AMD EPYC(tm) 7763 "), "cpu-amd-epyc-tm-7763");
  EXPECT_EQ(device_slug("", "NVIDIA X9"), "nvidia-x9");
}

TEST(Summary, IsTheMedianAndTheRelativeDeviation) {
  const std::vector<double> samples{1, 3, 2, 4};
  const Timing t = summary(samples);
  EXPECT_DOUBLE_EQ(t.median_s, 2.5);
  // Variance (2.25 + 0.25 + 0.25 + 2.25) / 3.
  EXPECT_NEAR(t.spread, std::sqrt(5.0 / 3) / 2.5, 1e-12);
  EXPECT_EQ(t.samples, 4);
}

}  // namespace
}  // namespace troupe::measure
