#include "reshard/switch.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <unordered_map>

#include "base/text.h"
#include "base/units.h"
#include "reshard/collectives.h"

namespace troupe::reshard {
namespace {

std::uint64_t mixed(std::uint64_t hash, std::int64_t value) {
  hash ^= static_cast<std::uint64_t>(value) + 0x9e3779b97f4a7c15ULL +
          (hash << 6) + (hash >> 2);
  return hash * 0xff51afd7ed558ccdULL;
}

std::uint64_t hash_of(const Annotation& a, std::uint64_t hash) {
  for (const strategy::Subgroup& group : a.groups) {
    for (const DeviceId d : group.devices) hash = mixed(hash, d.v);
    for (const auto& [d, parts] : group.states.split) {
      hash = mixed(mixed(hash, d), parts);
    }
    hash = mixed(hash, group.states.duplicate);
  }
  return mixed(hash, static_cast<std::int64_t>(a.across));
}

bool alike(const TensorChange& a, const TensorChange& b) {
  return a.shape == b.shape && a.dtype == b.dtype && a.held == b.held &&
         a.source == b.source && a.destination == b.destination;
}

Result<std::unique_ptr<Problem>> problem_of(const TensorChange& change,
                                            const clusters::Cluster& cluster) {
  for (const Annotation* a : {&change.source, &change.destination}) {
    const auto problems = strategy::problems(*a, change.shape);
    if (!problems.empty()) {
      return fail(Fault::input,
                  fmt::format("{}: {}", change.name, problems.front()));
    }
    for (const strategy::Subgroup& group : a->groups) {
      for (const DeviceId d : group.devices) {
        if (d && d.at() < cluster.devices.size()) continue;
        return fail(Fault::input,
                    fmt::format("{}: device {} is not one of the cluster's {}",
                                change.name, d.v, cluster.devices.size()));
      }
    }
  }
  if (change.shape.empty() || change.shape.size() > kMostDimensions) {
    return fail(Fault::input, fmt::format("{}: expected 1 to {} dimensions",
                                          change.name, kMostDimensions));
  }
  TRY(auto problem,
      Problem::of(source_of(change),
                  layout_of(change.destination, change.shape, kDestination),
                  change.shape.size()));
  if (problem->reduces()) {
    return fail(Fault::input,
                fmt::format("{}: would be reduced; a switch only moves, so "
                            "reduce it first",
                            change.name));
  }
  return problem;
}

/// All tensors' demands, with where each comes from.
struct Gathered {
  Demands demands;
  std::vector<std::int32_t> first_piece;  ///< by tensor
  std::vector<std::int32_t> tensor_of;    ///< by demand
};

/// The demands of each class once, repeated for its tensors.
class Gatherer {
 public:
  Gatherer(std::span<const TensorChange> changes, const Routes& routes)
      : changes_(changes), routes_(routes) {}

  Result<Gathered> gather(SwitchPlan& plan) {
    std::unordered_multimap<std::uint64_t, std::int32_t> known;
    std::int32_t pieces = 0;
    for (std::size_t t = 0; t < changes_.size(); ++t) {
      TRY(const std::int32_t kind, class_of(t, known, plan));
      plan.class_of.push_back(kind);
      const auto k = static_cast<std::size_t>(kind);
      out_.first_piece.push_back(pieces);
      for (Demand demand : lists_[k]) {
        demand.piece += pieces;
        out_.demands.list.push_back(demand);
        out_.tensor_of.push_back(static_cast<std::int32_t>(t));
      }
      pieces += static_cast<std::int32_t>(plan.classes[k].pieces.size());
      if (std::ssize(out_.demands.list) > kMostDemands) {
        return fail(Fault::infeasible,
                    fmt::format("more than {} pieces to move", kMostDemands));
      }
    }
    return std::move(out_);
  }

 private:
  static constexpr std::int64_t kMostDemands = std::int64_t{1} << 26;

  Result<std::int32_t> class_of(
      std::size_t t,
      std::unordered_multimap<std::uint64_t, std::int32_t>& known,
      SwitchPlan& plan) {
    const TensorChange& change = changes_[t];
    std::uint64_t hash = hash_of(change.destination, hash_of(change.source, 1));
    for (const std::int64_t n : change.shape) hash = mixed(hash, n);
    const auto [first, last] = known.equal_range(hash);
    for (auto at = first; at != last; ++at) {
      const auto& kind = plan.classes[static_cast<std::size_t>(at->second)];
      const auto& other =
          changes_[static_cast<std::size_t>(kind.representative)];
      if (alike(change, other)) return at->second;
    }
    TRY(const auto problem, problem_of(change, routes_.cluster()));
    Pieces pieces;
    add_demands(*problem, kernels::size_of(change.dtype).v, pieces);
    const auto base = static_cast<std::uint32_t>(out_.demands.owners.size());
    for (Demand& demand : pieces.demands.list) demand.owners += base;
    out_.demands.owners.insert(out_.demands.owners.end(),
                               pieces.demands.owners.begin(),
                               pieces.demands.owners.end());
    lists_.push_back(std::move(pieces.demands.list));
    plan.classes.push_back(
        {static_cast<std::int32_t>(t), std::move(pieces.boxes)});
    const auto kind = static_cast<std::int32_t>(plan.classes.size() - 1);
    known.emplace(hash, kind);
    return kind;
  }

  std::span<const TensorChange> changes_;
  const Routes& routes_;
  Gathered out_;
  std::vector<std::vector<Demand>> lists_;
};

/// Memory that buckets take on each device.
class Filler {
 public:
  Filler(std::int64_t limit, std::size_t devices)
      : limit_(limit), devices_(devices) {}

  /// The first bucket from `wanted` on with room at both ends, else one from
  /// the start, else a new one.
  std::int32_t bucket_for(DeviceId from, DeviceId to, std::int64_t bytes,
                          std::size_t wanted) {
    std::size_t bucket = wanted;
    if (limit_ > 0) {
      const std::size_t count = std::max(used_.size(), wanted + 1);
      std::size_t tried = 0;
      while (tried < count &&
             !(fits(bucket, from, bytes) && fits(bucket, to, bytes))) {
        bucket = (bucket + 1) % count;
        ++tried;
      }
      if (tried == count) bucket = count;
    }
    while (used_.size() <= bucket) used_.emplace_back(devices_, 0);
    used_[bucket][from.at()] += bytes;
    used_[bucket][to.at()] += bytes;
    return static_cast<std::int32_t>(bucket);
  }

  Bytes peak(std::size_t bucket) const {
    return {*std::ranges::max_element(used_[bucket])};
  }

 private:
  bool fits(std::size_t bucket, DeviceId d, std::int64_t bytes) const {
    return bucket >= used_.size() || used_[bucket][d.at()] + bytes <= limit_;
  }

  std::int64_t limit_;
  std::size_t devices_;
  std::vector<std::vector<std::int64_t>> used_;
};

/// How far each pair of devices is with what it exchanges in all: the b-th
/// part of it goes into bucket b, so that every bucket loads links alike.
class Pace {
 public:
  Pace(const Demands& demands, std::span<const Share> shares,
       std::int64_t limit, std::size_t devices) {
    if (limit == 0) return;
    std::vector<std::int64_t> load(devices, 0);
    for (const Share& share : shares) {
      const Demand& demand = demands.list[share.demand];
      const std::int64_t bytes =
          demand.bytes / demand.rows * (share.last - share.first);
      pairs_[key(share.from, demand.to)].all += bytes;
      load[share.from.at()] += bytes;
      load[demand.to.at()] += bytes;
    }
    const std::int64_t most = *std::ranges::max_element(load);
    buckets_ = std::max<std::int64_t>(ceil_div(most, limit), 1);
  }

  /// The bucket that is next for a pair, and the bytes until the one after.
  std::pair<std::size_t, std::int64_t> next(DeviceId from, DeviceId to) {
    if (pairs_.empty()) return {0, std::numeric_limits<std::int64_t>::max()};
    const Pair& pair = pairs_[key(from, to)];
    const auto part =
        static_cast<double>(pair.all) / static_cast<double>(buckets_);
    const auto bucket = std::min(
        static_cast<std::int64_t>(static_cast<double>(pair.done) / part),
        buckets_ - 1);
    const auto end =
        static_cast<std::int64_t>(static_cast<double>(bucket + 1) * part);
    return {static_cast<std::size_t>(bucket), end - pair.done};
  }
  void advance(DeviceId from, DeviceId to, std::int64_t bytes) {
    if (!pairs_.empty()) pairs_[key(from, to)].done += bytes;
  }

 private:
  struct Pair {
    std::int64_t all = 0;
    std::int64_t done = 0;
  };
  static std::uint64_t key(DeviceId from, DeviceId to) {
    return (static_cast<std::uint64_t>(from.v) << 32) |
           static_cast<std::uint32_t>(to.v);
  }
  std::unordered_map<std::uint64_t, Pair> pairs_;
  std::int64_t buckets_ = 1;
};

/// The smallest bucket that a switch can do with: a row of a piece is never
/// divided, and there are at most kMostBuckets.
Result<void> check_limit(std::span<const TensorChange> changes,
                         const Gathered& gathered,
                         std::span<const Share> shares, std::size_t devices,
                         std::int64_t limit) {
  if (limit == 0) return {};
  std::int64_t row = 0;
  std::size_t widest = 0;
  std::vector<std::int64_t> load(devices, 0);
  for (const Share& share : shares) {
    const Demand& demand = gathered.demands.list[share.demand];
    const std::int64_t own = demand.bytes / demand.rows;
    load[share.from.at()] += own * (share.last - share.first);
    load[demand.to.at()] += own * (share.last - share.first);
    if (own <= row) continue;
    row = own;
    widest = static_cast<std::size_t>(gathered.tensor_of[share.demand]);
  }
  const std::int64_t part =
      ceil_div(*std::ranges::max_element(load), kMostBuckets);
  if (limit >= std::max(row, part)) return {};
  if (part > row) {
    return fail(Fault::infeasible,
                fmt::format("buckets of {} bytes: the busiest device packs and "
                            "receives {}, in at most {} buckets; the smallest "
                            "possible is {} bytes",
                            limit, human(Bytes{part * kMostBuckets}),
                            kMostBuckets, part));
  }
  return fail(Fault::infeasible,
              fmt::format("buckets of {} bytes: one row of a piece of {} is {} "
                          "bytes and is not divided; the smallest possible is "
                          "{} bytes",
                          limit, changes[widest].name, row, row));
}

/// The chosen shares as transfers in buckets.
void fill(const Gathered& gathered, std::span<const Share> shares,
          Filler& filler, Pace& pace, std::int64_t limit, SwitchPlan& plan) {
  plan.transfers.reserve(shares.size());
  for (const Share& share : shares) {
    const Demand& demand = gathered.demands.list[share.demand];
    const auto tensor =
        static_cast<std::size_t>(gathered.tensor_of[share.demand]);
    const std::int64_t row = demand.bytes / demand.rows;
    const std::int64_t most =
        limit > 0 ? limit / row : share.last - share.first;
    for (std::int64_t first = share.first; first < share.last;) {
      const auto [wanted, until] = pace.next(share.from, demand.to);
      const std::int64_t rows = std::clamp<std::int64_t>(until / row, 1, most);
      const std::int64_t last = std::min(first + rows, share.last);
      const std::int64_t bytes = row * (last - first);
      plan.transfers.push_back(
          {static_cast<std::int32_t>(tensor),
           demand.piece - gathered.first_piece[tensor], share.from, demand.to,
           filler.bucket_for(share.from, demand.to, bytes, wanted), first, last,
           bytes});
      pace.advance(share.from, demand.to, bytes);
      plan.moved.v += bytes;
      first = last;
    }
  }
}

/// Sorts transfers and prices every bucket.
void settle(SwitchPlan& plan, const Filler& filler, const Routes& routes) {
  std::ranges::sort(plan.transfers, [](const Transfer& a, const Transfer& b) {
    return std::tuple(a.bucket, a.from, a.to, a.tensor, a.piece, a.first) <
           std::tuple(b.bucket, b.from, b.to, b.tensor, b.piece, b.first);
  });
  std::size_t first = 0;
  while (first < plan.transfers.size()) {
    const std::int32_t number = plan.transfers[first].bucket;
    Demands demands;
    std::vector<Share> shares;
    std::size_t last = first;
    for (; last < plan.transfers.size(); ++last) {
      const Transfer& t = plan.transfers[last];
      if (t.bucket != number) break;
      const bool same = last > first &&
                        plan.transfers[last - 1].from == t.from &&
                        plan.transfers[last - 1].to == t.to;
      if (same) {
        demands.list.back().bytes += t.bytes;
        continue;
      }
      shares.push_back(
          {static_cast<std::uint32_t>(demands.list.size()), t.from, 0, 1});
      demands.list.push_back({t.to, 0, 0, 0, t.bytes, 1});
    }
    Bucket bucket{first, last, std::ssize(shares),
                  filler.peak(static_cast<std::size_t>(number)),
                  makespan_of(demands, shares, routes)};
    plan.peak = std::max(plan.peak, bucket.peak);
    plan.predicted += bucket.makespan.total() + kStart;
    plan.buckets.push_back(bucket);
    first = last;
  }
}

}  // namespace

Layout source_of(const TensorChange& change) {
  return change.held ? *change.held
                     : layout_of(change.source, change.shape, kSource);
}

std::vector<TensorChange> parameter_changes(const strategy::Layouts& from,
                                            strategy::Use from_use,
                                            const strategy::Layouts& to,
                                            strategy::Use to_use,
                                            const models::Model& model,
                                            kernels::DType dtype) {
  std::vector<TensorChange> out;
  for (const models::Parameter& parameter : models::parameter_list(model)) {
    out.push_back({parameter.name,
                   from.of(parameter, from_use),
                   to.of(parameter, to_use),
                   parameter.shape,
                   dtype,
                   {}});
  }
  return out;
}

std::vector<TensorChange> parameter_changes(const strategy::Layouts& from,
                                            const strategy::Layouts& to,
                                            const models::Model& model,
                                            strategy::Use use,
                                            kernels::DType dtype) {
  return parameter_changes(from, use, to, use, model, dtype);
}

Box SwitchPlan::box_of(const Transfer& transfer) const {
  const auto kind = static_cast<std::size_t>(
      class_of[static_cast<std::size_t>(transfer.tensor)]);
  const Box& piece =
      classes[kind].pieces[static_cast<std::size_t>(transfer.piece)];
  return rows_of(piece, transfer.first, transfer.last);
}

Result<SwitchPlan> plan_switch(std::span<const TensorChange> changes,
                               const Routes& routes,
                               const SwitchOptions& options) {
  if (options.bucket.v < 0) {
    return fail(Fault::input, "a bucket of less than 0 bytes");
  }
  SwitchPlan plan;
  TRY(const Gathered gathered, Gatherer(changes, routes).gather(plan));
  Senders senders = choose_senders(gathered.demands, options.senders, routes,
                                   options.compare);
  plan.senders = senders.chosen.rule;
  plan.makespan = senders.chosen.makespan;
  plan.by_rule = std::move(senders.by_rule);
  const std::size_t devices = routes.cluster().devices.size();
  TRY_DO(check_limit(changes, gathered, senders.chosen.shares, devices,
                     options.bucket.v));
  Filler filler(options.bucket.v, devices);
  Pace pace(gathered.demands, senders.chosen.shares, options.bucket.v, devices);
  fill(gathered, senders.chosen.shares, filler, pace, options.bucket.v, plan);
  settle(plan, filler, routes);
  return plan;
}

Result<Plan> plan_of(const SwitchPlan& plan,
                     std::span<const TensorChange> changes,
                     std::int32_t tensor) {
  const TensorChange& change = changes[static_cast<std::size_t>(tensor)];
  TRY(const auto problem,
      Problem::of(source_of(change),
                  layout_of(change.destination, change.shape, kDestination),
                  change.shape.size()));
  Plan out{
      change.source, change.destination, change.shape, change.dtype, {}, {}};
  Step step;
  step.operation = Operation::batched_send_receive;
  step.copies = kept(*problem);
  for (const Transfer& t : plan.transfers) {
    if (t.tensor != tensor) continue;
    step.messages.push_back(
        {t.from, t.to, kSource, kDestination, plan.box_of(t)});
  }
  out.steps.push_back(std::move(step));
  return out;
}

}  // namespace troupe::reshard
