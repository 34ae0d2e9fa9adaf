#include "sim/flows.h"

#include <algorithm>
#include <cmath>

namespace troupe::sim {

FlowTable::Expected FlowTable::expect(std::int32_t id, Time now) {
  Flow& f = flows_[static_cast<std::size_t>(id)];
  ++f.version;
  if (!f.shared) return {id, f.version, f.since + f.activity->work};
  const double left = f.left * static_cast<double>(f.activity->work.v);
  const Time more{static_cast<std::int64_t>(std::llround(left / f.rate))};
  return {id, f.version, now + more};
}

std::int32_t FlowTable::start(const Activity& activity, Time now,
                              std::vector<Expected>& changed) {
  std::int32_t id = 0;
  if (unused_.empty()) {
    id = static_cast<std::int32_t>(flows_.size());
    flows_.emplace_back();
  } else {
    id = unused_.back();
    unused_.pop_back();
  }
  Flow& f = flows_[static_cast<std::size_t>(id)];
  f = {&activity, 1.0, 1.0, now, f.version, f.mark, false};
  bool meets_others = false;
  for (const Share& s : activity.shares) {
    auto& list = on_link_[static_cast<std::size_t>(s.link)];
    meets_others = meets_others || !list.empty();
    list.push_back(id);
  }
  if (meets_others) {
    share_again({id}, now, changed);
    if (flows_[static_cast<std::size_t>(id)].rate < 1.0) return id;
  }
  changed.push_back(expect(id, now));
  return id;
}

void FlowTable::finish(std::int32_t flow, Time now,
                       std::vector<Expected>& changed) {
  Flow& f = flows_[static_cast<std::size_t>(flow)];
  std::vector<std::int32_t> neighbours;
  for (const Share& s : f.activity->shares) {
    auto& list = on_link_[static_cast<std::size_t>(s.link)];
    list.erase(std::find(list.begin(), list.end(), flow));
    for (const std::int32_t other : list) {
      if (flows_[static_cast<std::size_t>(other)].rate < 1.0) {
        neighbours.push_back(other);
      }
    }
  }
  ++f.version;
  unused_.push_back(flow);
  if (!neighbours.empty()) share_again(neighbours, now, changed);
}

std::vector<std::int32_t> FlowTable::component(
    const std::vector<std::int32_t>& seeds) {
  ++round_;
  std::vector<std::int32_t> out;
  const auto visit = [&](std::int32_t id) {
    Flow& f = flows_[static_cast<std::size_t>(id)];
    if (f.mark == round_) return;
    f.mark = round_;
    out.push_back(id);
  };
  for (const std::int32_t s : seeds) visit(s);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const Activity& a = *flows_[static_cast<std::size_t>(out[i])].activity;
    for (const Share& s : a.shares) {
      for (const std::int32_t other :
           on_link_[static_cast<std::size_t>(s.link)]) {
        visit(other);
      }
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

void FlowTable::share_again(const std::vector<std::int32_t>& seeds, Time now,
                            std::vector<Expected>& changed) {
  const std::vector<std::int32_t> ids = component(seeds);
  std::vector<std::vector<Share>> shares;
  std::vector<FlowDemand> demands;
  std::vector<std::int32_t> used;
  shares.reserve(ids.size());
  for (const std::int32_t id : ids) {
    const Activity& a = *flows_[static_cast<std::size_t>(id)].activity;
    auto& own = shares.emplace_back();
    for (const Share& s : a.shares) {
      auto& local = stamp_[static_cast<std::size_t>(s.link)];
      if (local == 0) {
        used.push_back(s.link);
        local = static_cast<std::int32_t>(used.size());
      }
      own.push_back({local - 1, s.of_capacity});
    }
    demands.push_back({own, a.peak_rate});
  }
  const auto fractions = max_min_fractions(demands, used.size());
  for (const std::int32_t link : used)
    stamp_[static_cast<std::size_t>(link)] = 0;
  constexpr double kSame = 1e-9;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    Flow& f = flows_[static_cast<std::size_t>(ids[i])];
    const double rate = fractions[i] > 1 - kSame ? 1.0 : fractions[i];
    if (std::abs(rate - f.rate) <= kSame * f.rate) continue;
    const double elapsed = static_cast<double>((now - f.since).v);
    const double work =
        static_cast<double>(std::max<std::int64_t>(f.activity->work.v, 1));
    f.left = std::max(0.0, f.left - f.rate * elapsed / work);
    f.since = now;
    f.rate = rate;
    if (!f.shared) ++slowed_;
    f.shared = true;
    changed.push_back(expect(ids[i], now));
  }
}

}  // namespace troupe::sim
