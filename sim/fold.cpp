#include "sim/fold.h"

#include <algorithm>
#include <bit>
#include <map>

namespace troupe::sim {

using schedule::Schedule;
using schedule::Stage;
using schedule::Task;
using schedule::TaskId;
using schedule::TaskKind;

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

/// What the syncs ask of each link, as one number: links with equal numbers
/// are loaded alike.
std::map<std::int32_t, std::uint64_t> sync_loads(const Activities& a) {
  std::map<std::int32_t, std::uint64_t> out;
  for (std::size_t i = 0; i < a.syncs.size(); ++i) {
    for (const Share& share : a.syncs[i].shares) {
      std::uint64_t& number = out[share.link];
      number = (number ^ std::bit_cast<std::uint64_t>(share.of_capacity)) *
               0x9e3779b97f4a7c15ULL;
      number = (number ^ (number >> 29) ^ (i + 1)) * 0xbf58476d1ce4e5b9ULL;
    }
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
        sync_loads_(sync_loads(a)) {}

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
    const Activity& u = a_.transfers[static_cast<std::size_t>(x.what)];
    const Activity& v = a_.transfers[static_cast<std::size_t>(y.what)];
    return u.work == v.work && u.latency == v.latency && same_links(u, v);
  }

  /// The links of two hand-overs correspond, and the syncs load them alike:
  /// then sharing with a sync slows both equally, and the sync as much.
  bool same_links(const Activity& u, const Activity& v) const {
    const auto load = [&](const Share& share) {
      const auto it = sync_loads_.find(share.link);
      return it == sync_loads_.end() ? 0 : it->second;
    };
    return std::equal(u.shares.begin(), u.shares.end(), v.shares.begin(),
                      v.shares.end(), [&](const Share& x, const Share& y) {
                        return x.of_capacity == y.of_capacity &&
                               load(x) == load(y);
                      });
  }

  const Schedule& s_;
  const PriceList& prices_;
  const Activities& a_;
  std::vector<std::vector<TaskId>> tasks_;
  std::map<std::int32_t, std::uint64_t> sync_loads_;
};

}  // namespace

std::vector<TaskId> fold(const Schedule& schedule, const PriceList& prices,
                         const Activities& activities) {
  return Folder(schedule, prices, activities).run();
}

}  // namespace troupe::sim
