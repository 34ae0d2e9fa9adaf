// What strategies there are for a cluster in its present condition, and what
// they take. Internal to this folder.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <set>

#include "runs/elastic_run.h"

namespace troupe::runs {

/// A strategy with what it takes in the present condition.
struct Considered {
  const Candidate* candidate = nullptr;
  const Keeping* keeping = nullptr;  ///< null while others are considered too
  StepPerformance performance;
  Time copying;       ///< to peers, after each step
  bool fits = false;  ///< in memory, with the copies of peers
  Time step() const { return performance.step + copying; }
  double rate() const {
    return static_cast<double>(performance.tokens) / to_seconds(step());
  }
};

/// Whether it uses one of the devices; a null candidate uses none.
bool uses(const Considered& considered, const std::set<DeviceId>& devices);
/// What an event is called in tables.
std::string title(const Event& event);

class Chooser {
 public:
  /// Both must outlive it.
  Chooser(const Trace& trace, Policy policy, const Machinery& machinery);

  /// Errors: of the machinery.
  Result<void> set_condition(const Condition& condition);
  const clusters::Cluster& cluster() const { return cluster_; }
  const std::vector<DeviceId>& usable() const { return usable_; }
  const reshard::Routes& routes() const { return *routes_; }
  const std::vector<models::Parameter>& parameters() const {
    return parameters_;
  }
  int peers() const { return peers_; }

  /// Whether every device of a candidate can be used.
  bool present(const Candidate& candidate) const;

  /// What the policy goes on with: `named` when it is not -1 and present,
  /// else by the trace's rule; nothing when no strategy fits. `begun_with` is
  /// what the run began with, or null.
  Result<std::optional<Considered>> choose(int named,
                                           const Candidate* begun_with);
  /// The same when the run need not change: nothing, too, when it would go on
  /// with what is `running` or, by the rule, with something no faster.
  Result<std::optional<Considered>> better(int named,
                                           const Candidate* begun_with,
                                           const Considered& running);
  /// Devices that cannot be used.
  std::set<DeviceId> missing() const;
  /// With what it keeps.
  Result<Considered> consider(const Candidate& candidate);

 private:
  struct Known {
    const Candidate* candidate;
    Condition condition;
    StepPerformance performance;
  };

  Result<std::optional<Considered>> best_of(
      const std::vector<const Candidate*>& list, bool first);
  void add_equal_pipelines(std::vector<const Candidate*>& list);
  /// The same strategy as one that is kept already, or kept from now on.
  const Candidate* keep(Candidate candidate);
  /// Without what it keeps, unless that is needed to know whether it fits.
  Result<Considered> look_at(const Candidate& candidate);
  const Keeping& keeping_of(const Candidate& candidate);
  Result<StepPerformance> performance_of(const Candidate& candidate);

  const Trace& trace_;
  Policy policy_;
  const Machinery& machinery_;
  int peers_ = 0;
  std::vector<models::Parameter> parameters_;
  Condition condition_;
  clusters::Cluster cluster_;
  reshard::Rates rates_;
  std::unique_ptr<reshard::Routes> routes_;
  std::vector<DeviceId> usable_;
  std::deque<Candidate> made_;
  std::map<const Candidate*, Keeping> keepings_;
  std::vector<Known> known_;
};

/// Why a run stops that found nothing.
std::string none_fits(const Chooser& chooser);

}  // namespace troupe::runs
