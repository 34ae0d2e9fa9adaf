// Activations (or their gradients) from one pipeline stage to the next, whose
// tensor- and context-parallel degrees may differ: three ways to do it, priced,
// and the cheapest.
#pragma once

#include <span>
#include <vector>

#include "reshard/resolve.h"

namespace troupe::reshard {

/// What one tensor-parallel group of a stage holds of a micro-batch's rows.
struct GroupRows {
  std::vector<DeviceId> devices;
  std::int64_t rows = 0;  ///< consecutive, after those of the group before
  /// Each device holds its own slice of them (sequence parallelism); else
  /// every device holds them all.
  bool sliced = false;
};

/// The layout of activations (rows, hidden) over a stage's groups, which
/// together hold every row. Slice i of r rows over n devices is
/// [r i / n, r (i + 1) / n), rounded down.
///
/// Requires: as `hand_over`'s errors say; groups without rows are left out.
Annotation activations_of(std::span<const GroupRows> groups);

/// All ways to hand over, and the cheapest. In order:
///
/// Model: "batched": every device gets what it lacks from its owners, all
///        messages posted together.
///        "leader": of each receiving group one device gets everything the
///        group needs, from one sender for each row, and broadcasts it inside
///        the group (where the group's devices need different rows, it sends
///        each its own).
///        "scatter": where n devices need the same rows each gets 1/n of
///        them, and they all-gather. Sliced receivers have nothing to
///        gather: then it is the same as batched.
///        Ties go to the earlier. Wave 1 starts when all of wave 0 is there.
/// Errors: input, for layouts that cannot be or hold summands, devices beyond
///         the cluster; infeasible as `resolve_all`.
[[nodiscard]] Result<Resolution> hand_over(const Annotation& from,
                                           const Annotation& to,
                                           const Shape& shape,
                                           kernels::DType dtype,
                                           const Routes& routes);

/// The same for groups of rows with `row` bytes each.
///
/// Errors: also input, when both sides hold unequal numbers of rows, for
///         rows below 0, groups without devices, and no rows at all.
[[nodiscard]] Result<Resolution> hand_over(std::span<const GroupRows> from,
                                           std::span<const GroupRows> to,
                                           std::int64_t hidden,
                                           kernels::DType dtype,
                                           const Routes& routes);

/// What a wave of a plan sends: one message for each pair of devices, and
/// all-gathers (a broadcast is one to which a single member brings data).
struct WaveTraffic {
  struct Sent {
    DeviceId from, to;
    Bytes bytes;
    bool operator==(const Sent&) const = default;
  };
  struct Gathered {
    std::vector<DeviceId> devices;
    Bytes bytes;  ///< of the whole that every member has at the end
    /// The member that brings everything; invalid when all bring a part.
    DeviceId root;
    bool operator==(const Gathered&) const = default;
  };
  std::vector<Sent> messages;
  std::vector<Gathered> gathers;
};

/// By wave; of plans that `hand_over` made.
std::vector<WaveTraffic> traffic_of(const Plan& plan);

}  // namespace troupe::reshard
