// Changes of layout that are local or one collective: what the first-match
// table of HSPMD knows. Each function answers nothing when the change is of
// another form.
#pragma once

#include <optional>

#include "reshard/problem.h"

namespace troupe::reshard {

/// identity or slice: every device has what it needs.
std::optional<Step> local_step(const Problem& problem);

/// Device k of the source sends all it holds to device k of the destination.
///
/// Requires: both layouts list their devices in corresponding order.
std::optional<Step> send_receive_step(const Problem& problem);

/// All-gathers: who needs a region holds its parts, and each part has as many
/// owners among them as there are groups (fewer are used repeatedly).
/// split_all_gather when a group crosses subgroups.
std::optional<Step> gather_step(const Problem& problem);

/// All-reduces or reduce-scatters: group j of a region takes the j-th holder
/// of every summand; each who needs a sum is in a group.
std::optional<Step> reduce_step(const Problem& problem);

/// One all-to-all, when each element has one owner, all devices both have
/// and need, and are the same.
std::optional<Step> all_to_all_step(const Problem& problem);

/// The dimension along which the boxes of a group differ, when one.
std::optional<int> scattered_dimension(const Group& group, bool reads);

/// What the destination's devices hold already, as copies; zeros where a
/// destination summand has no terms.
std::vector<Copy> kept(const Problem& problem);

}  // namespace troupe::reshard
