// The exact checker of plans: it carries them out over symbols instead of
// numbers. Every element of every buffer is the list of source summands it
// is the sum of; elements that no box tells apart are one cell.
#pragma once

#include <string>
#include <vector>

#include "reshard/plan.h"
#include "reshard/switch.h"

namespace troupe::reshard {

/// What is wrong with a plan; empty when it is right.
///
/// A plan is right when: every read finds what was written before its wave;
/// no element of a temporary or of the destination is written twice; the
/// source and elements outside of the destination are not written; collectives
/// have the form of their operation; and at the end each device has every
/// element of its destination, as a sum over distinct source summands such
/// that equal destination summands are equal sums, and all destination
/// summands together contain every source summand exactly once.
///
/// Errors: infeasible when the boxes cut the tensor too finely to check.
[[nodiscard]] Result<std::vector<std::string>> wrong_with(const Plan& plan);
/// The same where the devices hold `source` instead of what the plan's source
/// annotation says.
[[nodiscard]] Result<std::vector<std::string>> wrong_with(const Plan& plan,
                                                          const Layout& source);

/// What is wrong with a switch, tensor by tensor: each must be right as a plan
/// of its own, no bucket may hold more on a device than it says or than
/// `limit` (0: any), and sizes must add up. At most twenty complaints.
///
/// Errors: as `plan_of` and `wrong_with`.
[[nodiscard]] Result<std::vector<std::string>> wrong_with(
    const SwitchPlan& plan, std::span<const TensorChange> changes,
    Bytes limit = {});

/// Elements that must cross between devices in any plan.
///
/// Model: of an element that only moves, one for each device that needs it
///        and does not hold it. Of a sum of t summands that n devices need:
///        (t - 1) + (n - 1), and one more when no needer holds a summand:
///        before anyone is complete t - 1 additions cross, and every further
///        needer is completed by a transfer of its own.
Result<std::int64_t> least_elements(const Plan& plan);

/// Moved elements over the least; 1 when neither moves anything.
struct BytesRatio {
  std::int64_t moved = 0;
  std::int64_t least = 0;
  double ratio = 1;
};
Result<BytesRatio> bytes_ratio(const Plan& plan);

}  // namespace troupe::reshard
