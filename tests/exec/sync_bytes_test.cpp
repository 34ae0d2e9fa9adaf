// What a schedule says is summed across replicas, against the plans by which
// an interpreter sums it.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <map>
#include <set>

#include "tests/emu/small_job.h"

namespace troupe::exec {
namespace {

using clusters::Collective;
using clusters::DeviceId;
using schedule::Schedule;

/// A tensor-parallel group: stage and member.
using Member = std::pair<int, int>;
/// Bytes by the groups whose ranks sum them.
using Summed = std::map<std::set<Member>, std::int64_t>;

Summed by_schedule(const Schedule& s) {
  Summed out;
  for (const schedule::Sync& sync : s.syncs) {
    if (sync.name == schedule::kGradientNorm) continue;
    if (sync.collective == Collective::all_gather) continue;
    for (const schedule::SyncGroup& g : sync.groups) {
      std::set<Member> members;
      for (const RankId r : g.ranks) {
        members.insert({s.rank(r).stage.v, s.rank(r).member});
      }
      out[members] += g.bytes.v;
    }
  }
  return out;
}

Summed by_plans(const Program& p) {
  std::map<DeviceId, Member> member_of;
  for (const schedule::Rank& rank : p.schedule.ranks) {
    member_of[rank.device] = {rank.stage.v, rank.member};
  }
  Summed out;
  const auto cluster = troupe::test::cluster_of(emu::test::kCluster);
  const reshard::Rates rates = reshard::rates_of(cluster);
  const reshard::Routes routes(cluster, rates);
  // By collectives, as the schedule says; for the smallest tensors messages
  // may be faster, and the interpreter then sends messages.
  reshard::Options options;
  options.choice = reshard::Choice::reference;
  for (const Weight& w : p.weights) {
    const auto resolved = reshard::resolve_all(
        w.placement.gradient, w.placement.optimizer,
        w.placement.parameter.shape, w.reduce->dtype, routes, options);
    EXPECT_TRUE(resolved.has_value());
    if (!resolved) continue;
    for (const reshard::Step& step : resolved->plan().steps) {
      EXPECT_TRUE(step.messages.empty()) << w.placement.parameter.name;
      for (const reshard::Group& g : step.groups) {
        std::set<Member> members;
        for (const DeviceId d : g.devices) members.insert(member_of.at(d));
        for (const reshard::Part& part : g.reads) {
          if (part.member != 0) continue;
          out[members] += kernels::size_of(w.reduce->dtype).v *
                          strategy::elements(part.box);
        }
      }
    }
  }
  return out;
}

/// A model whose tensors divide by all degrees.
models::Model dividing_model(int kv_heads) {
  models::Model m = emu::test::small_model();
  m.hidden = 32;
  m.heads = 8;
  m.kv_heads = kv_heads;
  m.ffn = 64;
  m.vocab = 256;
  return m;
}

/// Two to three pipelines of unequal cuts and degrees.
strategy::Strategy any_strategy(const models::Model& model) {
  const int pipelines = *rc::gen::inRange(1, 4);
  auto s = troupe::test::strategy_of(model, {.dp = pipelines, .pp = 2});
  s.seq_len = 16;
  s.zero = *rc::gen::element(strategy::Zero::none, strategy::Zero::one);
  s.sequence_parallel = *rc::gen::arbitrary<bool>();
  int next = 0;
  for (strategy::Pipeline& p : s.phases[0].pipelines) {
    const int cut = *rc::gen::inRange(1, model.layers);
    p.stages[0].chunks = {{0, cut}};
    p.stages[1].chunks = {{cut, model.layers}};
    for (strategy::Stage& stage : p.stages) {
      const int members = *rc::gen::inRange(1, 3);
      const int tp = *rc::gen::element(1, 2, 4, 8);
      stage.members.assign(static_cast<std::size_t>(members), {});
      for (strategy::Member& m : stage.members) {
        m.share = 1.0 / members;
        for (int t = 0; t < tp; ++t) m.devices.push_back(DeviceId{next++});
      }
    }
  }
  return s;
}

/// Where ranks share key heads and ZeRO cuts the optimizer's states, plans
/// sum for the owners alone; the schedule counts every copy.
bool covers(const Summed& schedule, const Summed& plans) {
  return std::ranges::all_of(plans, [&](const auto& entry) {
    const auto it = schedule.find(entry.first);
    return it != schedule.end() && it->second >= entry.second;
  });
}

RC_GTEST_PROP(GradientSync, SumsAsManyBytesAsItsPlans, ()) {
  const auto model = dividing_model(*rc::gen::element(1, 2, 4, 8));
  const auto s = any_strategy(model);
  const auto program = emu::test::program_of(s, model);
  RC_ASSERT(program.has_value());
  const Summed scheduled = by_schedule(program->schedule);
  const Summed planned = by_plans(*program);
  if (model.kv_heads == 8 || s.zero == strategy::Zero::none) {
    RC_ASSERT(scheduled == planned);
  } else {
    RC_ASSERT(covers(scheduled, planned));
  }
}

}  // namespace
}  // namespace troupe::exec
