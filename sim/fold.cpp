#include "sim/fold.h"

#include <algorithm>
#include <bit>
#include <map>

namespace troupe::sim {

using schedule::Schedule;
using schedule::Task;
using schedule::TaskId;

namespace {

/// Tasks of each pipeline in task order; syncs belong to none.
std::vector<std::vector<TaskId>> tasks_of_pipelines(const Schedule& s) {
  std::vector<std::vector<TaskId>> out(static_cast<std::size_t>(s.pipelines));
  for (std::size_t t = 0; t < s.tasks.size(); ++t) {
    if (!s.tasks[t].stage) continue;
    const int p = s.stage(s.tasks[t].stage).pipeline;
    out[static_cast<std::size_t>(p)].push_back(make_id<TaskId>(t));
  }
  return out;
}

/// Pipelines whose hand-overs cross a link that another's cross too.
std::vector<char> share_links(const Schedule& s, const Activities& a) {
  std::map<std::int32_t, int> owner;
  std::vector<char> shares(static_cast<std::size_t>(s.pipelines), 0);
  for (std::size_t i = 0; i < s.transfers.size(); ++i) {
    const int p = s.stage(s.transfers[i].from).pipeline;
    for (const Share& share : a.transfers[i].shares) {
      const auto [it, fresh] = owner.try_emplace(share.link, p);
      if (it->second != p) {
        shares[static_cast<std::size_t>(p)] = 1;
        shares[static_cast<std::size_t>(it->second)] = 1;
      }
    }
  }
  return shares;
}

std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  a = (a ^ b) * 0x9e3779b97f4a7c15ULL;
  return (a ^ (a >> 29)) * 0xbf58476d1ce4e5b9ULL;
}

/// A number for each hand-over: equal when both take the same time over links
/// that correspond and that the syncs load alike. Then sharing with a sync
/// slows both equally, and the sync as much.
std::vector<std::uint64_t> hand_over_keys(const Activities& a) {
  std::map<std::int32_t, std::uint64_t> loads;
  for (std::size_t i = 0; i < a.syncs.size(); ++i) {
    for (const Share& share : a.syncs[i].shares) {
      std::uint64_t& load = loads[share.link];
      load = mix(mix(load, std::bit_cast<std::uint64_t>(share.of_capacity)),
                 i + 1);
    }
  }
  std::vector<std::uint64_t> out;
  out.reserve(a.transfers.size());
  for (const Activity& t : a.transfers) {
    std::uint64_t key = mix(static_cast<std::uint64_t>(t.work.v),
                            static_cast<std::uint64_t>(t.latency.v));
    for (const Share& share : t.shares) {
      const auto it = loads.find(share.link);
      key = mix(key, std::bit_cast<std::uint64_t>(share.of_capacity));
      key = mix(key, it == loads.end() ? 0 : it->second);
    }
    out.push_back(key);
  }
  return out;
}

class Folder {
 public:
  Folder(const Schedule& s, const PriceList& prices, const Activities& a)
      : s_(s),
        prices_(prices),
        a_(a),
        tasks_(tasks_of_pipelines(s)),
        hand_overs_(hand_over_keys(a)) {}

  std::vector<TaskId> run() {
    std::vector<TaskId> out(s_.tasks.size());
    for (std::size_t t = 0; t < out.size(); ++t) out[t] = make_id<TaskId>(t);
    const std::vector<char> shares = share_links(s_, a_);
    std::vector<std::size_t> leaders;
    for (std::size_t p = 0; p < tasks_.size(); ++p) {
      if (shares[p]) continue;
      const auto like =
          std::find_if(leaders.begin(), leaders.end(),
                       [&](std::size_t leader) { return equal(leader, p); });
      if (like == leaders.end()) {
        leaders.push_back(p);
        continue;
      }
      for (std::size_t i = 0; i < tasks_[p].size(); ++i) {
        out[tasks_[p][i].at()] = tasks_[*like][i];
      }
    }
    return out;
  }

 private:
  bool equal(std::size_t a, std::size_t b) const {
    if (tasks_[a].size() != tasks_[b].size()) return false;
    for (std::size_t i = 0; i < tasks_[a].size(); ++i) {
      if (!same(tasks_[a][i], tasks_[b][i])) return false;
    }
    return true;
  }

  bool same(TaskId a, TaskId b) const {
    const Task& x = s_.tasks[a.at()];
    const Task& y = s_.tasks[b.at()];
    if (x.kind != y.kind || x.chunk != y.chunk || x.backward != y.backward ||
        x.micro_batch != y.micro_batch ||
        s_.stage(x.stage).index != s_.stage(y.stage).index) {
      return false;
    }
    if (schedule::computes(x.kind)) {
      return &prices_.of(a) == &prices_.of(b);
    }
    return hand_overs_[static_cast<std::size_t>(x.what)] ==
           hand_overs_[static_cast<std::size_t>(y.what)];
  }

  const Schedule& s_;
  const PriceList& prices_;
  const Activities& a_;
  std::vector<std::vector<TaskId>> tasks_;
  std::vector<std::uint64_t> hand_overs_;
};

}  // namespace

std::vector<TaskId> fold(const Schedule& schedule, const PriceList& prices,
                         const Activities& activities) {
  return Folder(schedule, prices, activities).run();
}

}  // namespace troupe::sim
