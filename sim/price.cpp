#include "sim/price.h"

#include <algorithm>
#include <set>

#include "sim/streams.h"

namespace troupe::sim {

using profiles::Provenance;
using schedule::Block;
using schedule::BlockRun;
using schedule::Operator;
using schedule::StageId;
using schedule::Stream;
using schedule::TaskId;

Parts& Parts::operator+=(const Parts& o) {
  compute += o.compute;
  tensor += o.tensor;
  context += o.context;
  data += o.data;
  return *this;
}

namespace {

/// Adds up where the compute stream's time goes.
struct Account {
  BodyPrice price;

  void busy(const OperatorPrice& op) {
    price.parts.compute += op.time;
    price.provenance[static_cast<std::size_t>(op.provenance)] += op.time;
  }
  void waited(Time gap, Stream stream, Provenance provenance) {
    switch (stream) {
      case Stream::tensor:
        price.parts.tensor += gap;
        break;
      case Stream::context:
        price.parts.context += gap;
        break;
      case Stream::data:
        price.parts.data += gap;
        break;
      case Stream::compute:
      case Stream::pipeline:
        price.parts.compute += gap;
        break;
    }
    price.provenance[static_cast<std::size_t>(provenance)] += gap;
  }
};

}  // namespace

BodyPrice run_body(const std::vector<std::pair<const BlockPrice*, int>>& runs) {
  Account account;
  const Time end = run_streams(runs, account);
  account.price.time = end;
  for (const auto& [block, count] : runs) {
    account.price.flops += block->block->flops * count;
  }
  return account.price;
}

PriceList::PriceList(const schedule::Schedule& schedule,
                     const clusters::Cluster& cluster, const Network& network,
                     const profiles::CostModel& costs, Time host_per_operator)
    : schedule_(schedule),
      cluster_(cluster),
      costs_(costs),
      host_per_operator_(host_per_operator) {
  find_groups(network);
  price_tasks();
}

PriceList::ReplicaRings PriceList::replica_rings(const Network& network) const {
  std::map<std::int32_t, std::vector<clusters::DeviceId>> holders;
  std::vector<clusters::DeviceId> ends;
  for (const auto& stage : schedule_.stages) {
    holders[stage.chunks.front().first];
  }
  const auto pipeline_ends = [&](const schedule::Stage& stage) {
    const auto holds = [&](int layer) {
      return std::ranges::any_of(stage.chunks, [&](const auto& c) {
        return c.first <= layer && layer < c.last;
      });
    };
    return holds(0) || holds(schedule_.numerics.layers - 1);
  };
  for (const auto& stage : schedule_.stages) {
    for (const auto& member : stage.members) {
      const clusters::DeviceId leader = schedule_.rank(member.front()).device;
      for (auto& [layer, list] : holders) {
        for (const schedule::ChunkRange& c : stage.chunks) {
          if (c.first <= layer && layer < c.last) list.push_back(leader);
        }
      }
      if (pipeline_ends(stage)) ends.push_back(leader);
    }
  }
  ReplicaRings out;
  for (const auto& [layer, list] : holders) {
    out.data[layer] = network.ring(list);
  }
  out.ends = network.ring(ends);
  return out;
}

void PriceList::find_groups(const Network& network) {
  const auto devices = [&](const std::vector<schedule::RankId>& ranks) {
    std::vector<clusters::DeviceId> out;
    for (const auto r : ranks) out.push_back(schedule_.rank(r).device);
    return out;
  };
  // Tensor-parallel groups are all busy at once; what they share, they share
  // all the time.
  std::vector<std::int32_t> sharers(network.links(), 0);
  for (const auto& stage : schedule_.stages) {
    for (const auto& member : stage.members) {
      network.count_sharers(devices(member), sharers);
    }
  }
  const ReplicaRings rings = replica_rings(network);
  std::map<GroupKind, int> known;
  for (const auto& stage : schedule_.stages) {
    auto& ids = group_of_.emplace_back();
    std::vector<clusters::DeviceId> leaders;
    for (const auto& member : stage.members) {
      leaders.push_back(schedule_.rank(member.front()).device);
    }
    for (const auto& member : stage.members) {
      GroupKind group;
      std::set<clusters::KindId> kinds;
      for (const auto r : member) {
        kinds.insert(cluster_.devices[schedule_.rank(r).device.at()].kind);
      }
      group.kinds.assign(kinds.begin(), kinds.end());
      group.tensor = network.ring(devices(member), sharers);
      group.context = network.ring(leaders);
      group.data = rings.data.at(stage.chunks.front().first);
      group.ends = rings.ends;
      const auto [it, fresh] =
          known.try_emplace(group, static_cast<int>(groups_.size()));
      if (fresh) groups_.push_back(group);
      ids.push_back(it->second);
    }
  }
}

int PriceList::kind_of_group(StageId stage, std::size_t member) const {
  return group_of_[stage.at()][member];
}

const GroupKind& PriceList::group(StageId stage, std::size_t member) const {
  return groups_[static_cast<std::size_t>(kind_of_group(stage, member))];
}

OperatorPrice PriceList::price_operator(const Operator& op,
                                        const GroupKind& group) const {
  if (!op.communicates) {
    OperatorPrice slowest;
    for (const clusters::KindId k : group.kinds) {
      const auto cost = costs_.operator_cost(op.shape, cluster_.kinds[k.at()]);
      if (cost.time >= slowest.time) slowest = {cost.time, cost.provenance};
    }
    return slowest;
  }
  const RingCost& ring = op.scope == schedule::Scope::tensor    ? group.tensor
                         : op.scope == schedule::Scope::context ? group.context
                         : op.scope == schedule::Scope::ends    ? group.ends
                                                                : group.data;
  if (ring.ranks < 2) return {};
  if (ring.per_node == ring.ranks) {
    const auto measured = costs_.collective_cost(
        op.collective, ring.ranks, ring.per_node, op.bytes,
        cluster_.kinds[group.kinds.front().at()]);
    if (measured) return {measured->time, measured->provenance};
  }
  return {collective_time(op.collective, ring, op.bytes), Provenance::roofline};
}

BlockPrice PriceList::price_block(const Block& block,
                                  const GroupKind& group) const {
  BlockPrice price;
  price.block = &block;
  for (std::size_t o = 0; o < block.operators.size(); ++o) {
    price.operators.push_back(price_operator(block.operators[o], group));
    if (block.operators[o].prefetch) {
      price.prefetches.push_back(static_cast<std::uint16_t>(o));
    }
  }
  scale_to_layer(block, group, price);
  return price;
}

/// Where not every operator is measured but the whole layer is, the
/// operators are scaled so that the block takes what the layer took.
void PriceList::scale_to_layer(const Block& block, const GroupKind& group,
                               BlockPrice& price) const {
  if (!block.has_key || group.kinds.size() != 1) return;
  bool known = true;
  for (std::size_t o = 0; o < block.operators.size(); ++o) {
    if (block.operators[o].communicates) continue;
    known = known && price.operators[o].provenance <= Provenance::interpolated;
  }
  if (known) return;
  const clusters::DeviceKind& kind = cluster_.kinds[group.kinds[0].at()];
  auto cost = costs_.layer_cost(block.key, kind);
  if (!cost) return;
  if (block.recomputes) {
    profiles::LayerKey forward = block.key;
    forward.backward = false;
    const auto again = costs_.layer_cost(forward, kind);
    if (!again) return;
    if (cost->least.v > 0 || again->least.v > 0) {
      const auto least = [](const profiles::Cost& c) {
        return c.least.v > 0 ? c.least : c.time;
      };
      cost->least = least(*cost) + least(*again);
    }
    cost->time += again->time;
    cost->provenance = std::max(cost->provenance, again->provenance);
  }
  const Time alone = run_body({{&price, 1}}).time;
  if (alone.v <= 0) return;
  const Time target = cost->least.v > 0
                          ? std::clamp(alone, cost->least, cost->time)
                          : cost->time;
  const double factor = target / alone;
  for (OperatorPrice& op : price.operators) {
    op.time = {static_cast<std::int64_t>(
        std::llround(static_cast<double>(op.time.v) * factor))};
    op.provenance = cost->provenance;
  }
}

const BlockPrice& PriceList::block(schedule::BlockId id, int group) {
  const auto [it, fresh] = blocks_.try_emplace({id.v, group});
  if (fresh) {
    it->second = price_block(schedule_.block(id),
                             groups_[static_cast<std::size_t>(group)]);
  }
  return it->second;
}

std::vector<std::pair<const BlockPrice*, int>> PriceList::runs(
    TaskId id, std::size_t member) {
  const schedule::Task& task = schedule_.tasks[id.at()];
  const schedule::Body& body =
      schedule_.bodies[static_cast<std::size_t>(task.what)];
  const int group = kind_of_group(task.stage, member);
  std::vector<std::pair<const BlockPrice*, int>> out;
  for (const BlockRun& run : body.of(member)) {
    out.emplace_back(&block(run.block, group), run.count);
  }
  return out;
}

void PriceList::price_tasks() {
  price_of_.assign(schedule_.tasks.size(), -1);
  // Stages whose members are of the same kinds share a row of the table.
  std::map<std::vector<int>, std::size_t> rows;
  std::vector<std::vector<std::int32_t>> table;
  std::vector<std::size_t> row_of;
  for (const auto& groups : group_of_) {
    const auto [it, fresh] = rows.try_emplace(groups, table.size());
    if (fresh) table.emplace_back(schedule_.bodies.size(), -1);
    row_of.push_back(it->second);
  }
  for (std::size_t t = 0; t < schedule_.tasks.size(); ++t) {
    const schedule::Task& task = schedule_.tasks[t];
    if (!schedule::computes(task.kind)) continue;
    std::int32_t& known =
        table[row_of[task.stage.at()]][static_cast<std::size_t>(task.what)];
    if (known < 0) {
      known = static_cast<std::int32_t>(prices_.size());
      prices_.push_back(price_slowest_member(make_id<TaskId>(t)));
    }
    price_of_[t] = known;
  }
}

BodyPrice PriceList::price_slowest_member(TaskId id) {
  const auto& members = group_of_[schedule_.tasks[id.at()].stage.at()];
  BodyPrice slowest;
  for (std::size_t m = 0; m < members.size(); ++m) {
    // Equal members have equal prices.
    if (m > 0 && members[m] == members[m - 1] &&
        schedule_
                .bodies[static_cast<std::size_t>(schedule_.tasks[id.at()].what)]
                .members.size() == 1) {
      continue;
    }
    BodyPrice price = run_body(runs(id, m));
    const Time starved = host_time(id, m) - price.time;
    if (starved.v > 0) {
      price.time += starved;
      price.parts.compute += starved;
      price.provenance[static_cast<std::size_t>(Provenance::roofline)] +=
          starved;
    }
    if (m == 0 || price.time > slowest.time) slowest = price;
  }
  return slowest;
}

Time PriceList::host_time(TaskId id, std::size_t member) {
  std::int64_t operators = 0;
  for (const auto& [block, count] : runs(id, member)) {
    operators += static_cast<std::int64_t>(block->operators.size()) * count;
  }
  return host_per_operator_ * operators;
}

const BodyPrice& PriceList::of(TaskId id) const {
  return prices_[static_cast<std::size_t>(price_of_[id.at()])];
}

Flops PriceList::hardware_flops() const {
  Flops sum;
  for (const schedule::Stage& stage : schedule_.stages) {
    for (const TaskId t : stage.order) {
      if (schedule_.tasks[t.at()].kind == schedule::TaskKind::optimizer) {
        continue;
      }
      const auto& body =
          schedule_
              .bodies[static_cast<std::size_t>(schedule_.tasks[t.at()].what)];
      for (std::size_t m = 0; m < stage.members.size(); ++m) {
        for (const BlockRun& run : body.of(m)) {
          sum += schedule_.block(run.block).flops *
                 (static_cast<double>(stage.members[m].size()) * run.count);
        }
      }
    }
  }
  return sum;
}

}  // namespace troupe::sim
