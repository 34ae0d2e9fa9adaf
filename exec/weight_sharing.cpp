// Shards of weights on their way between ranks, inside the tasks of a step.
#include <fmt/format.h>

#include <algorithm>

#include "exec/weight_layout.h"
#include "exec/weights.h"

namespace troupe::exec {
namespace {

/// Names gradients between a pair of ranks; plans do not use this bit.
constexpr Tag kGift = Tag{1} << 35;

/// Adds the rows of `part` inside a packed array of `whole`.
void add_strips(const Box& whole, const Box& part, std::int64_t base,
                std::int64_t element, std::vector<Strip>& out) {
  const std::vector<std::int64_t> strides = packed_strides(whole);
  std::size_t inner = part.size() - 1;  // from here on a row is in one piece
  while (inner > 0 && part[inner] == whole[inner]) --inner;
  std::int64_t first = base;
  for (std::size_t d = 0; d < part.size(); ++d) {
    first += (part[d].first - whole[d].first) * strides[d] * element;
  }
  const std::int64_t row = part[inner].size() * strides[inner] * element;
  if (inner == 0) return out.push_back({first, row, row, 1});
  const std::size_t rows = inner - 1;
  std::int64_t outer = 1;
  for (std::size_t d = 0; d < rows; ++d) outer *= part[d].size();
  for (std::int64_t i = 0; i < outer; ++i) {
    std::int64_t rest = i;
    std::int64_t at = first;
    for (std::size_t d = rows; d-- > 0;) {
      at += rest % part[d].size() * strides[d] * element;
      rest /= part[d].size();
    }
    out.push_back({at, row, strides[rows] * element, part[rows].size()});
  }
}

Bytes size_of(const std::vector<Box>& boxes, kernels::DType dtype) {
  Bytes sum;
  for (const Box& box : boxes) sum += exec::size_of(box, dtype);
  return sum;
}

std::span<std::byte> bytes_of(const Buffer& buffer) {
  return {buffer.at({}), static_cast<std::size_t>(buffer.size().v)};
}

/// Whose gradients are added next, of ranks other than `self`: they advance
/// evenly, those that give more often in a step more often. -1 when all of
/// them are here.
int next_giver(const HeldWeight& held, reshard::DeviceId self) {
  const Arrivals& arrivals = held.arrivals;
  int best = -1;
  const auto before = [&](std::size_t a, std::size_t b) {
    const auto at = [&](std::size_t i) {
      return 2 * static_cast<std::int64_t>(arrivals.taken[i]) + 1;
    };
    return at(a) * arrivals.expected[b] < at(b) * arrivals.expected[a];
  };
  for (std::size_t i = 0; i < arrivals.expected.size(); ++i) {
    if (arrivals.taken[i] >= arrivals.expected[i]) continue;
    if (held.share->sharing.takes[i].device == self) continue;
    if (best < 0 || before(i, static_cast<std::size_t>(best))) {
      best = static_cast<int>(i);
    }
  }
  return best;
}

}  // namespace

void Weights::expect_arrivals() {
  for (HeldWeight& held : held_) {
    if (!held.weight->scattered) continue;
    const auto index =
        static_cast<std::size_t>(held.weight - program_.weights.data());
    for (const Peer& peer : held.share->sharing.takes) {
      const RankId rank = program_.rank_of.at(peer.device);
      held.arrivals.expected.push_back(program_.gifts_of(rank, index));
    }
    held.arrivals.taken.assign(held.arrivals.expected.size(), 0);
  }
}

Result<void> Weights::begin_sharing() {
  for (HeldWeight& held : held_) {
    if (!held.weight->scattered) continue;
    TRY_DO(device_.zero(held.sum.buffer.data(), held.sum.buffer.size()));
    std::ranges::fill(held.arrivals.taken, 0);
    TRY(held.arrivals.others, OwnedStorage::of(device_, held.share->optimizer,
                                               held.sum.storage.dtype));
  }
  return {};
}

std::vector<std::pair<Tag, std::span<const std::byte>>> Weights::shelf() const {
  std::vector<std::pair<Tag, std::span<const std::byte>>> out;
  for (const HeldWeight& held : held_) {
    if (!held.weight->gathered) continue;
    out.emplace_back(held.tag, bytes_of(held.copy.buffer));
  }
  return out;
}

Result<Buffer> Weights::gathered(const schedule::Tensor& tensor, int layer,
                                 Communicator& communicator) {
  TRY(Buffer buffer, Buffer::of(device_, schedule::size_of(tensor)));
  TRY(const std::vector<TensorPart> parts,
      lay_out(tensor, layer, buffer.at({})));
  for (const TensorPart& part : parts) {
    TRY_DO(read_shards(*part.held, part.storage, communicator));
  }
  return buffer;
}

Result<void> Weights::read_shards(const HeldWeight& held, const Storage& to,
                                  Communicator& communicator) {
  const std::int64_t element = kernels::size_of(to.dtype).v;
  for (const Peer& peer : held.share->sharing.reads) {
    std::vector<Strip> strips;
    std::vector<Box> boxes;
    std::int64_t base = 0;
    for (const Box& kept : held.weight->shares->at(peer.device).optimizer) {
      for (const Box& box : peer.boxes) {
        Box common = strategy::overlap(kept, box);
        if (strategy::elements(common) == 0) continue;
        add_strips(kept, common, base, element, strips);
        boxes.push_back(std::move(common));
      }
      base += exec::size_of(kept, to.dtype).v;
    }
    TRY(const Buffer packed, Buffer::of(device_, size_of(boxes, to.dtype)));
    TRY_DO(communicator.fetch(program_.rank_of.at(peer.device), held.tag,
                              strips, bytes_of(packed)));
    Bytes at;
    for (const Box& box : boxes) {
      TRY_DO(write(device_, to, box, packed.at(at), false));
      at += exec::size_of(box, to.dtype);
    }
  }
  return {};
}

Result<void> Weights::give(const schedule::Tensor& tensor, int layer,
                           std::byte* gradient, Communicator& communicator) {
  TRY(const std::vector<TensorPart> parts, lay_out(tensor, layer, gradient));
  for (const TensorPart& part : parts) {
    TRY_DO(send_gradients(*part.held, part.storage, communicator));
    TRY_DO(take(*part.held, false, communicator));
  }
  return {};
}

Result<void> Weights::add_boxes(const Peer& peer, const Buffer& packed,
                                const Storage& to) {
  Bytes at;
  for (const Box& box : peer.boxes) {
    TRY_DO(write(device_, to, box, packed.at(at), true));
    at += exec::size_of(box, to.dtype);
  }
  return {};
}

Result<void> Weights::send_gradients(HeldWeight& held, const Storage& gradient,
                                     Communicator& communicator) {
  for (const Peer& peer : held.share->sharing.gives) {
    TRY(const Buffer packed,
        Buffer::of(device_, size_of(peer.boxes, gradient.dtype)));
    Bytes at;
    for (const Box& box : peer.boxes) {
      TRY_DO(exec::read(device_, gradient, box, packed.at(at)));
      at += exec::size_of(box, gradient.dtype);
    }
    if (peer.device == device_id()) {
      TRY_DO(add_boxes(peer, packed, held.sum.storage));
      ++held.arrivals.taken[own_giver(held)];
      continue;
    }
    TRY_DO(communicator.send(program_.rank_of.at(peer.device), held.tag | kGift,
                             bytes_of(packed), {}));
  }
  return {};
}

/// Where this rank stands among those whose gradients it sums.
std::size_t Weights::own_giver(const HeldWeight& held) const {
  const auto& takes = held.share->sharing.takes;
  const auto it = std::ranges::find(takes, device_id(), &Peer::device);
  return static_cast<std::size_t>(it - takes.begin());
}

/// Adds what has come and is next; `waits`: until everything has.
Result<void> Weights::take(HeldWeight& held, bool waits,
                           Communicator& communicator) {
  for (int next = next_giver(held, device_id()); next >= 0;
       next = next_giver(held, device_id())) {
    const auto i = static_cast<std::size_t>(next);
    TRY(const bool here, take_one(held, i, waits, communicator));
    if (!here) return {};
    ++held.arrivals.taken[i];
  }
  return {};
}

/// False when it is not here and nobody waits for it.
Result<bool> Weights::take_one(HeldWeight& held, std::size_t giver, bool waits,
                               Communicator& communicator) {
  const Peer& peer = held.share->sharing.takes[giver];
  const Storage& to = held.arrivals.others.storage;
  const RankId from = program_.rank_of.at(peer.device);
  TRY(const Buffer packed, Buffer::of(device_, size_of(peer.boxes, to.dtype)));
  Time unused;
  if (waits) {
    TRY_DO(
        communicator.receive(from, held.tag | kGift, bytes_of(packed), unused));
  } else {
    TRY(const bool here, communicator.try_receive(from, held.tag | kGift,
                                                  bytes_of(packed), unused));
    if (!here) return false;
  }
  TRY_DO(add_boxes(peer, packed, to));
  return true;
}

Result<void> Weights::take_rest(HeldWeight& held, Communicator& communicator) {
  Arrivals& arrivals = held.arrivals;
  const std::size_t own = own_giver(held);
  if (own < arrivals.taken.size() &&
      arrivals.taken[own] != arrivals.expected[own]) {
    return fail(
        Fault::input,
        fmt::format("gradients of {}: this rank has given fewer than the "
                    "schedule says",
                    held.weight->placement.parameter.name));
  }
  TRY_DO(take(held, true, communicator));
  for (const Piece& piece : arrivals.others.storage.pieces) {
    TRY_DO(write(device_, held.sum.storage, piece.box, piece.data, true));
  }
  arrivals.others = {};
  return {};
}

}  // namespace troupe::exec
