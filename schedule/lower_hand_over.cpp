// Which way a hand-over takes where all ranks of a member need the same rows.
#include <algorithm>
#include <array>
#include <bit>
#include <map>
#include <set>

#include "schedule/lowering.h"

namespace troupe::schedule {

using clusters::DeviceId;
using clusters::LinkId;
using strategy::HandOver;

namespace {

std::vector<DeviceId> devices_of(const Lowering& l, StageId id) {
  std::vector<DeviceId> out;
  for (const auto& member : l.out.stage(id).members) {
    for (const RankId r : member) out.push_back(l.out.rank(r).device);
  }
  return out;
}

/// What the price depends on: sizes, and the links of all routes that are
/// used, numbered in the order they appear.
class Signature {
 public:
  explicit Signature(const clusters::Cluster& cluster) : cluster_(cluster) {}

  void add(std::int64_t number) { key_.push_back(number); }
  void add(DeviceId from, DeviceId to) {
    const clusters::Route route = cluster_.route(from, to);
    add(route.latency.v);
    add(cluster_.same_node(from, to) ? 1 : 0);
    for (const LinkId link : route.links) {
      const auto [it, fresh] = links_.try_emplace(link, std::ssize(links_));
      add(it->second);
      if (!fresh) continue;
      const clusters::Link& seen = cluster_.links[link.at()];
      add(static_cast<std::int64_t>(seen.link_class));
      add(std::bit_cast<std::int64_t>(seen.bandwidth.v));
    }
  }
  HandOverWays::Key take() { return std::move(key_); }

 private:
  const clusters::Cluster& cluster_;
  std::map<LinkId, std::int64_t> links_;
  HandOverWays::Key key_;
};

HandOverWays::Key signature(const Lowering& l, const Passage& passage) {
  Signature out(l.cluster);
  out.add(passage.micro_batch_size);
  out.add(passage.seq_len);
  for (const StageId id : {passage.from, passage.to}) {
    const Stage& stage = l.out.stage(id);
    for (const auto& member : stage.members) out.add(std::ssize(member));
    for (const double share : stage.shares) {
      out.add(std::bit_cast<std::int64_t>(share));
    }
  }
  const std::vector<DeviceId> sinks = devices_of(l, passage.to);
  for (const DeviceId to : sinks) {
    out.add(l.cluster.devices[to.at()].kind.v);
    for (const DeviceId from : devices_of(l, passage.from)) out.add(from, to);
    for (const DeviceId other : sinks) {
      if (other != to) out.add(other, to);
    }
  }
  return out.take();
}

reshard::Box rows_of_tensor(std::int64_t first, std::int64_t last,
                            std::int64_t width) {
  return {{first, last}, {0, width}};
}

/// A group of the second transfer as a collective over elements.
reshard::Group as_group(const Lowering& l, const Transfer& transfer,
                        const SyncGroup& group, std::int64_t width,
                        std::int64_t row_bytes) {
  reshard::Group out;
  const std::int64_t all = group.bytes.v / row_bytes;
  const auto n = std::ssize(group.ranks);
  for (std::int64_t i = 0; i < n; ++i) {
    const RankId rank = group.ranks[static_cast<std::size_t>(i)];
    out.devices.push_back(l.out.rank(rank).device);
    RowRange part = row_shard(all, i, n);
    if (transfer.collective == clusters::Collective::broadcast) {
      part = i == 0 ? RowRange{0, all} : RowRange{};
    }
    if (part.count() == 0) continue;
    const auto box = rows_of_tensor(part.first, part.last, width);
    out.reads.push_back({static_cast<int>(i), reshard::kDestination, box});
    for (std::int64_t k = 0; k < n; ++k) {
      if (k == i) continue;
      out.writes.push_back({static_cast<int>(k), reshard::kDestination, box});
    }
  }
  return out;
}

/// The predicted time of a hand-over.
Time price_of(const Lowering& l, const HandedOver& handed,
              const reshard::Routes& routes) {
  const Bytes element = kernels::size_of(l.strategy.dtype);
  const std::int64_t width = l.model.hidden;
  const std::int64_t row_bytes = element.v * width;
  reshard::Plan plan;
  plan.dtype = l.strategy.dtype;
  reshard::Step& sent = plan.steps.emplace_back();
  sent.operation = reshard::Operation::send_receive;
  for (const Message& m : handed.sent.messages) {
    const DeviceId from = l.out.rank(m.from).device;
    const DeviceId to = l.out.rank(m.to).device;
    sent.messages.push_back({from, to, reshard::kSource, reshard::kDestination,
                             rows_of_tensor(0, m.bytes.v / row_bytes, width)});
  }
  if (handed.shared) {
    reshard::Step& shared = plan.steps.emplace_back();
    shared.operation = reshard::Operation::all_gather;
    shared.wave = 1;
    shared.dimension = 0;
    for (const SyncGroup& group : handed.shared->groups) {
      shared.groups.push_back(
          as_group(l, *handed.shared, group, width, row_bytes));
    }
  }
  return reshard::price(plan, routes);
}

HandOver cheapest(Lowering& l, const Passage& passage) {
  if (!l.ways.rates) l.ways.rates = reshard::rates_of(l.cluster);
  const reshard::Routes routes(l.cluster, *l.ways.rates);
  HandOver best = HandOver::batched;
  Time least;
  for (const HandOver way :
       {HandOver::batched, HandOver::leader, HandOver::scatter}) {
    const Time time = price_of(l, hand_over(l, passage, way), routes);
    if (way != HandOver::batched && time >= least) continue;
    best = way;
    least = time;
  }
  return best;
}

}  // namespace

void HandOverWays::follow(const Schedule& schedule) {
  follows = true;
  for (const Task& task : schedule.tasks) {
    if (task.kind != TaskKind::transfer) continue;
    const Transfer& t = schedule.transfers[static_cast<std::size_t>(task.what)];
    if (!t.shares()) continue;
    const TaskId first = schedule.dependencies_of(task).front();
    const Task& sent = schedule.tasks[first.at()];
    followed[{sent.stage, sent.chunk, sent.backward, sent.micro_batch}] =
        t.collective == clusters::Collective::broadcast ? HandOver::leader
                                                        : HandOver::scatter;
  }
}

HandOver way_of(Lowering& l, const Passage& passage,
                const HandOverWays::Place& place) {
  const auto& members = l.out.stage(passage.to).members;
  const bool alone =
      std::ranges::all_of(members, [](const auto& m) { return m.size() < 2; });
  if (alone || l.strategy.sequence_parallel) return HandOver::batched;
  if (l.ways.follows) {
    const auto it = l.ways.followed.find(place);
    return it == l.ways.followed.end() ? HandOver::batched : it->second;
  }
  if (l.strategy.hand_over != HandOver::cheapest) return l.strategy.hand_over;
  const auto [it, fresh] =
      l.ways.cheapest.try_emplace(signature(l, passage), HandOver::batched);
  if (fresh) it->second = cheapest(l, passage);
  return it->second;
}

}  // namespace troupe::schedule
