#include "exec/pieces.h"

#include <array>

namespace troupe::exec {
namespace {

std::int64_t offset_in(const Box& whole, std::span<const std::int64_t> strides,
                       const Box& part) {
  std::int64_t offset = 0;
  for (std::size_t d = 0; d < part.size(); ++d) {
    offset += (part[d].first - whole[d].first) * strides[d];
  }
  return offset;
}

/// One copy between a piece and a packed array of `box`.
struct Sides {
  std::byte* piece;
  std::byte* packed;
  kernels::CopyBlock call;  ///< strides as from the piece
};

Sides sides_of(const Storage& storage, const Piece& piece, const Box& box,
               const Box& common, std::byte* packed) {
  const std::vector<std::int64_t> strides = packed_strides(box);
  const Bytes element = kernels::size_of(storage.dtype);
  Sides s{
      piece.data + (element * offset_in(piece.box, piece.strides, common)).v,
      packed + (element * offset_in(box, strides, common)).v,
      {}};
  s.call.dtype = storage.dtype;
  const std::size_t lead = 4 - common.size();
  for (std::size_t d = 0; d < common.size(); ++d) {
    s.call.size[lead + d] = common[d].size();
    s.call.from_stride[lead + d] = piece.strides[d];
    s.call.to_stride[lead + d] = strides[d];
  }
  return s;
}

template <typename Perform>
Result<void> each_overlap(const Storage& storage, const Box& box,
                          std::byte* packed, Perform perform) {
  std::int64_t found = 0;
  for (const Piece& piece : storage.pieces) {
    const Box common = strategy::overlap(piece.box, box);
    const std::int64_t count = strategy::elements(common);
    if (count == 0) continue;
    found += count;
    TRY_DO(perform(sides_of(storage, piece, box, common, packed)));
  }
  if (found != strategy::elements(box)) {
    return fail(Fault::infeasible,
                "a plan asks a device for elements that it does not hold");
  }
  return {};
}

}  // namespace

std::int64_t elements(const Storage& storage) {
  std::int64_t sum = 0;
  for (const Piece& piece : storage.pieces) {
    sum += strategy::elements(piece.box);
  }
  return sum;
}

std::vector<std::int64_t> packed_strides(const Box& box) {
  std::vector<std::int64_t> strides(box.size(), 1);
  for (std::size_t d = box.size(); d-- > 1;) {
    strides[d - 1] = strides[d] * box[d].size();
  }
  return strides;
}

Bytes size_of(const Box& box, kernels::DType dtype) {
  return kernels::size_of(dtype) * strategy::elements(box);
}

Result<void> read(Device& device, const Storage& storage, const Box& box,
                  std::byte* to) {
  return each_overlap(storage, box, to, [&](Sides s) {
    s.call.in = s.piece;
    s.call.out = s.packed;
    return device.run(s.call);
  });
}

Result<void> write(Device& device, const Storage& storage, const Box& box,
                   const std::byte* from, bool add) {
  return each_overlap(storage, box, const_cast<std::byte*>(from), [&](Sides s) {
    std::swap(s.call.from_stride, s.call.to_stride);
    s.call.in = s.packed;
    s.call.out = s.piece;
    s.call.accumulate = add;
    return device.run(s.call);
  });
}

Result<OwnedStorage> OwnedStorage::of(Device& device,
                                      std::span<const Box> boxes,
                                      kernels::DType dtype) {
  Bytes size;
  for (const Box& box : boxes) size += size_of(box, dtype);
  OwnedStorage out;
  TRY(out.buffer, Buffer::of(device, size));
  out.storage.dtype = dtype;
  Bytes at;
  for (const Box& box : boxes) {
    out.storage.pieces.push_back({box, out.buffer.at(at), packed_strides(box)});
    at += size_of(box, dtype);
  }
  return out;
}

}  // namespace troupe::exec
