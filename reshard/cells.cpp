#include "reshard/cells.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

namespace troupe::reshard {

Result<Cells> Cells::of_cuts(std::vector<std::vector<std::int64_t>> cuts) {
  Cells cells;
  std::int64_t size = 1;
  for (auto& list : cuts) {
    std::ranges::sort(list);
    list.erase(std::unique(list.begin(), list.end()), list.end());
    const auto here = std::max<std::int64_t>(std::ssize(list) - 1, 0);
    if (here > 0 && size > kMostCells / here) {
      return fail(Fault::infeasible,
                  fmt::format("the layouts cut the tensor into more than {} "
                              "pieces; expected fewer",
                              kMostCells));
    }
    size *= here;
  }
  cells.cuts_ = std::move(cuts);
  cells.size_ = static_cast<std::size_t>(size);
  std::size_t stride = 1;
  for (std::size_t d = cells.cuts_.size(); d-- > 0;) {
    cells.stride_[d] = stride;
    stride *= std::max<std::size_t>(cells.cuts_[d].size(), 2) - 1;
  }
  return cells;
}

Result<Cells> Cells::of(std::span<const Layout* const> layouts,
                        std::size_t dimensions) {
  std::vector<std::vector<std::int64_t>> cuts(dimensions);
  for (const Layout* layout : layouts) {
    for (const Held& held : *layout) {
      for (const Box& box : held.boxes) {
        for (std::size_t d = 0; d < dimensions; ++d) {
          cuts[d].push_back(box[d].first);
          cuts[d].push_back(box[d].last);
        }
      }
    }
  }
  return of_cuts(std::move(cuts));
}

Result<Cells> Cells::of(std::span<const Box* const> boxes,
                        std::size_t dimensions) {
  std::vector<std::vector<std::int64_t>> cuts(dimensions);
  for (const Box* box : boxes) {
    for (std::size_t d = 0; d < dimensions; ++d) {
      cuts[d].push_back((*box)[d].first);
      cuts[d].push_back((*box)[d].last);
    }
  }
  return of_cuts(std::move(cuts));
}

std::size_t Cells::index(std::size_t dimension, std::int64_t coordinate) const {
  const auto& list = cuts_[dimension];
  return static_cast<std::size_t>(
      std::lower_bound(list.begin(), list.end(), coordinate) - list.begin());
}

Box Cells::box(std::size_t cell) const {
  Box out(cuts_.size());
  for (std::size_t d = 0; d < cuts_.size(); ++d) {
    const std::size_t at = cell / stride_[d];
    cell %= stride_[d];
    out[d] = {cuts_[d][at], cuts_[d][at + 1]};
  }
  return out;
}

std::int64_t Cells::elements(std::size_t cell) const {
  std::int64_t product = 1;
  for (std::size_t d = 0; d < cuts_.size(); ++d) {
    const std::size_t at = cell / stride_[d];
    cell %= stride_[d];
    product *= cuts_[d][at + 1] - cuts_[d][at];
  }
  return product;
}

Holders::Holders(const Cells& cells, const Layout& layout)
    : offset_(cells.size() + 1, 0) {
  const auto each = [&](auto visit) {
    for (std::size_t i = 0; i < layout.size(); ++i) {
      for (const Box& box : layout[i].boxes) {
        cells.inside(box, [&](std::size_t cell) { visit(i, cell); });
      }
    }
  };
  each([&](std::size_t, std::size_t cell) { ++offset_[cell + 1]; });
  for (std::size_t c = 0; c < cells.size(); ++c) offset_[c + 1] += offset_[c];
  flat_.resize(offset_.back());
  std::vector<std::uint32_t> next(offset_.begin(), offset_.end() - 1);
  each([&](std::size_t i, std::size_t cell) {
    flat_[next[cell]++] = static_cast<std::int32_t>(i);
  });
}

namespace {

std::uint64_t mix(std::uint64_t hash, std::uint64_t value) {
  hash ^= value + 0x9e3779b97f4a7c15ULL + (hash << 6) + (hash >> 2);
  return hash * 0xff51afd7ed558ccdULL;
}

struct Signature {
  std::span<const std::int32_t> have, want;
  bool operator==(const Signature& o) const {
    return std::ranges::equal(have, o.have) && std::ranges::equal(want, o.want);
  }
};

struct HashSignature {
  std::size_t operator()(const Signature& s) const {
    std::uint64_t hash = s.have.size();
    for (const std::int32_t i : s.have) {
      hash = mix(hash, static_cast<std::uint64_t>(i));
    }
    hash = mix(hash, ~std::uint64_t{0});
    for (const std::int32_t i : s.want) {
      hash = mix(hash, static_cast<std::uint64_t>(i));
    }
    return static_cast<std::size_t>(hash);
  }
};

}  // namespace

std::vector<Region> regions_of(const Cells& cells, const Holders& source,
                               const Holders& destination, By by) {
  std::vector<Region> regions;
  std::unordered_map<Signature, std::size_t, HashSignature> known;
  known.reserve(cells.size());
  for (std::size_t cell = 0; cell < cells.size(); ++cell) {
    const Signature full{source.at(cell), destination.at(cell)};
    Signature key = full;
    if (by == By::source) key.want = {};
    if (by == By::destination) key.have = {};
    const auto [at, fresh] = known.try_emplace(key, regions.size());
    if (fresh) regions.push_back({{}, full.have, full.want});
    regions[at->second].boxes.push_back(cells.box(cell));
  }
  for (Region& region : regions) region.boxes = merged(std::move(region.boxes));
  return regions;
}

}  // namespace troupe::reshard
