// What the choice of senders is worth: every switch of HotSPa's
// configurations under each rule, on several shapes of cluster.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "reshard/senders.h"
#include "runs/hotspa.h"

namespace troupe::runs {

/// One rule over all switches of a shape, against ours.
struct RuleGain {
  std::string rule;      ///< or "best of six": for each switch
  Time total;            ///< of all switches
  double geometric = 1;  ///< mean of rule's time over ours
  double most = 1;       ///< largest of these
  int slower = 0;        ///< switches where ours is over 1 % shorter
};

struct ShapeGain {
  std::string shape;
  int switches = 0;  ///< that move anything
  Time ours;
  std::vector<RuleGain> rules;  ///< the six, then the best of them
};

/// The shapes: how `gpus` devices are arranged; a short form each.
struct ClusterShape {
  std::string name;
  std::string (*cluster)(int gpus);
};
/// As published; two nodes of which one has a single card for all its GPUs;
/// four nodes of three kinds with cards of 400, 200, 100 and 25 Gbit/s.
std::span<const ClusterShape> gain_shapes();

/// Reckons all switches (parameters and gradients apart) of every
/// configuration with more than one strategy on one shape, in one bucket, at
/// nominal bandwidths.
///
/// Errors: as `plan_switch`.
Result<ShapeGain> switch_gain(
    const std::vector<HotConfiguration>& configurations,
    const ClusterShape& shape);

}  // namespace troupe::runs
