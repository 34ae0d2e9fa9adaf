#include "measure/profile.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <set>

#include "base/file.h"
#include "measure/choices.h"
#include "measure/report.h"
#include "models/read.h"

namespace troupe::measure {
namespace {

using kernels::Call;
using kernels::OpShape;

/// A machine that computes nothing and takes the time of a formula, on a
/// clock that only its work moves.
class FakeMachine final : public Machine {
 public:
  class Nothing final : public Array {
   public:
    explicit Nothing(std::vector<std::byte> bytes) : bytes_(std::move(bytes)) {}
    void* data() override { return bytes_.data(); }

   private:
    std::vector<std::byte> bytes_;
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
  MachineInfo& info() { return info_; }
  Result<std::unique_ptr<Array>> allocate(Bytes size) override {
    most_memory = std::max(most_memory, size.v);
    // Pointers into it are computed, never followed.
    return std::make_unique<Nothing>(std::vector<std::byte>(64));
  }
  Result<void> upload(void*, std::span<const std::byte> from) override {
    now += static_cast<double>(from.size()) / kHostRate;
    return {};
  }
  Result<void> copy(void*, const void*, Bytes size) override {
    now += static_cast<double>(size.v) / fill_rate;
    return {};
  }
  Result<void> zero(void*, Bytes size) override {
    now += static_cast<double>(size.v) / fill_rate;
    return {};
  }
  Result<void> settle() override {
    if (broken) return fail(Fault::io, "the device is gone");
    return {};
  }
  Result<double> time(std::span<const Call> calls, Caches) override {
    double sum = 0;
    for (const Call& call : calls) {
      const OpShape op = shape_of(call);
      if (op.kind == sick) return fail(sick_fault, "a kernel went wrong");
      if (broken) return fail(Fault::io, "everything goes wrong");
      // What is loaded and compiled at the first run is no matter of a run.
      if (known.insert(op).second) sum += compiling_s;
      sum += slower * seconds_of(op);
    }
    if (worked < ramp) sum *= 2;
    worked += sum;
    now += sum;
    if (++timed == stop_after) return fail(Fault::interrupted, "Ctrl-C");
    if (timed == break_after) {
      broken = true;
      return fail(Fault::io, "an illegal address");
    }
    return sum;
  }
  double ramp_s() const override { return std::max(ramp - worked, 0.0); }
  Result<double> time_copy(Route, Bytes size) override {
    const double t = 1e-6 + 2 * static_cast<double>(size.v) / 2e12;
    now += t;
    return t;
  }
  bool has(Route) const override { return true; }
  void release_copies() override { ++released; }
  Clocks clocks() const override { return clock; }
  std::string choices() const override { return chosen; }
  Result<void> load_choices(std::string_view text) override {
    loaded = text;
    return {};
  }
  std::vector<Body> bodies(const Call& call) const override {
    if (!std::holds_alternative<kernels::AttentionForward>(call)) return {};
    return {{"own", 2e-3, false}, {"cudnn", 1e-3, true}};
  }

  static double seconds_of(const OpShape& op) {
    const double work =
        kernels::uses_matrix_units(op.kind) ? kernels::flops(op).v / 5e14 : 0;
    const double memory = static_cast<double>(kernels::traffic(op).v) / 1.8e12;
    return 2e-6 + std::max(work, memory);
  }

  static constexpr double kHostRate = 1e10;
  double fill_rate = 1e12;
  double now = 0;
  double slower = 1;
  double compiling_s = 0, ramp = 0;
  int timed = 0, stop_after = -1, break_after = -1, released = 0;
  std::int64_t most_memory = 0;
  std::string chosen, loaded;
  Clocks clock = {};
  std::optional<kernels::OpKind> sick;
  Fault sick_fault = Fault::unavailable;
  bool broken = false;

 private:
  MachineInfo info_;
  std::set<OpShape> known;
  double worked = 0;
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
  EXPECT_EQ(report->measured, wanted.size());
  EXPECT_EQ(report->not_reached, 0);
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
  EXPECT_EQ(report->remembered, known);
  EXPECT_EQ(report->measured, all - known);
  EXPECT_EQ(report->operators.size(), all);
  const auto again = profile(machine, *db, options);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->measured, 0);
  EXPECT_EQ(again->remembered, all);
  for (const MeasuredOperator& op : again->operators) {
    EXPECT_TRUE(op.known);
    EXPECT_FALSE(op.timing.warm);
  }
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

// The first run has time for layers but not for their operators.
TEST(Profile, KnownLayersAreComparedAgain) {
  FakeMachine machine;
  auto db = profiles::open_or_create(":memory:");
  ProfileOptions options = small();
  ProfileOptions without = options;
  without.accuracy = 0.9999;  // operators rest
  const auto first = profile(machine, *db, without);
  ASSERT_TRUE(first);
  ASSERT_EQ(first->layers.size(), 4);
  ASSERT_GT(first->layers[0].guessed, 0);
  const auto second = profile(machine, *db, options);
  ASSERT_TRUE(second);
  ASSERT_EQ(second->layers.size(), 4);
  for (const MeasuredLayer& layer : second->layers) {
    EXPECT_TRUE(layer.known);
    EXPECT_EQ(layer.guessed, 0);
    EXPECT_NEAR(layer.cold_sum_s / layer.whole.median_s, 1, 1e-5);
  }
  // A third knows no warm time of any operator, and makes none up.
  const auto third = profile(machine, *db, options);
  ASSERT_TRUE(third);
  EXPECT_FALSE(third->layers[0].warm_sum_s);
}

TEST(Profile, FindsTheCeilings) {
  FakeMachine machine;
  Memory memory(machine);
  const auto top = measure_ceilings(machine, memory, kernels::DType::bf16);
  ASSERT_TRUE(top);
  // 8192^3 takes 2.2 ms at 500 TFLOP/s, 2 us of it a launch.
  EXPECT_NEAR(top->matrix_rate, 5e14, 5e12);
  EXPECT_NEAR(top->bandwidth, 2e12, 1e11);
  EXPECT_NEAR(top->launch_s, 2e-6, 1e-7);
}

// Filling takes as long as running here, and the guesses are three times too
// low: nothing is begun that does not fit, so that the end is held.
TEST(Profile, EndsWithinItsBudgetWhateverTakesTheTime) {
  for (const double budget : {0.5, 2.0, 8.0}) {
    FakeMachine machine;
    machine.fill_rate = 2e10;
    machine.slower = 40;
    auto db = profiles::open_or_create(":memory:");
    ProfileOptions options = small();
    options.range.models = {*models::read_model("llama2-70b")};
    options.budget_s = budget;
    options.clock = [&] { return machine.now; };
    const auto report = profile(machine, *db, options);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_LT(machine.now, 1.1 * budget + 0.5);
    EXPECT_GT(report->measured, 0);
    EXPECT_GT(report->not_reached, 0);
    EXPECT_EQ(report->wanted, report->measured + report->within_accuracy +
                                  report->too_large + report->not_reached);
    EXPECT_GT(report->expected_error, 0);
    // What was left out is done by the next run.
    options.budget_s = 1e4;
    const auto rest = profile(machine, *db, options);
    ASSERT_TRUE(rest);
    EXPECT_EQ(rest->remembered, report->measured);
    EXPECT_EQ(rest->not_reached, 0);
  }
}

TEST(Profile, TellsTheTooLargeFromTheRefused) {
  FakeMachine machine;
  machine.info().memory = {std::int64_t{16} << 20};
  machine.sick = kernels::OpKind::rotary;
  auto db = profiles::open_or_create(":memory:");
  const auto report = profile(machine, *db, small());
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_GT(report->too_large, 0);
  ASSERT_FALSE(report->refused.empty());
  for (const Refusal& refusal : report->refused) {
    EXPECT_THAT(refusal.what, testing::HasSubstr("rotary"));
    EXPECT_EQ(refusal.reason, "a kernel went wrong");
  }
  EXPECT_EQ(report->not_reached, 0);
  EXPECT_EQ(report->measured + report->too_large + report->refused.size(),
            report->wanted);
  EXPECT_LE(machine.most_memory, machine.info().memory.v);
}

TEST(Profile, ADeviceErrorThatPassesCostsOneShape) {
  FakeMachine machine;
  machine.sick = kernels::OpKind::rotary;
  machine.sick_fault = Fault::io;
  auto db = profiles::open_or_create(":memory:");
  const auto report = profile(machine, *db, small());
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_TRUE(report->failure.empty());
  EXPECT_GT(report->refused.size(), 0);
  EXPECT_EQ(report->measured + report->refused.size(), report->wanted);
}

TEST(Profile, AMachineThatBreaksLosesNothing) {
  FakeMachine machine;
  machine.break_after = 200;
  auto db = profiles::open_or_create(":memory:");
  const auto report = profile(machine, *db, small());
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_THAT(report->failure, testing::HasSubstr("illegal address"));
  EXPECT_GT(report->measured, 0);
  EXPECT_GT(report->not_reached, 0);
  const auto rows = db->select<profiles::OperatorRow>("fake-gpu", "");
  EXPECT_EQ(rows->size(), report->measured);
}

TEST(Profile, AnInterruptionKeepsWhatWasMeasured) {
  FakeMachine machine;
  machine.stop_after = 200;
  auto db = profiles::open_or_create(":memory:");
  const auto report = profile(machine, *db, small());
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_TRUE(report->interrupted);
  EXPECT_GT(report->measured, 0);
  const auto rows = db->select<profiles::OperatorRow>("fake-gpu", "");
  EXPECT_EQ(rows->size(), report->measured);
}

TEST(Profile, NeitherCompilingNorALowClockIsInATime) {
  FakeMachine machine;
  machine.compiling_s = 0.2;
  machine.ramp = 0.02;
  auto db = profiles::open_or_create(":memory:");
  const auto report = profile(machine, *db, small());
  ASSERT_TRUE(report) << report.error().message;
  for (const MeasuredOperator& op : report->operators) {
    EXPECT_NEAR(op.timing.cold.median_s / FakeMachine::seconds_of(op.wanted.op),
                1, 1e-9)
        << to_string(op.wanted.op);
  }
}

TEST(Profile, NoShareIsAboveOne) {
  FakeMachine machine;
  auto db = profiles::open_or_create(":memory:");
  ProfileOptions options = small();
  options.budget_s = 1e4;
  // Now and then everything runs twice as fast as when ceilings were found.
  machine.slower = 1;
  const auto report = profile(machine, *db, options);
  ASSERT_TRUE(report);
  machine.slower = 0.5;
  options.range.seq_len = {1024};
  const auto faster = profile(machine, *db, options);
  ASSERT_TRUE(faster);
  for (const MeasuredOperator& op : faster->operators) {
    EXPECT_LE(op.matrix_share.value_or(0), 1 + 1e-9);
    EXPECT_LE(op.memory_share.value_or(0), 1 + 1e-9);
  }
}

TEST(Profile, CopyBuffersAreGivenBackBeforeOperators) {
  FakeMachine machine;
  auto db = profiles::open_or_create(":memory:");
  ASSERT_TRUE(profile(machine, *db, small()));
  EXPECT_GE(machine.released, 2);  // after the ceilings and after the links
}

TEST(Profile, BodiesOfAttentionAreReported) {
  FakeMachine machine;
  auto db = profiles::open_or_create(":memory:");
  const auto report = profile(machine, *db, small());
  ASSERT_TRUE(report);
  int attentions = 0;
  const Json told = to_json(*report, "x");
  for (const Json& op : told["operators"]) {
    const std::string name = op["operator"];
    EXPECT_EQ(op.contains("bodies"), name.starts_with("attention_forward"));
    EXPECT_EQ(op.contains("product"), name.starts_with("gemm"));
    if (!op.contains("bodies")) continue;
    ++attentions;
    EXPECT_EQ(op["bodies"][0]["body"], "own");
    EXPECT_EQ(op["bodies"][0]["chosen"], false);
    EXPECT_EQ(op["bodies"][1]["time_s"], 1e-3);
    EXPECT_EQ(op["bodies"][1]["chosen"], true);
  }
  EXPECT_GT(attentions, 0);
}

TEST(Profile, NotesTheClockThatRan) {
  FakeMachine machine;
  auto db = profiles::open_or_create(":memory:");
  ProfileOptions options = small();
  options.range.tp = {1};
  ASSERT_TRUE(profile(machine, *db, options));
  machine.clock = {1410, 1755, 20};
  const auto report = profile(machine, *db, small());
  ASSERT_TRUE(report);
  EXPECT_EQ(to_json(*report, "x")["sm_clock_while_measuring"]["median_mhz"],
            1755);
  EXPECT_THAT((*db->sources())[0].source.note,
              testing::HasSubstr("median 1755 MHz, least 1410 MHz"));
}

TEST(Profile, KeepsChoicesBesideTheDatabase) {
  const std::filesystem::path folder =
      std::filesystem::path(testing::TempDir()) /
      fmt::format("troupe-choices-{}", ::getpid());
  ASSERT_TRUE(std::filesystem::create_directory(folder));
  FakeMachine machine;
  machine.chosen = "gemm;GPU;1;shape a;fast\ngemm;GPU;1;shape b;slow\n";
  ProfileOptions options = small();
  options.choices = choices_path(folder / "p.db", machine.info());
  auto db = profiles::open_or_create(":memory:");
  ASSERT_TRUE(profile(machine, *db, options));
  FakeMachine later;
  later.chosen = "gemm;GPU;1;shape b;quick\n";
  ASSERT_TRUE(profile(later, *db, options));
  EXPECT_EQ(later.loaded, machine.chosen);
  // What the later process did not meet is kept.
  EXPECT_EQ(*read_file(options.choices),
            "gemm;GPU;1;shape a;fast\ngemm;GPU;1;shape b;quick\n");
  // Another version of a library begins anew.
  later.info().libraries += ", cuDNN 10";
  EXPECT_NE(choices_path(folder / "p.db", later.info()), options.choices);
  EXPECT_EQ(choices_path(":memory:", later.info()), "");
  std::filesystem::remove_all(folder);
}

TEST(ColdSets, ExceedTheLastCacheTwice) {
  MachineInfo info;
  info.memory = {std::int64_t{1} << 34};
  info.cache = {std::int64_t{50} << 20};
  for (const std::int64_t kib : {300, 3000, 30000}) {
    EXPECT_TRUE(comes_from_memory(info, {kib << 10}));
    EXPECT_GT(sets_of(info, {kib << 10}) * (kib << 10), 2 * info.cache.v);
  }
  EXPECT_EQ(sets_of(info, {std::int64_t{1} << 30}), 1);
  EXPECT_FALSE(comes_from_memory(info, {4096}));
}

TEST(ExpectedSeconds, AreAboutWhatTimingTakes) {
  for (const double run : {3e-6, 1e-4, 5e-3, 0.1, 2.0}) {
    FakeMachine machine;
    const Wanted wanted{kernels::gemm(512, 512, 512, kernels::DType::bf16),
                        Product::forward, "p", 1};
    machine.slower = run / FakeMachine::seconds_of(wanted.op);
    Memory memory(machine);
    const auto plan = plan_call(wanted);
    const int sets = sets_of(machine.info(), Memory::size_of(*plan));
    machine.fill_rate = 1e15;
    const auto timing = time_operator(machine, memory, wanted, {});
    ASSERT_TRUE(timing);
    const double took = machine.now - 4e6 / FakeMachine::kHostRate;
    // Samples without noise are fewer than usual.
    EXPECT_GT(expected_s(machine.info(), run, sets, {}), 0.8 * took) << run;
    EXPECT_LT(expected_s(machine.info(), run, sets, {}), 2 * took) << run;
  }
}

TEST(TimeOperator, IsCutAfterARunThatLeavesNoTime) {
  FakeMachine machine;
  machine.slower = 1e6;
  const Wanted wanted{kernels::gemm(512, 512, 512, kernels::DType::bf16),
                      Product::forward, "p", 1};
  Memory memory(machine);
  Patience patience;
  const double run = 1e6 * FakeMachine::seconds_of(wanted.op);
  patience.left = [&] { return 1.5 * run - machine.now; };
  const auto timing = time_operator(machine, memory, wanted, patience);
  ASSERT_TRUE(timing);
  EXPECT_EQ(timing->cold.samples, 0);
  EXPECT_EQ(machine.timed, 1);
}

TEST(Profile, EndsWithinItsBudgetOnTheProcessor) {
  const auto machine = cpu_machine();
  auto db = profiles::open_or_create(":memory:");
  ProfileOptions options = small();
  options.range.dtype = kernels::DType::fp32;
  options.range.seq_len = {32, 128};
  options.budget_s = 2;
  const auto start = std::chrono::steady_clock::now();
  const auto report = profile(*machine, *db, options);
  const double took =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
          .count();
  ASSERT_TRUE(report) << report.error().message;
  // A loaded machine gets a margin.
  EXPECT_LT(took, 10);
  EXPECT_GT(report->measured, 0);
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
