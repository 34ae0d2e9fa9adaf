#include "runs/recovery_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/text.h"
#include "reshard/cells.h"
#include "reshard/verify.h"
#include "runs/elastic_account.h"

namespace troupe::runs {
namespace {

using reshard::Cells;
using reshard::Held;
using reshard::Holders;

/// Every element of `boxes` (of everything when it is null) given to one of
/// its holders in `wanted`; `turn` of `turns` says to which.
Result<Layout> readers(const Layout& wanted, const std::vector<Box>* boxes,
                       std::size_t dimensions, std::size_t turn,
                       std::size_t turns) {
  Layout part = wanted;
  if (boxes != nullptr) {
    for (Held& held : part) {
      held.boxes = reshard::overlaps(held.boxes, *boxes);
    }
  }
  const Layout* all[] = {&part};
  TRY(const Cells cells, Cells::of(all, dimensions));
  const Holders holders(cells, part);
  std::map<std::size_t, std::vector<Box>> mine;
  for (std::size_t c = 0; c < cells.size(); ++c) {
    const auto who = holders.at(c);
    if (who.empty()) continue;
    mine[static_cast<std::size_t>(who[turn * who.size() / turns])].push_back(
        cells.box(c));
  }
  Layout out;
  for (auto& [h, list] : mine) {
    out.push_back({part[h].device, reshard::kSource, 0, 0,
                   reshard::merged(std::move(list))});
  }
  return out;
}

std::int64_t elements_of(const Layout& layout) {
  std::int64_t sum = 0;
  for (const Held& held : layout) sum += reshard::elements(held.boxes);
  return sum;
}

/// The layouts from which tensors come, shared by tensors that are alike.
class Sources {
 public:
  Sources(const Keeping& before, const Survival& left, const Keeping& after,
          Reading reading)
      : before_(before), left_(left), after_(after), reading_(reading) {}

  struct Source {
    std::shared_ptr<const Layout> held;
    std::int64_t read = 0;  ///< elements, from the checkpoint
    std::shared_ptr<const Layout> readers = {};
  };

  /// Where kind `compute` or the optimizer's tensors of a parameter come from.
  Result<Source> of(std::size_t parameter, bool compute) {
    const std::size_t b = before_.class_of(parameter);
    const std::size_t a = after_.class_of(parameter);
    const auto& lost = (compute ? left_.compute_lost : left_.optimizer_lost)[b];
    const auto& survivors = (compute ? left_.compute : left_.optimizer)[b];
    const bool reads = reading_ == Reading::everything ||
                       (reading_ == Reading::what_is_lost && !lost.empty());
    if (!reads) return Source{survivors, 0};
    const std::size_t turns = after_.classes()[a].compute.groups.size();
    const std::size_t turn = parameter % std::max<std::size_t>(turns, 1);
    const auto [at, fresh] = known_.try_emplace({b, a, compute, turn});
    if (!fresh) return at->second;
    TRY(at->second, make(a, compute, lost, *survivors, turn, turns));
    return at->second;
  }

 private:
  using Key = std::tuple<std::size_t, std::size_t, bool, std::size_t>;

  Result<Source> make(std::size_t a, bool compute, const std::vector<Box>& lost,
                      const Layout& survivors, std::size_t turn,
                      std::size_t turns) {
    const Keeping::Class& next = after_.classes()[a];
    const std::size_t dimensions = next.shape.size();
    const bool all = reading_ == Reading::everything;
    // A checkpoint has master copies; compute copies are cast from them.
    const bool cast = compute && after_.narrow();
    TRY(Layout read,
        readers(compute && !cast ? next.compute_held : next.optimizer_held,
                all ? nullptr : &lost, dimensions, turn, turns));
    Source out;
    out.read = cast ? 0 : elements_of(read);
    static const Layout nobody;
    const Layout* both[] = {all ? &nobody : &survivors, &read};
    TRY(Layout held, union_of(both, dimensions));
    out.held = std::make_shared<const Layout>(std::move(held));
    out.readers = std::make_shared<const Layout>(std::move(read));
    return out;
  }

  const Keeping& before_;
  const Survival& left_;
  const Keeping& after_;
  Reading reading_;
  std::map<Key, Source> known_;
};

Result<void> add_changes(const Keeping& before, const Keeping& after,
                         const std::vector<models::Parameter>& parameters,
                         Sources& sources, Recovery& out) {
  for (std::size_t p = 0; p < parameters.size(); ++p) {
    for (std::size_t k = 0; k < kStateKinds; ++k) {
      const auto kind = static_cast<StateKind>(k);
      const std::int64_t bytes = after.element_bytes(kind);
      if (bytes == 0) continue;
      TRY(const auto source, sources.of(p, kind == StateKind::compute));
      out.read.v += source.read * bytes;
      out.readers.push_back(source.readers);
      out.changes.push_back({
          fmt::format("{} {}", parameters[p].name, name_of(kind)),
          before.annotation(p, kind),
          after.annotation(p, kind),
          parameters[p].shape,
          kind == StateKind::compute ? after.dtype() : kernels::DType::fp32,
          source.held,
      });
    }
  }
  return {};
}

Result<void> verify(Recovery& recovery, Bytes bucket) {
  TRY(const auto wrong,
      reshard::wrong_with(recovery.plan, recovery.changes, bucket));
  check(wrong.empty(), wrong.empty() ? "" : wrong.front());
  recovery.verified = std::ssize(recovery.changes);
  return {};
}

/// Bytes by device that stay where they are.
std::vector<std::int64_t> staying(const Keeping& before, const Keeping& after,
                                  std::size_t devices) {
  std::map<std::pair<std::size_t, std::size_t>, std::int64_t> pairs;
  for (std::size_t p = 0; p < before.parameters(); ++p) {
    ++pairs[{before.class_of(p), after.class_of(p)}];
  }
  std::vector<std::int64_t> out(devices, 0);
  const auto add = [&](const Layout& old, const Layout& fresh,
                       std::int64_t bytes) {
    std::map<DeviceId, const Held*> mine;
    for (const Held& held : old) mine[held.device] = &held;
    for (const Held& held : fresh) {
      const auto same = mine.find(held.device);
      if (same == mine.end()) continue;
      out[held.device.at()] += reshard::elements(reshard::overlaps(
                                   same->second->boxes, held.boxes)) *
                               bytes;
    }
  };
  for (const auto& [pair, count] : pairs) {
    const Keeping::Class& b = before.classes()[pair.first];
    const Keeping::Class& a = after.classes()[pair.second];
    add(b.compute_held, a.compute_held,
        count * before.element_bytes(StateKind::compute));
    add(b.optimizer_held, a.optimizer_held, count * before.optimizer_bytes());
  }
  return out;
}

void reckon_peak(const Keeping& before, const Keeping& after, bool keeps_old,
                 const clusters::Cluster& cluster, Recovery& out) {
  const auto old = before.bytes_by_device();
  const auto fresh = after.bytes_by_device();
  const auto stays = staying(before, after, old.size());
  std::vector<std::int64_t> packed(old.size(), 0);
  for (const reshard::Bucket& bucket : out.plan.buckets) {
    std::vector<std::int64_t> now(old.size(), 0);
    for (std::size_t t = bucket.first; t < bucket.last; ++t) {
      const reshard::Transfer& transfer = out.plan.transfers[t];
      now[transfer.from.at()] += transfer.bytes;
      now[transfer.to.at()] += transfer.bytes;
    }
    for (std::size_t d = 0; d < now.size(); ++d) {
      packed[d] = std::max(packed[d], now[d]);
    }
  }
  for (std::size_t d = 0; d < old.size(); ++d) {
    if (fresh[d] == 0 && packed[d] == 0) continue;  // gone, or not concerned
    const std::int64_t here =
        (keeps_old ? old[d] - stays[d] : 0) + fresh[d] + packed[d];
    const auto id = make_id<DeviceId>(d);
    if (here > out.peak.v) {
      out.peak.v = here;
      out.fullest = id;
    }
    if (here > cluster.kind_of(id).memory.v) out.out_of_memory = true;
  }
}

}  // namespace

Time copy_time(const Keeping& keeping, const reshard::Routes& routes) {
  reshard::Demands demands;
  std::vector<reshard::Share> shares;
  for (const Keeping::Update& u : keeping.updates()) {
    shares.push_back(
        {static_cast<std::uint32_t>(demands.list.size()), u.from, 0, 1});
    demands.list.push_back({u.to, 0, 0, 0, u.bytes, 1});
  }
  if (shares.empty()) return {};
  return reshard::makespan_of(demands, shares, routes).total() +
         reshard::kStart;
}

Error lost_state(const Survival& survival,
                 const std::vector<models::Parameter>& parameters,
                 std::string_view advice) {
  std::int64_t bytes = 0;
  for (const Fate& fate : survival.bytes) bytes += fate.lost;
  std::string first = survival.lost.empty()
                          ? std::string()
                          : to_string(survival.lost.front(), parameters);
  return {Fault::infeasible,
          fmt::format("{} in {} lost and there is no checkpoint; first: {}. A "
                      "compute copy cannot restore a master copy or a moment; "
                      "{}",
                      human(Bytes{bytes}),
                      counted(survival.lost_boxes, "piece"), first, advice)};
}

Result<Recovery> plan_recovery(const Keeping& before, const Survival& left,
                               const Keeping& after,
                               const std::vector<models::Parameter>& parameters,
                               const reshard::Routes& routes,
                               const RecoveryOptions& options) {
  if (!left.complete() && options.reading == Reading::nothing) {
    return fail(lost_state(left, parameters));
  }
  Recovery out;
  Sources sources(before, left, after, options.reading);
  TRY_DO(add_changes(before, after, parameters, sources, out));
  reshard::SwitchOptions how;
  how.bucket = options.bucket;
  how.compare = options.compare;
  TRY(out.plan, reshard::plan_switch(out.changes, routes, how));
  if (options.verify) TRY_DO(verify(out, options.bucket));
  if (out.read.v > 0 && options.checkpoint) {
    out.load = options.checkpoint->latency +
               bounded(out.read / options.checkpoint->read);
  }
  out.copying = bounded(copy_time(after, routes));
  out.plan.predicted = bounded(out.plan.predicted);
  for (const Keeping::Update& u : after.updates()) out.copied.v += u.bytes;
  reckon_peak(before, after, options.reading != Reading::everything,
              routes.cluster(), out);
  return out;
}

}  // namespace troupe::runs
