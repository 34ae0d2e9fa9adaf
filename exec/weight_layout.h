// How parameters lie inside the tensors of blocks. For this folder's sources.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "exec/pieces.h"
#include "models/parameters.h"
#include "schedule/schedule.h"

namespace troupe::exec {

/// What a tensor with this role is to a block, whole or for a while.
constexpr bool is_weight(schedule::Role role) {
  return role == schedule::Role::parameter || role == schedule::Role::gathered;
}
constexpr bool is_gradient(schedule::Role role) {
  return role == schedule::Role::gradient || role == schedule::Role::scattered;
}

/// "a+b" to {"a", "b"}.
std::vector<std::string> parts_of(std::string_view name);

/// Extents of a parameter on the rank of a group of `tp` that holds most.
std::vector<std::int64_t> local_shape(const models::Parameter& parameter,
                                      std::int64_t tp);

/// Calls `visit(index)` for every element of a box, row-major; `index` is the
/// element's in the whole tensor of that shape.
template <typename Visit>
void each_element(const Box& box, const std::vector<std::int64_t>& shape,
                  Visit visit) {
  std::vector<std::int64_t> at;
  for (const strategy::Span& s : box) at.push_back(s.first);
  const std::int64_t count = strategy::elements(box);
  for (std::int64_t i = 0; i < count; ++i) {
    std::int64_t index = 0;
    for (std::size_t d = 0; d < at.size(); ++d)
      index = index * shape[d] + at[d];
    visit(index);
    for (std::size_t d = at.size(); d-- > 0;) {
      if (++at[d] < box[d].last || d == 0) break;
      at[d] = box[d].first;
    }
  }
}

/// For each box of holding `self`: whether it is the first in `all` to hold
/// these numbers, so that every element is counted by one rank.
std::vector<bool> counted_boxes(const strategy::Annotation& annotation,
                                const std::vector<strategy::Holding>& all,
                                std::size_t self);

}  // namespace troupe::exec
