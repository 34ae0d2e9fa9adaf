// The measured operators of one device kind, as curves along one size.
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "kernels/operator.h"
#include "profiles/curve.h"
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

/// The end of a curve that an operator lies beyond.
struct OperatorAnchor {
  kernels::OpShape op;
  double time = 0;
};

/// Curves by operator family: all sizes equal but one (rows of a product,
/// length of a square attention, rows, elements).
class OperatorTable {
 public:
  OperatorTable() = default;
  /// Where a shape occurs twice, the first row counts.
  explicit OperatorTable(const std::vector<OperatorRow>& rows);

  std::optional<OperatorFound> find(const kernels::OpShape& op) const;
  std::optional<OperatorAnchor> anchor(const kernels::OpShape& op) const;

 private:
  const Curve* curve(const kernels::OpShape& family) const;

  std::vector<std::pair<kernels::OpShape, Curve>> families_;  ///< sorted
};

}  // namespace troupe::profiles
