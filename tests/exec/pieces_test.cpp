// Boxes in and out of strided storage, against element by element copies.
#include "exec/pieces.h"

#include <gmock/gmock.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <numeric>

#include "emu/cpu_device.h"

namespace troupe::exec {
namespace {

using strategy::Span;

Span random_span(Span within) {
  const auto first = *rc::gen::inRange(within.first, within.last);
  return {first, *rc::gen::inRange(first + 1, within.last + 1)};
}

Box random_box(const Box& within) {
  Box out;
  for (const Span& s : within) out.push_back(random_span(s));
  return out;
}

/// Cuts a box in two along random dimensions, again and again.
std::vector<Box> random_partition(const Box& whole) {
  std::vector<Box> boxes{whole};
  for (int cut = *rc::gen::inRange(0, 5); cut > 0; --cut) {
    const auto b = *rc::gen::inRange<std::size_t>(0, boxes.size());
    const auto d = *rc::gen::inRange<std::size_t>(0, whole.size());
    const Span s = boxes[b][d];
    if (s.size() < 2) continue;
    const auto at = *rc::gen::inRange(s.first + 1, s.last);
    boxes.push_back(boxes[b]);
    boxes[b][d].last = boxes.back()[d].first = at;
  }
  return boxes;
}

/// Calls `visit` with each element's place.
template <typename Visit>
void each_place(const Box& box, Visit visit) {
  std::vector<std::int64_t> at;
  for (const Span& s : box) at.push_back(s.first);
  for (std::int64_t n = strategy::elements(box); n > 0; --n) {
    visit(at);
    for (std::size_t d = box.size(); d-- > 0;) {
      if (++at[d] < box[d].last) break;
      at[d] = box[d].first;
    }
  }
}

std::int64_t offset(const std::vector<std::int64_t>& at, const Box& box,
                    const std::vector<std::int64_t>& strides) {
  std::int64_t out = 0;
  for (std::size_t d = 0; d < at.size(); ++d) {
    out += (at[d] - box[d].first) * strides[d];
  }
  return out;
}

/// A tensor in pieces: each in a memory of its own, dimensions in any order,
/// with gaps between rows. Elements are numbered through the whole tensor.
template <typename T>
struct Tensor {
  Box whole;
  std::vector<std::vector<T>> memory;
  Storage storage;

  T value(const std::vector<std::int64_t>& at) const {
    return static_cast<T>(1 + offset(at, whole, packed_strides(whole)));
  }
  T& stored(std::size_t piece, const std::vector<std::int64_t>& at) {
    const Piece& p = storage.pieces[piece];
    return memory[piece]
                 [static_cast<std::size_t>(offset(at, p.box, p.strides))];
  }

  void add_piece(const Box& box) {
    std::vector<std::size_t> order(box.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    for (std::size_t i = order.size(); i > 1; --i) {
      std::swap(order[i - 1], order[*rc::gen::inRange<std::size_t>(0, i)]);
    }
    Piece piece{box, nullptr, std::vector<std::int64_t>(box.size())};
    std::int64_t stride = *rc::gen::inRange(1, 3);
    for (const std::size_t d : order) {
      piece.strides[d] = stride;
      stride = stride * box[d].size() + *rc::gen::inRange(0, 3);
    }
    auto& data = memory.emplace_back(static_cast<std::size_t>(stride), T{-7});
    piece.data = reinterpret_cast<std::byte*>(data.data());
    storage.pieces.push_back(piece);
    each_place(box, [&](const auto& at) {
      stored(memory.size() - 1, at) = value(at);
    });
  }

  static Tensor random(kernels::DType dtype) {
    Tensor out;
    out.storage.dtype = dtype;
    const int dimensions = *rc::gen::inRange(1, 5);
    for (int d = 0; d < dimensions; ++d) {
      const std::int64_t first = *rc::gen::inRange(0, 4);
      out.whole.push_back({first, first + *rc::gen::inRange(1, 8)});
    }
    for (const Box& box : random_partition(out.whole)) out.add_piece(box);
    return out;
  }
};

template <typename T>
std::byte* raw(std::vector<T>& v) {
  return reinterpret_cast<std::byte*>(v.data());
}

template <typename T>
void check_read(kernels::DType dtype) {
  auto tensor = Tensor<T>::random(dtype);
  const Box box = random_box(tensor.whole);
  std::vector<T> want;
  each_place(box, [&](const auto& at) { want.push_back(tensor.value(at)); });
  std::vector<T> got(want.size(), T{-9});
  emu::CpuDevice device;
  RC_ASSERT(read(device, tensor.storage, box, raw(got)).has_value());
  RC_ASSERT(got == want);
}

template <typename T>
void check_write(kernels::DType dtype, bool add) {
  auto tensor = Tensor<T>::random(dtype);
  auto want = tensor;
  const Box box = random_box(tensor.whole);
  std::vector<T> packed;
  each_place(box, [&](const auto& at) {
    packed.push_back(10'000 + tensor.value(at));
    for (std::size_t p = 0; p < want.memory.size(); ++p) {
      const Box here = strategy::overlap(want.storage.pieces[p].box, box);
      bool inside = true;
      for (std::size_t d = 0; d < at.size(); ++d) {
        inside = inside && at[d] >= here[d].first && at[d] < here[d].last;
      }
      if (!inside) continue;
      T& stored = want.stored(p, at);
      stored = packed.back() + (add ? stored : T{0});
    }
  });
  emu::CpuDevice device;
  // Copies of a tensor point into the first one's memory.
  for (std::size_t p = 0; p < tensor.memory.size(); ++p) {
    tensor.storage.pieces[p].data = raw(tensor.memory[p]);
  }
  RC_ASSERT(write(device, tensor.storage, box, raw(packed), add).has_value());
  // Also what lies between the elements is as before.
  RC_ASSERT(tensor.memory == want.memory);
}

RC_GTEST_PROP(Pieces, AreReadElementByElement, ()) {
  check_read<double>(kernels::DType::fp64);
  check_read<float>(kernels::DType::fp32);
}

RC_GTEST_PROP(Pieces, AreWrittenElementByElement, ()) {
  check_write<double>(kernels::DType::fp64, false);
  check_write<float>(kernels::DType::fp32, false);
}

RC_GTEST_PROP(Pieces, AreAddedToElementByElement, ()) {
  check_write<double>(kernels::DType::fp64, true);
  check_write<float>(kernels::DType::fp32, true);
}

RC_GTEST_PROP(Pieces, DoNotAnswerForElementsThatTheyLack, ()) {
  auto tensor = Tensor<double>::random(kernels::DType::fp64);
  const auto gone =
      *rc::gen::inRange<std::size_t>(0, tensor.storage.pieces.size());
  const Box lost = tensor.storage.pieces[gone].box;
  auto& pieces = tensor.storage.pieces;
  pieces.erase(pieces.begin() + static_cast<std::ptrdiff_t>(gone));
  const Box box = random_box(tensor.whole);
  const bool lacks = strategy::elements(strategy::overlap(box, lost)) > 0;
  std::vector<double> data(static_cast<std::size_t>(strategy::elements(box)));
  emu::CpuDevice device;
  const auto got = read(device, tensor.storage, box, raw(data));
  RC_ASSERT(got.has_value() == !lacks);
  const auto put = write(device, tensor.storage, box, raw(data), false);
  RC_ASSERT(put.has_value() == !lacks);
  if (lacks) {
    RC_ASSERT(got.error().fault == Fault::infeasible);
    RC_ASSERT(got.error().message.find("does not hold") != std::string::npos);
  }
}

/// Boxes one after the other in one memory, each packed, all zero.
TEST(OwnedStorage, HoldsItsBoxesSideBySide) {
  emu::CpuDevice device;
  {
    const std::vector<Box> boxes{{{0, 2}, {0, 3}}, {{2, 5}, {1, 3}}};
    const auto owned = OwnedStorage::of(device, boxes, kernels::DType::fp32);
    ASSERT_TRUE(owned.has_value());
    EXPECT_EQ(owned->buffer.size(), Bytes{4 * (6 + 6)});
    EXPECT_EQ(device.held(), Bytes{48});
    ASSERT_EQ(owned->storage.pieces.size(), 2U);
    EXPECT_EQ(owned->storage.pieces[1].data, owned->buffer.at(Bytes{24}));
    EXPECT_THAT(owned->storage.pieces[1].strides, testing::ElementsAre(2, 1));
    std::vector<float> all(6, 1.0F);
    ASSERT_TRUE(read(device, owned->storage, boxes[1], raw(all)).has_value());
    EXPECT_THAT(all, testing::Each(0.0F));
  }
  EXPECT_EQ(device.held(), Bytes{0});
}

}  // namespace
}  // namespace troupe::exec
