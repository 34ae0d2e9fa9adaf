// How parameters lie inside the tensors of blocks. For this folder's sources.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "exec/pieces.h"
#include "models/parameters.h"

namespace troupe::exec {

/// "a+b" to {"a", "b"}.
std::vector<std::string> parts_of(std::string_view name);

/// Extents of a parameter on the rank of a group of `tp` that holds most.
std::vector<std::int64_t> local_shape(const models::Parameter& parameter,
                                      std::int64_t tp);

/// Initial values of a box, row-major.
std::vector<double> box_values(const models::Parameter& parameter,
                               const Box& box, std::uint64_t seed);

/// For each box of holding `self`: whether it is the first in `all` to hold
/// these numbers, so that every element is counted by one rank.
std::vector<bool> counted_boxes(const strategy::Annotation& annotation,
                                const std::vector<strategy::Holding>& all,
                                std::size_t self);

}  // namespace troupe::exec
