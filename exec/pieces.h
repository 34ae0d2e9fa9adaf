// Boxes of a tensor as they lie in a device's memory.
#pragma once

#include <span>
#include <vector>

#include "exec/device.h"
#include "reshard/layout.h"

namespace troupe::exec {

using reshard::Box;

/// A box, element by element at strides; `data` is its first element.
struct Piece {
  Box box;
  std::byte* data = nullptr;
  std::vector<std::int64_t> strides;  ///< elements, by dimension
};

/// What one device holds of a tensor. Its boxes do not overlap.
struct Storage {
  kernels::DType dtype = kernels::DType::fp32;
  std::vector<Piece> pieces;
};

/// Elements of all boxes together.
std::int64_t elements(const Storage& storage);

/// Strides of a packed row-major array with the box's extents.
std::vector<std::int64_t> packed_strides(const Box& box);
Bytes size_of(const Box& box, kernels::DType dtype);

/// Copies a box out of `storage` into a packed array, or the other way
/// (`add`: onto what is there).
///
/// Requires: the storage holds the whole box; read: `to` is zero or fully
///           overwritten.
/// Errors:   of the device; infeasible when the storage lacks a part.
Result<void> read(Device& device, const Storage& storage, const Box& box,
                  std::byte* to);
Result<void> write(Device& device, const Storage& storage, const Box& box,
                   const std::byte* from, bool add);

/// Memory of its own for boxes of a tensor, one after the other.
struct OwnedStorage {
  Buffer buffer;
  Storage storage;
  static Result<OwnedStorage> of(Device& device, std::span<const Box> boxes,
                                 kernels::DType dtype);
};

}  // namespace troupe::exec
