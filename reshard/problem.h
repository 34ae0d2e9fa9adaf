// One change of layout, prepared for every way of planning it.
#pragma once

#include <memory>
#include <vector>

#include "base/result.h"
#include "reshard/cells.h"
#include "reshard/plan.h"

namespace troupe::reshard {

/// Source and destination with their common grid. Move-only: regions look
/// into it.
class Problem {
 public:
  /// With `same_labels` summand i of the destination is summand i of the
  /// source.
  ///
  /// Errors: infeasible when the layouts cut the tensor too finely.
  static Result<std::unique_ptr<Problem>> of(Layout source, Layout destination,
                                             std::size_t dimensions,
                                             bool same_labels = false);
  Problem(const Problem&) = delete;
  Problem& operator=(const Problem&) = delete;

  const Layout& source() const { return source_; }
  const Layout& destination() const { return destination_; }
  const Cells& cells() const { return cells_; }
  const Holders& have() const { return have_; }
  const Holders& want() const { return want_; }

  /// Summands of the source that add up to summand `i` of the destination:
  /// none (zeros), one (moves) or several (a reduction). Every summand of the
  /// source belongs to exactly one of the destination. With equal counts each
  /// stays itself; else each goes where most of it lies already.
  const std::vector<int>& terms(int i) const;
  /// Whether some destination summand has several terms.
  bool reduces() const { return reduces_; }

  /// Position in the source of a holding of `device` with this cell or box
  /// inside and this summand; -1 when there is none.
  std::int32_t holder(DeviceId device, int summand,
                      std::span<const std::int32_t> have) const;

 private:
  Problem(Layout source, Layout destination, Cells cells, bool same_labels);
  void match_summands(bool same_labels);

  Layout source_, destination_;
  Cells cells_;
  Holders have_, want_;
  std::vector<std::vector<int>> terms_;
  bool reduces_ = false;
};

}  // namespace troupe::reshard
