// Plans kept in files; what moves at which change of strategy.
#include "reshard/plan_cache.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <fstream>
#include <set>

#include "base/file.h"
#include "helpers.h"
#include "models/read.h"
#include "reshard/modes.h"
#include "reshard/phases.h"
#include "reshard/verify.h"

namespace troupe::reshard {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

namespace fs = std::filesystem;

/// A switch of random tensors between 16 devices.
struct Setting {
  clusters::Cluster cluster =
      cluster_of("4 x h100-sxm per node, 400 Gbit/s per GPU, 4 nodes");
  Rates rates = rates_of(cluster);
  Routes routes{cluster, rates};
  std::vector<TensorChange> changes;
  SwitchOptions options;
  fs::path folder;

  explicit Setting(std::uint64_t seed = 1)
      : folder(fs::path(testing::TempDir()) /
               ("troupe-plans-" + std::to_string(getpid()) + "-" +
                std::to_string(seed))) {
    fs::remove_all(folder);
    for (std::uint64_t i = 0; changes.size() < 6; ++i) {
      Dice dice(seed * 1000 + i);
      RandomChange c = random_change(dice, 16);
      const TensorChange one{"t", c.source, c.destination, c.shape};
      if (plan_switch({&one, 1}, routes)) changes.push_back(one);
    }
    changes.push_back(changes.front());
    options.compare = true;
  }
  Setting(const Setting&) = delete;
  Setting& operator=(const Setting&) = delete;
  ~Setting() { fs::remove_all(folder); }

  std::string key() const { return switch_key(changes, routes, options); }
};

TEST(PlanCache, GivesBackThePlanThatItKept) {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    const Setting s(seed);
    const PlanCache cache(s.folder);
    const auto first = cache.switch_plan(s.changes, s.routes, s.options);
    ASSERT_TRUE(first) << first.error().message;
    EXPECT_EQ(first->origin, Origin::planned);
    const auto second = cache.switch_plan(s.changes, s.routes, s.options);
    ASSERT_TRUE(second);
    EXPECT_EQ(second->origin, Origin::cached);
    EXPECT_EQ(second->plan, first->plan);
    EXPECT_EQ(second->key, first->key);
    const auto wrong = wrong_with(second->plan, s.changes);
    ASSERT_TRUE(wrong) << wrong.error().message;
    EXPECT_THAT(*wrong, IsEmpty());
    const auto files = cache.list();
    ASSERT_EQ(files.size(), 1U);
    EXPECT_EQ(files[0].key, first->key);
    EXPECT_THAT(files[0].problem, IsEmpty());
    EXPECT_EQ(files[0].head["moved_bytes"], first->plan.moved.v);
  }
}

// Every kind of damage: a changed byte anywhere, an end too early, other
// bytes behind, another plan's file, nothing, a folder.
TEST(PlanCache, PlansAgainWhereAFileIsDamaged) {
  const Setting s;
  const PlanCache cache(s.folder);
  const auto good = cache.switch_plan(s.changes, s.routes, s.options);
  ASSERT_TRUE(good);
  const fs::path path = cache.path_of(good->key);
  const std::string text = *read_file(path);
  const auto expect_replanned = [&](const std::string& damaged) {
    std::ofstream(path, std::ios::binary) << damaged;
    if (!damaged.empty()) {
      EXPECT_THAT(cache.list()[0].problem, testing::Not(IsEmpty()));
    }
    const auto again = cache.switch_plan(s.changes, s.routes, s.options);
    ASSERT_TRUE(again);
    EXPECT_EQ(again->origin, Origin::replanned);
    EXPECT_EQ(again->plan, good->plan);
    // And it is whole again.
    EXPECT_EQ(*read_file(path), text);
  };
  const std::size_t body = text.find('\n') + 1;
  for (std::size_t at = body; at < text.size(); at += 7) {
    std::string damaged = text;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    expect_replanned(damaged);
  }
  for (const std::size_t end : {std::size_t{0}, std::size_t{5}, body - 1, body,
                                body + 1, text.size() - 1}) {
    expect_replanned(text.substr(0, end));
  }
  expect_replanned(text + "x");
  expect_replanned("{}\n");
  expect_replanned("[1, 2]\n" + text);
  Setting other(2);
  expect_replanned(
      pack(*plan_switch(other.changes, other.routes), other.key()));
}

TEST(PlanCache, AnswersWithoutAFolderItCanWrite) {
  const Setting s;
  const fs::path file = fs::path(testing::TempDir()) / "troupe-no-folder";
  std::ofstream(file) << "not a folder";
  const PlanCache cache(file / "plans");
  const auto plan = cache.switch_plan(s.changes, s.routes, s.options);
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->origin, Origin::planned);
  EXPECT_THAT(cache.list(), IsEmpty());
  EXPECT_EQ(cache.clear(), 0U);
  fs::remove(file);
}

TEST(PlanCache, IsCleared) {
  const Setting s;
  const PlanCache cache(s.folder);
  ASSERT_TRUE(cache.switch_plan(s.changes, s.routes, s.options));
  EXPECT_EQ(cache.clear(), 1U);
  EXPECT_THAT(cache.list(), IsEmpty());
}

TEST(SwitchKey, ChangesWithWhatAPlanFollowsFrom) {
  std::set<std::string> keys;
  const Setting s;
  keys.insert(s.key());
  const auto expect_new = [&](const std::string& key) {
    EXPECT_TRUE(keys.insert(key).second);
  };
  SwitchOptions options = s.options;
  options.bucket = {1};
  expect_new(switch_key(s.changes, s.routes, options));
  options = s.options;
  options.senders = SenderRule::greedy;
  expect_new(switch_key(s.changes, s.routes, options));
  auto changes = s.changes;
  changes.back().shape[0] += 1;
  expect_new(switch_key(changes, s.routes, s.options));
  changes = s.changes;
  changes.back().dtype = kernels::DType::fp32;
  expect_new(switch_key(changes, s.routes, s.options));
  changes = s.changes;
  changes.pop_back();
  expect_new(switch_key(changes, s.routes, s.options));
  changes = s.changes;
  std::swap(changes[0], changes[1]);
  expect_new(switch_key(changes, s.routes, s.options));
  changes = s.changes;
  std::swap(changes[0].source, changes[0].destination);
  expect_new(switch_key(changes, s.routes, s.options));
  for (const char* text :
       {"4 x h100-sxm per node, 200 Gbit/s per GPU, 4 nodes",
        "8 x h100-sxm per node, 400 Gbit/s per GPU, 2 nodes",
        "4 x h100-sxm per node, 1 x 400 Gbit/s per node, 4 nodes"}) {
    const auto cluster = cluster_of(text);
    const Rates rates = rates_of(cluster);
    expect_new(switch_key(s.changes, Routes(cluster, rates), s.options));
  }
  // Names do not matter.
  changes = s.changes;
  changes[0].name = "another";
  EXPECT_EQ(switch_key(changes, s.routes, s.options), s.key());
}

// The checker itself: a plan that is wrong is found wrong.
TEST(SwitchChecker, FindsWhatIsWrong) {
  const Setting s;
  SwitchPlan plan = *plan_switch(s.changes, s.routes, s.options);
  ASSERT_GT(plan.transfers.size(), 2U);
  const auto problems = [&](const SwitchPlan& p, Bytes limit = {}) {
    const auto wrong = wrong_with(p, s.changes, limit);
    EXPECT_TRUE(wrong.has_value());
    return wrong ? *wrong : std::vector<std::string>{};
  };
  EXPECT_THAT(problems(plan), IsEmpty());
  EXPECT_THAT(problems(plan, plan.peak), IsEmpty());
  EXPECT_THAT(problems(plan, Bytes{plan.peak.v - 1}),
              testing::Contains(HasSubstr("on a device")));
  SwitchPlan fewer = plan;
  fewer.transfers.pop_back();
  fewer.buckets.back().last -= 1;
  EXPECT_THAT(problems(fewer), testing::Contains(HasSubstr("never arrives")));
  SwitchPlan more = plan;
  more.moved.v += 1;
  EXPECT_THAT(problems(more), testing::Contains(HasSubstr("bytes move")));
  SwitchPlan elsewhere = plan;
  std::swap(elsewhere.transfers[0].to, elsewhere.transfers[0].from);
  EXPECT_THAT(problems(elsewhere), testing::Not(IsEmpty()));
}

struct Succession {
  RunLevel before, after;
  bool one_layout;
  Moves moves;
};

// The table of HotSPa and Hetu v2, by hand.
TEST(Moves, AreThoseOfTheRunLevels) {
  using enum RunLevel;
  const std::vector<Succession> table{
      {topology, allocate, true, {}},
      {allocate, gradient, true, {.parameters = true}},
      {allocate, update, true, {.parameters = true}},
      {allocate, allocate, false, {.parameters = true}},
      {gradient, gradient, true, {.parameters = true, .gradients = true}},
      {gradient, update, true, {.parameters = true, .gradients = true}},
      {update, allocate, true, {.parameters = true}},
      {update, gradient, true, {.parameters = true}},
      {update, update, false, {.states = true}},
      {update, allocate, false, {.states = true}},
      {compute_only, compute_only, true, {.parameters = true}}};
  for (const Succession& s : table) {
    const auto moves = moves_between(s.before, s.after, s.one_layout);
    ASSERT_TRUE(moves) << name_of(s.before) << " " << name_of(s.after);
    EXPECT_EQ(*moves, s.moves) << name_of(s.before) << " " << name_of(s.after);
  }
  for (const auto& [before, after] : {std::pair(gradient, allocate),
                                      {gradient, compute_only},
                                      {compute_only, gradient},
                                      {compute_only, update},
                                      {update, topology},
                                      {update, compute_only},
                                      {compute_only, allocate},
                                      {topology, topology}}) {
    const auto moves = moves_between(before, after, true);
    ASSERT_FALSE(moves) << name_of(before) << " " << name_of(after);
    EXPECT_THAT(moves.error().message, HasSubstr("cannot follow"));
  }
}

/// Llama-like phases on one node, as HotSPa lists them.
strategy::Plan three_phases() {
  auto plan = strategy::load_plan_text(
      R"({"format": "troupe.strategy/1", "zero": 1, "gradient_dtype": "bf16",
          "model": {"format": "troupe.model/1", "name": "tiny", "layers": 4,
                    "hidden": 64, "heads": 8, "kv_heads": 8, "ffn": 128,
                    "vocab": 100, "seq_len": 64},
          "cluster": "8 x h100-sxm per node, 400 Gbit/s per GPU, 1 nodes",
          "phases": [
            {"name": "long", "dp": 1, "tp": 4, "pp": 2, "seq_len": 64,
             "rule": {"seq_len": [32, 64]}},
            {"name": "short", "dp": 8, "tp": 1, "pp": 1, "seq_len": 16,
             "rule": {"seq_len": [0, 16]}},
            {"name": "middle", "dp": 2, "tp": 2, "pp": 2, "seq_len": 32,
             "rule": {"seq_len": [16, 32]}}]})",
      "s.json", {});
  EXPECT_TRUE(plan) << (plan ? "" : plan.error().message);
  return plan ? *std::move(plan) : strategy::Plan{};
}

// n phases: parameters move n times, gradients n - 1 times, states never.
TEST(PhaseSwitches, FollowTheListAndComeHome) {
  const strategy::Plan plan = three_phases();
  const std::vector<std::size_t> phases{0, 1, 2};
  const auto switches = phase_switches(plan, phases);
  ASSERT_TRUE(switches) << switches.error().message;
  std::vector<std::pair<std::size_t, std::size_t>> hops;
  for (const PhaseSwitch& one : *switches) {
    hops.emplace_back(one.from, one.to);
    EXPECT_TRUE(one.parameters.has_value());
    EXPECT_FALSE(one.states.has_value());
    EXPECT_EQ(one.gradients.has_value(), hops.size() > 1);
  }
  const std::vector<std::pair<std::size_t, std::size_t>> expected{
      {0, 1}, {1, 2}, {2, 0}};
  EXPECT_EQ(hops, expected);
  // Eight copies of what eight devices hold an eighth of: 7/8 of it moves to
  // each (norms lie whole on four of the eight).
  std::int64_t whole = 0;
  for (const auto& p : models::parameter_list(plan.model)) {
    std::int64_t n = 2;
    for (const auto extent : p.shape) n *= extent;
    whole += n * (p.cut == models::Cut::none ? 4 : 7);
  }
  EXPECT_EQ((*switches)[0].parameters->plan.moved.v, whole);
}

TEST(PhaseSwitches, MoveStatesBetweenSteps) {
  const strategy::Plan plan = three_phases();
  const auto one = phase_switch(plan, 1, 0, {.states = true});
  ASSERT_TRUE(one);
  ASSERT_TRUE(one->states.has_value());
  EXPECT_FALSE(one->parameters.has_value());
  const auto gradients = phase_switch(plan, 1, 0, {.gradients = true});
  ASSERT_TRUE(gradients);
  // Three fp32 numbers where a gradient is one of bf16.
  EXPECT_EQ(one->states->plan.moved.v, 6 * gradients->gradients->plan.moved.v);
}

}  // namespace
}  // namespace troupe::reshard
