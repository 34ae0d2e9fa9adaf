// Compressed coordinates: the cuts of all boxes of some layouts along each
// dimension make a grid of cells; within a cell every element has the same
// holders. All set reasoning of resolution happens on cells.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "reshard/layout.h"

namespace troupe::reshard {

inline constexpr std::size_t kMostDimensions = 8;
inline constexpr std::int64_t kMostCells = std::int64_t{1} << 22;

class Cells {
 public:
  /// The grid of all boxes in `layouts`, of tensors with `dimensions`.
  ///
  /// Errors: infeasible, over kMostCells cells.
  static Result<Cells> of(std::span<const Layout* const> layouts,
                          std::size_t dimensions);
  /// The grid of a list of boxes.
  static Result<Cells> of(std::span<const Box* const> boxes,
                          std::size_t dimensions);

  std::size_t size() const { return size_; }
  Box box(std::size_t cell) const;
  std::int64_t elements(std::size_t cell) const;

  /// Calls `visit(cell)` for each cell inside a box, row-major. A box whose
  /// edges are not cuts is rounded inwards.
  template <typename Visit>
  void inside(const Box& box, Visit visit) const {
    std::array<std::size_t, kMostDimensions> first{}, last{}, at{};
    for (std::size_t d = 0; d < cuts_.size(); ++d) {
      first[d] = index(d, box[d].first);
      last[d] = index(d, box[d].last);
      if (first[d] >= last[d]) return;
      at[d] = first[d];
    }
    const std::size_t dims = cuts_.size();
    for (;;) {
      std::size_t cell = 0;
      for (std::size_t d = 0; d < dims; ++d) cell += at[d] * stride_[d];
      visit(cell);
      std::size_t d = dims;
      while (d > 0 && ++at[d - 1] == last[d - 1]) {
        at[d - 1] = first[d - 1];
        --d;
      }
      if (d == 0) return;
    }
  }

 private:
  static Result<Cells> of_cuts(std::vector<std::vector<std::int64_t>> cuts);
  std::size_t index(std::size_t dimension, std::int64_t coordinate) const;

  std::vector<std::vector<std::int64_t>> cuts_;
  std::array<std::size_t, kMostDimensions> stride_{};
  std::size_t size_ = 0;
};

/// For each cell, positions in a layout of those that hold it, ascending.
class Holders {
 public:
  Holders(const Cells& cells, const Layout& layout);
  std::span<const std::int32_t> at(std::size_t cell) const {
    return {flat_.data() + offset_[cell], offset_[cell + 1] - offset_[cell]};
  }

 private:
  std::vector<std::uint32_t> offset_;
  std::vector<std::int32_t> flat_;
};

/// Elements with the same holders in the source and in the destination.
struct Region {
  std::vector<Box> boxes;              ///< merged
  std::span<const std::int32_t> have;  ///< positions in the source layout
  std::span<const std::int32_t> want;  ///< in the destination layout
};

/// Which of the holders make a region: all of the source, the destination, or
/// both.
enum class By : std::uint8_t { source, destination, both };

/// Cells grouped into regions, in the order of their first cells. `have` and
/// `want` are those of a region's first cell.
std::vector<Region> regions_of(const Cells& cells, const Holders& source,
                               const Holders& destination, By by);

}  // namespace troupe::reshard
