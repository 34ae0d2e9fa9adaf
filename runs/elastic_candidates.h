// Strategies that nobody wrote: what is left of one without its broken
// pipelines, and the equal-pipeline strategies of so many devices.
#pragma once

#include <optional>
#include <vector>

#include "runs/elastic_trace.h"

namespace troupe::runs {

/// `whole` without the pipelines that use a device outside of `usable`
/// (ascending); nothing when none is left.
///
/// Model: the pipelines that stay share the micro-batches of the others in
///        proportion to their own, so that a step trains as many tokens;
///        where micro-batches differ in size or length, they keep their own.
std::optional<Candidate> without_broken(const Candidate& whole,
                                        const std::vector<DeviceId>& usable);

/// Every way of equal pipelines dp x tp x pp on the usable devices, as a
/// system without unequal pipelines has it.
///
/// Model: tp is 1, 2, 4 or 8 devices of one node; dp is the largest that the
///        devices give and that divides the step's sequences; layers are
///        split evenly; devices are taken in order. The rest (sequence
///        length, micro-batch size, ZeRO, types, recomputation) is `like`'s.
///        Only grids of at least three quarters of the devices of the largest
///        are listed. Empty when `like` has sequences of several lengths.
std::vector<Candidate> equal_pipelines(const Candidate& like,
                                       const models::Model& model,
                                       const clusters::Cluster& cluster,
                                       const std::vector<DeviceId>& usable);

}  // namespace troupe::runs
