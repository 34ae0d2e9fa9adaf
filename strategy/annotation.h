// How one tensor lies on devices: the input of resolution. A layout is said
// twice. `States` and `Annotation` are how people and files say it: split,
// duplicate, partial, order, and how subgroups relate. `Holding` is what it
// means: which device holds which elements, and as which summand. Everything
// that decides about layouts decides by holdings.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "clusters/cluster.h"

namespace troupe::strategy {

using clusters::DeviceId;

/// Keys of an order besides the dimensions 0, 1, 2, ...
inline constexpr int kDuplicate = -1;
inline constexpr int kPartial = -2;

/// How a tensor lies on an ordered group of n devices.
///
/// Model:    every dimension of `split` is cut into that many parts, each
///           part is held `duplicate` times, and what is held is one of
///           `partial` summands. The device at index i has the position that
///           `order` gives: its last key varies fastest over i.
/// Requires: the product of all counts is n.
struct States {
  std::vector<std::pair<int, int>> split =
      {};  ///< (dimension, parts), ascending
  int duplicate = 1;
  int partial = 1;
  /// Keys with a count over 1, slowest first; empty: ascending by key.
  std::vector<int> order = {};
  bool operator==(const States&) const = default;

  int parts(int dimension) const;  ///< 1 when it is not split
  int devices() const;             ///< the product of all counts
};

/// One subgroup of an annotation with its local layout.
struct Subgroup {
  std::vector<DeviceId> devices;  ///< in layout order
  States states;
  /// Its share of a dimension that subgroups split, relative to the others'.
  std::int64_t weight = 1;
  bool operator==(const Subgroup&) const = default;
};

/// How the subgroups relate to each other.
enum class Across : std::uint8_t {
  replicated,  ///< every subgroup holds the whole tensor (also a single one)
  partial,     ///< every subgroup holds a summand of it
  split,       ///< every subgroup holds a part along `dimension`
};

/// A layout over one or several subgroups of unequal size and layout
/// (distributed-states union, device-group union and heterogeneous
/// dimension of HSPMD).
struct Annotation {
  std::vector<Subgroup> groups;
  Across across = Across::replicated;
  int dimension = 0;  ///< for Across::split
  /// Across::split only. False: subgroup u owns the u-th part of the whole
  /// dimension, and its local layout cuts that. True: the dimension is first
  /// cut into blocks, their number the least common multiple of the local
  /// splits, and in each block subgroup u owns the u-th part (ZeRO over
  /// unequal replicas).
  bool interleaved = false;
  bool operator==(const Annotation&) const = default;
};

/// Elements [first, last) of a dimension.
struct Span {
  std::int64_t first = 0, last = 0;
  std::int64_t size() const { return last - first; }
  auto operator<=>(const Span&) const = default;
};
/// A block of a tensor, one span per dimension.
using Box = std::vector<Span>;
std::int64_t elements(const Box& box);
/// The common part; a dimension without one gets an empty span.
Box overlap(const Box& a, const Box& b);

/// What one device holds: `boxes` that do not overlap, all as summand number
/// `summand` of the tensor. Two devices with the same summand and the same
/// box hold the same numbers.
struct Holding {
  DeviceId device;
  std::vector<Box> boxes;  ///< ascending; empty ones are left out
  int summand = 0;
  bool operator==(const Holding&) const = default;
};

/// Part `index` of `parts` of n elements: [n index / parts, n (index+1) /
/// parts). Equal parts where it divides; else they differ by at most one.
Span part_of(std::int64_t n, std::int64_t index, std::int64_t parts);
/// The same for parts in proportion to weights.
Span part_of(std::int64_t n, std::size_t index,
             std::span<const std::int64_t> weights);

/// Number of summands that make up the tensor.
int summands(const Annotation& annotation);

/// What every device of the annotation holds of a tensor of this shape, in
/// the order of the subgroups and their devices.
///
/// Requires: `problems` finds none.
std::vector<Holding> holdings(const Annotation& annotation,
                              std::span<const std::int64_t> shape);

/// Limits within which no product of sizes, weights and counts overflows.
inline constexpr std::int64_t kMostExtent = std::int64_t{1} << 40;
inline constexpr std::int64_t kMostElements = std::int64_t{1} << 50;
inline constexpr std::int64_t kMostWeight = std::int64_t{1} << 20;
inline constexpr std::int64_t kMostBlocks = std::int64_t{1} << 16;

/// Why an annotation cannot be: counts that are not the group's size, a
/// dimension split twice or beyond the tensor, a device in two groups, keys
/// missing from an order, subgroups that partly reduce with unequal counts,
/// a shape or weights beyond the limits.
std::vector<std::string> problems(const Annotation& annotation,
                                  std::span<const std::int64_t> shape);

/// "replicated {[0-1]: split 0 by 2} {[2]: whole}", for messages.
std::string to_string(const Annotation& annotation);

}  // namespace troupe::strategy
