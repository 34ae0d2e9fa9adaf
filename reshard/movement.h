// Batched send-receive: every needed piece from one of its owners.
#pragma once

#include "reshard/problem.h"
#include "reshard/senders.h"

namespace troupe::reshard {

/// Pieces that devices need from others. Piece k is boxes[k]; its rows are
/// those of `cut_in`.
struct Pieces {
  Demands demands;
  std::vector<Box> boxes;
  std::vector<std::int32_t> wants;  ///< by demand: the destination holding
};

/// One step: what devices have is copied, what they lack is sent.
///
/// Requires: !problem.reduces().
Step move_step(const Problem& problem, SenderRule rule, const Routes& routes,
               std::int64_t element_bytes);

/// The demands of a problem without reduction, appended to `pieces`.
void add_demands(const Problem& problem, std::int64_t element_bytes,
                 Pieces& pieces);

/// Rows [first, last) of a box along its longest dimension.
Box rows_of(const Box& box, std::int64_t first, std::int64_t last);

}  // namespace troupe::reshard
