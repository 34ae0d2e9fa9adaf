// The first-match table of HSPMD: by how annotations relate, which operation
// changes one into the other. Where the table knows no answer, neither does
// this; `resolve` has ways that always work.
#pragma once

#include <optional>

#include "reshard/movement.h"

namespace troupe::reshard {

/// Everything that planning a change needs.
struct Change {
  const Annotation& source;
  const Annotation& destination;
  const Shape& shape;
  const Problem& whole;
  SenderRule senders = SenderRule::balanced;
  const Routes& routes;
  std::int64_t element_bytes = 1;
};

struct TableAnswer {
  std::vector<Step> steps;
  bool two_tiers = false;  ///< inside subgroups first, then across them
};

/// The table's operation, decided subgroup by subgroup where subgroups relate
/// alike on both sides.
///
/// Errors: infeasible when the layouts cut the tensor too finely.
Result<std::optional<TableAnswer>> by_table(const Change& change);

}  // namespace troupe::reshard
