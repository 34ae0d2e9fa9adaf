// Resolution: from one annotation to another, the cheapest plan on a cluster.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "reshard/plan.h"
#include "reshard/senders.h"

namespace troupe::reshard {

/// Which of the candidates is taken.
enum class Choice : std::uint8_t {
  /// The table's operation, unless another candidate that keeps the same
  /// tiers is predicted to be over kMargin faster; without one, the cheapest.
  automatic,
  cheapest,   ///< the least predicted time, whatever the table says
  reference,  ///< the table's; without one, the first that works
};
std::string_view name_of(Choice choice);

/// Prices are not more exact than that.
inline constexpr double kMargin = 0.10;

struct Options {
  Choice choice = Choice::automatic;
  SenderRule senders = SenderRule::balanced;
};

/// One way to do it.
struct Candidate {
  std::string name;  ///< its operations, or how it goes about it
  Plan plan;
  bool by_table = false;
  bool merges_tiers = false;  ///< where the table goes tier by tier
  std::string verdict;        ///< why it was or was not taken
};

/// All candidates in the order they were tried, and the one taken.
struct Resolution {
  std::vector<Candidate> candidates;
  std::size_t chosen = 0;
  const Plan& plan() const { return candidates[chosen].plan; }
};

/// Plans the change of one tensor. Sizes need not divide: parts differ by at
/// most one element, nothing is padded or cut off. Any pair of annotations
/// of the same tensor has a plan.
///
/// Errors: input, for annotations that cannot be (strategy::problems), shapes
///         of no or over 8 dimensions, devices beyond the cluster; infeasible
///         when the layouts cut the tensor into over kMostCells pieces.
[[nodiscard]] Result<Resolution> resolve_all(
    const Annotation& source, const Annotation& destination, const Shape& shape,
    kernels::DType dtype, const Routes& routes, const Options& options = {});

/// The chosen plan alone, at nominal bandwidths.
[[nodiscard]] Result<Plan> resolve(const Annotation& source,
                                   const Annotation& destination,
                                   const Shape& shape, kernels::DType dtype,
                                   const clusters::Cluster& cluster,
                                   const Options& options = {});

}  // namespace troupe::reshard
