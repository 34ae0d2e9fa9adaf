// Plans of random changes of layout, carried out by ranks on real arrays.
#include "exec/transform.h"

#include <gtest/gtest.h>

#include <map>
#include <mutex>

#include "emu/cpu_device.h"
#include "emu/hub.h"
#include "tests/reshard/helpers.h"

namespace troupe::exec {
namespace {

using reshard::Dice;
using reshard::Plan;
using strategy::Holding;

constexpr int kDevices = 16;

/// Whole numbers that fp64 adds exactly.
using Numbers = std::vector<double>;

std::int64_t elements_of(const reshard::Shape& shape) {
  std::int64_t n = 1;
  for (const std::int64_t e : shape) n *= e;
  return n;
}

template <typename Visit>
void each_index(const Box& box, const reshard::Shape& shape, Visit visit) {
  std::vector<std::int64_t> at;
  for (const strategy::Span& s : box) at.push_back(s.first);
  for (std::int64_t n = strategy::elements(box); n > 0; --n) {
    std::int64_t index = 0;
    for (std::size_t d = 0; d < at.size(); ++d)
      index = index * shape[d] + at[d];
    visit(static_cast<std::size_t>(index));
    for (std::size_t d = box.size(); d-- > 0;) {
      if (++at[d] < box[d].last) break;
      at[d] = box[d].first;
    }
  }
}

/// The summands of a tensor: what devices hold before the change.
struct Job {
  const Plan& plan;
  std::vector<Numbers> summands;
  Numbers sum;
  std::map<reshard::DeviceId, Holding> source, destination;

  Job(const Plan& p, Dice& dice) : plan(p) {
    const auto n = static_cast<std::size_t>(elements_of(p.shape));
    sum.assign(n, 0);
    for (int s = 0; s < strategy::summands(p.source); ++s) {
      Numbers& mine = summands.emplace_back();
      for (std::size_t i = 0; i < n; ++i) {
        mine.push_back(1 + dice.below(1 << 30));
        sum[i] += mine.back();
      }
    }
    for (Holding& h : strategy::holdings(p.source, p.shape)) {
      source.emplace(h.device, std::move(h));
    }
    for (Holding& h : strategy::holdings(p.destination, p.shape)) {
      destination.emplace(h.device, std::move(h));
    }
  }
};

/// What ranks hold after the change: by summand of the destination, the
/// numbers seen of each element. Equal summands must be equal numbers.
struct Seen {
  std::mutex mutex;
  std::map<int, std::map<std::size_t, double>> values;
  std::string problem;
};

/// One rank: fills its source, changes, and reports its destination.
Result<void> work(const Job& job, const RankOf& ranks, Communicator& c,
                  Seen& seen) {
  const reshard::DeviceId self{c.rank().v};
  emu::CpuDevice device;
  OwnedStorage source, destination;
  const auto from = job.source.find(self);
  if (from != job.source.end()) {
    const Holding& h = from->second;
    TRY(source, OwnedStorage::of(device, h.boxes, kernels::DType::fp64));
    const Numbers& all = job.summands[static_cast<std::size_t>(h.summand)];
    auto* at = static_cast<double*>(source.buffer.data());
    for (const Box& box : h.boxes) {
      each_index(box, job.plan.shape, [&](std::size_t i) { *at++ = all[i]; });
    }
  }
  const auto to = job.destination.find(self);
  if (to != job.destination.end()) {
    TRY(destination,
        OwnedStorage::of(device, to->second.boxes, kernels::DType::fp64));
  }
  Change change{&job.plan, Tag{7} << 40, nullptr, nullptr};
  if (source.buffer) change.source = &source.storage;
  if (destination.buffer) change.destination = &destination.storage;
  Time time;
  TRY_DO(transform(change, self, ranks, device, c, time));
  if (to == job.destination.end()) return {};
  const std::scoped_lock lock(seen.mutex);
  auto& values = seen.values[to->second.summand];
  const auto* at = static_cast<const double*>(destination.buffer.data());
  for (const Box& box : to->second.boxes) {
    each_index(box, job.plan.shape, [&](std::size_t i) {
      const auto [it, fresh] = values.try_emplace(i, *at);
      if (!fresh && it->second != *at) {
        seen.problem = "equal summands are unequal numbers";
      }
      ++at;
    });
  }
  return {};
}

void check_plan(const Plan& plan, Dice& dice) {
  const Job job(plan, dice);
  RankOf ranks;
  for (int d = 0; d < kDevices; ++d) {
    ranks[reshard::DeviceId{d}] = schedule::RankId{d};
  }
  Seen seen;
  emu::Hub hub(kDevices, {.threads = 1});
  const auto done =
      hub.run([&](Communicator& c) { return work(job, ranks, c, seen); });
  ASSERT_TRUE(done.has_value()) << done.error().message;
  EXPECT_EQ(seen.problem, "");
  EXPECT_EQ(std::ssize(seen.values), strategy::summands(plan.destination));
  for (std::size_t i = 0; i < job.sum.size(); ++i) {
    double sum = 0;
    for (const auto& [summand, values] : seen.values) {
      ASSERT_TRUE(values.contains(i)) << "no element " << i;
      sum += values.at(i);
    }
    ASSERT_EQ(sum, job.sum[i]) << "element " << i;
  }
}

class Changes : public testing::TestWithParam<int> {};

/// The chosen plan of every pair, all candidates of every fourth.
TEST_P(Changes, GiveEveryElementOnce) {
  const auto cluster =
      reshard::cluster_of("4 x h100-sxm per node, 400 Gbit/s per GPU, 4 nodes");
  const reshard::Rates rates = reshard::rates_of(cluster);
  const reshard::Routes routes(cluster, rates);
  std::map<reshard::Operation, int> operations;
  int plans = 0;
  for (std::uint64_t i = 0; plans < 400; ++i) {
    ASSERT_LT(i, 2000U);
    Dice dice(static_cast<std::uint64_t>(GetParam()) * 1'000'003 + i);
    const auto change = reshard::random_change(dice, kDevices);
    const auto found =
        reshard::resolve_all(change.source, change.destination, change.shape,
                             kernels::DType::fp64, routes);
    if (!found) continue;  // annotations that cannot be
    for (std::size_t k = 0; k < found->candidates.size(); ++k) {
      if (k != found->chosen && i % 4 != 0) continue;
      const Plan& plan = found->candidates[k].plan;
      SCOPED_TRACE(strategy::to_string(change.source) + "\n" +
                   strategy::to_string(change.destination) + "\n" +
                   to_text(plan));
      check_plan(plan, dice);
      if (HasFailure()) return;
      ++plans;
      for (const auto operation : reshard::operations(plan)) {
        ++operations[operation];
      }
    }
  }
  // Every kind of operation but the all-to-all, which never wins.
  EXPECT_GE(operations.size(), 11U);
}

INSTANTIATE_TEST_SUITE_P(Shards, Changes, testing::Range(0, 4));

/// A plan for a device that holds less than the plan says.
TEST(Transform, EndsAllRanksWhenOneLacksWhatItIsToSend) {
  const auto cluster =
      reshard::cluster_of("4 x h100-sxm per node, 400 Gbit/s per GPU, 1 node");
  strategy::Annotation from, to;
  from.groups = {{{reshard::DeviceId{0}}, {}}};
  to.groups = {{{reshard::DeviceId{1}}, {}}};
  const auto plan =
      reshard::resolve(from, to, {8}, kernels::DType::fp64, cluster);
  ASSERT_TRUE(plan.has_value());
  const RankOf ranks{{reshard::DeviceId{0}, schedule::RankId{0}},
                     {reshard::DeviceId{1}, schedule::RankId{1}}};
  emu::Hub hub(2, {.threads = 1});
  const auto done = hub.run([&](Communicator& c) -> Result<void> {
    emu::CpuDevice device;
    const bool first = c.rank().v == 0;
    const std::vector<Box> boxes{{{0, first ? 5 : 8}}};
    TRY(const OwnedStorage mine,
        OwnedStorage::of(device, boxes, kernels::DType::fp64));
    Change change{&*plan, 0, nullptr, nullptr};
    (first ? change.source : change.destination) = &mine.storage;
    Time time;
    return transform(change, reshard::DeviceId{c.rank().v}, ranks, device, c,
                     time);
  });
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().fault, Fault::infeasible);
  EXPECT_EQ(done.error().message.find("rank 0: "), 0U);
}

}  // namespace
}  // namespace troupe::exec
