// The measured operators of one device kind, as curves along one size.
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "kernels/operator.h"
#include "profiles/curve.h"
#include "profiles/database.h"
#include "profiles/rows.h"

namespace troupe::profiles {

/// The shape without the size that varies within a family: rows of a product,
/// the length of an attention (both lengths of a square one), rows, elements.
kernels::OpShape family_of(kernels::OpShape op);
/// That size.
double along(const kernels::OpShape& op);

/// What the measurements say about an operator.
struct OperatorFound {
  double time = 0;
  double spread = 0;
  bool exact = false;
};

/// The measured end of a curve nearest to an operator that none covers.
struct OperatorAnchor {
  kernels::OpShape op;
  double time = 0;
};

/// Curves by operator family: all sizes equal but one (rows of a product,
/// length of a square attention, rows, elements).
class OperatorTable {
 public:
  OperatorTable() = default;
  /// The rows of the newest source first; each source has its own curves.
  explicit OperatorTable(const std::vector<Stored<OperatorRow>>& rows);

  std::optional<OperatorFound> find(const kernels::OpShape& op) const;
  std::optional<OperatorAnchor> anchor(const kernels::OpShape& op) const;

 private:
  const SourcedCurve* curve(const kernels::OpShape& family) const;

  std::vector<std::pair<kernels::OpShape, SourcedCurve>> families_;  ///< sorted
};

}  // namespace troupe::profiles
