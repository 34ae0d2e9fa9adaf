// The checker must notice every way in which a plan can be wrong.
#include "reshard/verify.h"

#include <gmock/gmock.h>

#include <map>

#include "base/json.h"
#include "helpers.h"

namespace troupe::reshard {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

strategy::Subgroup group(std::vector<int> ids, strategy::States states) {
  strategy::Subgroup out;
  for (const int id : ids) out.devices.push_back(DeviceId{id});
  out.states = std::move(states);
  return out;
}

strategy::States split_by(int dimension, int parts) {
  strategy::States states;
  states.split = {{dimension, parts}};
  return states;
}

strategy::States summands_of(int count) {
  strategy::States states;
  states.partial = count;
  return states;
}

const clusters::Cluster& small_cluster() {
  static const clusters::Cluster cluster =
      cluster_of("4 x h100-sxm per node, 400 Gbit/s per GPU, 4 nodes");
  return cluster;
}

Plan plan_of(const Annotation& from, const Annotation& to, const Shape& shape,
             Options options = {}) {
  auto plan =
      resolve(from, to, shape, kernels::DType::fp32, small_cluster(), options);
  EXPECT_TRUE(plan) << (plan ? "" : plan.error().message);
  return plan ? *std::move(plan) : Plan{};
}

std::vector<std::string> wrong(const Plan& plan) {
  auto found = wrong_with(plan);
  EXPECT_TRUE(found);
  return found ? *std::move(found) : std::vector<std::string>{};
}

/// Split along 0 over devices 0, 1 to split along 1 over 2, 3.
Plan moving() {
  return plan_of({{group({0, 1}, split_by(0, 2))}},
                 {{group({2, 3}, split_by(1, 2))}}, {6, 4});
}

TEST(Verify, AcceptsWhatResolutionMakes) {
  EXPECT_THAT(wrong(moving()), IsEmpty());
}

TEST(Verify, NoticesADroppedMessage) {
  Plan plan = moving();
  ASSERT_FALSE(plan.steps.at(0).messages.empty());
  plan.steps[0].messages.pop_back();
  EXPECT_THAT(wrong(plan), Contains(HasSubstr("never arrives")));
}

TEST(Verify, NoticesAMessageTwice) {
  Plan plan = moving();
  plan.steps[0].messages.push_back(plan.steps[0].messages[0]);
  EXPECT_THAT(wrong(plan), Contains(HasSubstr("arrives twice")));
}

TEST(Verify, NoticesAWrongBox) {
  Plan plan = moving();
  Box& box = plan.steps[0].messages[0].box;
  box[0] = {box[0].first, box[0].last - 1};
  EXPECT_THAT(wrong(plan), Contains(HasSubstr("never arrives")));
  box[0] = {0, 6};
  EXPECT_THAT(wrong(plan), Contains(HasSubstr("never written")));
  box[0] = {0, 7};
  EXPECT_THAT(wrong(plan), Contains(HasSubstr("outside of the tensor")));
}

TEST(Verify, NoticesASenderThatDoesNotHold) {
  Plan plan = moving();
  Message& message = plan.steps[0].messages[0];
  message.from = DeviceId{message.from.v == 0 ? 1 : 0};
  EXPECT_THAT(wrong(plan), Contains(HasSubstr("never written")));
}

TEST(Verify, NoticesWhatIsNotWanted) {
  Plan plan = moving();
  Message extra = plan.steps[0].messages[0];
  extra.to = DeviceId{5};
  plan.steps[0].messages.push_back(extra);
  EXPECT_THAT(wrong(plan), Contains(HasSubstr("not part of the destination")));
}

TEST(Verify, NoticesAnOverwrittenSource) {
  Plan plan = moving();
  plan.steps[0].messages[0].to_buffer = kSource;
  EXPECT_THAT(wrong(plan), Contains(HasSubstr("source is overwritten")));
}

TEST(Verify, NoticesASummandAddedTwice) {
  // Both whole summands are moved to device 2 and added there.
  const Annotation from{{group({0, 1}, summands_of(2))}};
  const Annotation to{{group({2}, {})}};
  const Rates rates = rates_of(small_cluster());
  const Routes routes(small_cluster(), rates);
  const auto all = resolve_all(from, to, {5}, kernels::DType::fp32, routes);
  ASSERT_TRUE(all);
  bool seen = false;
  for (const Candidate& candidate : all->candidates) {
    Plan plan = candidate.plan;
    EXPECT_THAT(wrong(plan), IsEmpty()) << candidate.name;
    if (plan.steps.back().operation != Operation::local_sum) continue;
    seen = true;
    plan.steps.back().copies.push_back(plan.steps.back().copies[0]);
    EXPECT_THAT(wrong(plan), Contains(HasSubstr("is the sum of summands")));
    plan.steps.back().copies.clear();
    EXPECT_THAT(wrong(plan), Contains(HasSubstr("is the sum of summands [0]")));
  }
  EXPECT_TRUE(seen);
}

TEST(Verify, NoticesAMemberThatIsMissing) {
  const Annotation from{{group({0, 1, 2}, summands_of(3))}};
  strategy::States copies;
  copies.duplicate = 3;
  Plan plan = plan_of(from, {{group({0, 1, 2}, copies)}}, {5});
  ASSERT_EQ(operations(plan), std::vector{Operation::all_reduce});
  std::erase_if(plan.steps[0].groups[0].reads,
                [](const Part& p) { return p.member == 2; });
  EXPECT_THAT(wrong(plan), Contains(HasSubstr("read by 2 members")));
}

TEST(Verify, NoticesCopiesThatDiffer) {
  // The two halves of a pair of summands, told apart only by the sum.
  Plan plan;
  plan.source = {{group({0, 1}, summands_of(2))}};
  plan.destination = plan.source;
  plan.shape = {4};
  Step step;
  step.copies = {{DeviceId{0}, kSource, kDestination, {{0, 4}}, false},
                 {DeviceId{1}, kZeros, kDestination, {{0, 4}}, false}};
  plan.steps.push_back(step);
  EXPECT_THAT(wrong(plan), Contains(HasSubstr("expected [0 1]")));
}

/// Every single change of a random plan must be noticed.
TEST(Verify, NoticesEveryRandomMutation) {
  const Rates rates = rates_of(small_cluster());
  const Routes routes(small_cluster(), rates);
  std::map<std::string, int> tried;
  for (std::uint64_t seed = 0; seed < 1500; ++seed) {
    Dice dice(seed + 77);
    const RandomChange change = random_change(dice, 8);
    const auto all = resolve_all(change.source, change.destination,
                                 change.shape, kernels::DType::bf16, routes);
    if (!all) continue;
    for (const Candidate& candidate : all->candidates) {
      Plan plan = candidate.plan;
      Step& step = plan.steps[static_cast<std::size_t>(
          dice.below(static_cast<int>(plan.steps.size())))];
      if (!step.messages.empty()) {
        const auto i = static_cast<std::size_t>(
            dice.below(static_cast<int>(step.messages.size())));
        step.messages.erase(step.messages.begin() +
                            static_cast<std::ptrdiff_t>(i));
        ++tried["message dropped"];
      } else if (!step.groups.empty()) {
        Group& g = step.groups[static_cast<std::size_t>(
            dice.below(static_cast<int>(step.groups.size())))];
        if (dice.one_in(2)) {
          g.writes.pop_back();
          ++tried["result dropped"];
        } else {
          g.reads.pop_back();
          ++tried["read dropped"];
        }
      } else if (!step.copies.empty()) {
        if (step.copies.back().add) {
          step.copies.push_back(step.copies.back());
          ++tried["summand doubled"];
        } else {
          Box& box = step.copies.back().box;
          box.back().first = box.back().last - 1;
          ++tried["box shrunk"];
        }
      } else {
        continue;
      }
      if (plan.steps == candidate.plan.steps) continue;
      EXPECT_THAT(wrong(plan), Not(IsEmpty()))
          << "seed " << seed << ", " << candidate.name << "\n"
          << strategy::to_string(change.source) << "\n"
          << strategy::to_string(change.destination) << "\n"
          << to_text(plan);
    }
  }
  for (const auto& [what, count] : tried) EXPECT_GT(count, 40) << what;
  EXPECT_EQ(tried.size(), 5U);
}

TEST(LeastElements, CountsTransfersThatNoPlanCanAvoid) {
  strategy::States copies;
  copies.duplicate = 4;
  const Annotation summed{{group({0, 1, 2, 3}, summands_of(4))}};
  const Annotation whole{{group({0, 1, 2, 3}, copies)}};
  // An all-reduce of 10 elements among 4: 2 (4 - 1) 10.
  const auto reduce = bytes_ratio(plan_of(summed, whole, {10}));
  ASSERT_TRUE(reduce);
  EXPECT_EQ(reduce->least, 60);
  EXPECT_EQ(reduce->ratio, 1);
  // A reduce-scatter: (4 - 1) 10.
  const Annotation cut{{group({0, 1, 2, 3}, split_by(0, 4))}};
  const auto scatter = bytes_ratio(plan_of(summed, cut, {10}));
  ASSERT_TRUE(scatter);
  EXPECT_EQ(scatter->least, 30);
  EXPECT_EQ(scatter->ratio, 1);
  // Moving a half: the other half is there already.
  const auto move = bytes_ratio(
      plan_of({{group({0, 1}, split_by(0, 2))}}, {{group({0}, {})}}, {10}));
  ASSERT_TRUE(move);
  EXPECT_EQ(move->least, 5);
  EXPECT_EQ(move->moved, 5);
}

TEST(PlanFile, IsReadAsItWasWritten) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    Dice dice(seed);
    const RandomChange change = random_change(dice, 8);
    const auto plan = resolve(change.source, change.destination, change.shape,
                              kernels::DType::bf16, small_cluster());
    if (!plan) continue;
    const auto again = plan_from_json(
        parse_json(to_json(*plan).dump(), "plan").value(), "plan.json");
    ASSERT_TRUE(again) << again.error().message;
    EXPECT_EQ(again->steps, plan->steps);
    EXPECT_EQ(again->source, plan->source);
    EXPECT_EQ(again->destination, plan->destination);
    EXPECT_EQ(content_hash(*again), content_hash(*plan));
  }
}

TEST(PlanFile, RefusesWhatIsWrong) {
  const Json good = to_json(moving());
  const auto problem = [&](auto change) {
    Json bad = good;
    change(bad);
    const auto plan = plan_from_json(bad, "p.json");
    return plan ? "accepted" : plan.error().message;
  };
  EXPECT_THAT(problem([](Json& j) { j["steps"][0]["messages"].erase(0); }),
              HasSubstr("hash: does not fit"));
  EXPECT_THAT(problem([](Json& j) { j["steps"][0]["wave"] = -1; }),
              HasSubstr("/steps/0/wave"));
  EXPECT_THAT(
      problem([](Json& j) { j["steps"][0]["messages"][0]["box"][0][1] = 99; }),
      HasSubstr("inside the tensor"));
  EXPECT_THAT(problem([](Json& j) { j["shape"] = {1e300}; }),
              HasSubstr("/shape"));
  EXPECT_THAT(problem([](Json& j) { j["format"] = "other"; }),
              HasSubstr("/format"));
  EXPECT_THAT(problem([](Json& j) { j.erase("source"); }), HasSubstr("source"));
  EXPECT_THAT(problem([](Json& j) { j = Json::array(); }),
              Not(HasSubstr("accepted")));
}

}  // namespace
}  // namespace troupe::reshard
