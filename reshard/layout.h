// A layout as resolution sees it: who holds which boxes as which summand, in
// which buffer. Made from an annotation, or by an earlier step of a plan.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "strategy/annotation.h"

namespace troupe::reshard {

using clusters::DeviceId;
using strategy::Annotation;
using strategy::Box;
using strategy::Span;
using Shape = std::vector<std::int64_t>;

/// Buffers of a device. The source holds what the source annotation says and
/// is never written; the destination is what the plan must fill; temporaries
/// are numbered from kFirstTemporary. kZeros is nothing but zeros.
inline constexpr int kZeros = -1;
inline constexpr int kSource = 0;
inline constexpr int kDestination = 1;
inline constexpr int kFirstTemporary = 2;

/// What one device holds, or shall hold, in one buffer.
struct Held {
  DeviceId device;
  int buffer = kSource;
  int summand = 0;
  int subgroup = 0;
  std::vector<Box> boxes;  ///< not overlapping
};
using Layout = std::vector<Held>;

/// What `holdings` says, all in `buffer`.
Layout layout_of(const Annotation& annotation, const Shape& shape, int buffer);
/// Those of one subgroup.
Layout subgroup_of(const Layout& layout, int subgroup);

/// Whether both hold the same boxes on the same devices as the same summands.
bool same_content(const Layout& a, const Layout& b);

/// The overlaps of two lists of boxes, without empty ones.
std::vector<Box> overlaps(std::span<const Box> a, std::span<const Box> b);
/// Neighbouring boxes as one where together they are a box.
std::vector<Box> merged(std::vector<Box> boxes);
std::int64_t elements(std::span<const Box> boxes);

/// Cuts a box in at most `parts` pieces along its longest dimension; fewer
/// when it has fewer elements along it. Sizes differ by at most one.
std::vector<Box> cut_in(const Box& box, std::int64_t parts);
/// The dimension that `cut_in` cuts: the longest, the first of equals.
std::size_t longest(const Box& box);

}  // namespace troupe::reshard
