#include "runs/switch_gain.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "base/progress.h"
#include "clusters/read.h"
#include "models/read.h"

namespace troupe::runs {
namespace {

using reshard::Makespan;
using reshard::SenderRule;

constexpr int kSix = reshard::kSenderRules - 1;

std::string published(int gpus) {
  return fmt::format("{} x a800-sxm-80 per node, 200 Gbit/s per GPU, {} nodes",
                     std::min(gpus, 8), std::max(gpus / 8, 1));
}
std::string two_nodes(int gpus) {
  return fmt::format(
      "{0} x a800-sxm-80 per node, 200 Gbit/s per GPU, 1 nodes + {0} x "
      "a800-sxm-80 per node, 1 x 100 Gbit/s per node, 1 nodes",
      gpus / 2);
}
std::string four_nodes(int gpus) {
  return fmt::format(
      "{0} x h100-sxm per node, 400 Gbit/s per GPU, 1 nodes + {0} x "
      "a800-sxm-80 per node, 200 Gbit/s per GPU, 1 nodes + {0} x a800-sxm-80 "
      "per node, 1 x 100 Gbit/s per node, 1 nodes + {0} x a100-pcie-80 per "
      "node, 1 x 25 Gbit/s per node, 1 nodes",
      gpus / 4);
}

/// Times of all rules over switches.
class Tally {
 public:
  void add(const std::vector<Makespan>& by_rule) {
    const double ours = to_seconds(by_rule.back().total());
    if (!(ours > 0)) return;
    ++switches_;
    total_[kSix + 1] += by_rule.back().total();
    Time best = kForever;
    for (std::size_t r = 0; r < kSix; ++r) {
      const Time time = by_rule[r].total();
      best = std::min(best, time);
      count(r, time, ours);
    }
    count(kSix, best, ours);
  }

  ShapeGain gain(std::string shape) const {
    ShapeGain out{std::move(shape), switches_, total_[kSix + 1], {}};
    for (std::size_t r = 0; r <= kSix; ++r) {
      RuleGain rule = rules_[r];
      rule.rule = r == kSix ? "best of six"
                            : std::string(name_of(static_cast<SenderRule>(r)));
      rule.total = total_[r];
      rule.geometric = switches_ > 0 ? std::exp(logs_[r] / switches_) : 1.0;
      out.rules.push_back(std::move(rule));
    }
    return out;
  }

 private:
  void count(std::size_t r, Time time, double ours) {
    const double ratio = to_seconds(time) / ours;
    total_[r] += time;
    logs_[r] += std::log(ratio);
    rules_[r].most = std::max(rules_[r].most, ratio);
    if (ratio > 1.01) ++rules_[r].slower;
  }

  int switches_ = 0;
  std::array<Time, kSix + 2> total_{};
  std::array<double, kSix + 1> logs_{};
  std::array<RuleGain, kSix + 1> rules_{};
};

int gpus_of(const HotConfiguration& c) {
  int most = 0;
  for (const Grid& grid : c.strategies) {
    most = std::max(most, grid.dp * grid.tp * grid.pp);
  }
  return most;
}

/// A row in every bucket: all strategies run.
std::vector<BucketRows> a_row_each(const HotConfiguration& c) {
  std::vector<BucketRows> out;
  for (std::size_t b = 0; b + 1 < c.bounds.size(); ++b) {
    out.push_back({c.bounds[b + 1], c.bounds[b], 1, c.bounds[b], 1});
  }
  return out;
}

Result<void> add_switches(const HotConfiguration& c, const models::Model& model,
                          const clusters::Cluster& cluster, Tally& tally) {
  TRY(const strategy::Plan plan, hot_plan(c, a_row_each(c), model, cluster));
  std::vector<std::size_t> phases(plan.strategy.phases.size());
  for (std::size_t p = 0; p < phases.size(); ++p) phases[p] = p;
  reshard::SwitchSettings settings;
  settings.options.compare = true;
  TRY(const auto switches, reshard::phase_switches(plan, phases, settings));
  for (const reshard::PhaseSwitch& one : switches) {
    if (one.parameters) tally.add(one.parameters->plan.by_rule);
    if (one.gradients) tally.add(one.gradients->plan.by_rule);
  }
  return {};
}

}  // namespace

std::span<const ClusterShape> gain_shapes() {
  static const std::array<ClusterShape, 3> shapes{
      ClusterShape{"as published, nodes of 8, 200 Gbit/s per GPU", published},
      ClusterShape{"two nodes, one with a single 100 Gbit/s card", two_nodes},
      ClusterShape{"four nodes, 400 and 200 Gbit/s per GPU, single 100 and 25",
                   four_nodes}};
  return shapes;
}

Result<ShapeGain> switch_gain(
    const std::vector<HotConfiguration>& configurations,
    const ClusterShape& shape) {
  Tally tally;
  std::map<int, clusters::Cluster> clusters;
  std::map<std::string, models::Model> models;
  for (const HotConfiguration& c : configurations) {
    if (interrupted()) return fail(Fault::interrupted, "interrupted");
    if (c.strategies.size() < 2) continue;
    const int gpus = gpus_of(c);
    if (!clusters.contains(gpus)) {
      TRY(clusters[gpus], clusters::read_cluster(shape.cluster(gpus)));
    }
    if (!models.contains(c.model)) {
      TRY(models[c.model], models::read_model(c.model));
    }
    TRY_DO(add_switches(c, models[c.model], clusters[gpus], tally));
  }
  return tally.gain(shape.name);
}

}  // namespace troupe::runs
