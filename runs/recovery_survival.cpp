// What of every tensor is left, cell by cell.
#include <algorithm>
#include <map>

#include "reshard/cells.h"
#include "runs/recovery.h"

namespace troupe::runs {
namespace {

using reshard::Cells;
using reshard::Held;
using reshard::Holders;

/// Who may have an element, in order of preference.
struct Sources {
  const Layout& own;
  const Layout& copies;
  const Layout* masters = nullptr;        ///< of compute copies: may be cast
  const Layout* master_copies = nullptr;  ///< on peers
};

/// What became of one class of tensors.
struct ClassFate {
  Fate elements;
  std::vector<std::pair<Box, std::vector<DeviceId>>> lost;
  Layout left;
};

Layout without(const Layout& layout, const std::set<DeviceId>& gone) {
  Layout out;
  for (const Held& held : layout) {
    if (!gone.contains(held.device)) out.push_back(held);
  }
  return out;
}

/// Devices of a layout that hold a cell.
std::vector<DeviceId> devices_at(const Holders& holders, const Layout& layout,
                                 std::size_t cell) {
  std::vector<DeviceId> out;
  for (const std::int32_t h : holders.at(cell)) {
    out.push_back(layout[static_cast<std::size_t>(h)].device);
  }
  return out;
}

Result<ClassFate> fate_of(const Sources& from, std::size_t dimensions,
                          const std::set<DeviceId>& gone) {
  static const Layout nobody;
  const Layout own = without(from.own, gone);
  const Layout copies = without(from.copies, gone);
  const Layout masters = without(from.masters ? *from.masters : nobody, gone);
  const Layout peers =
      without(from.master_copies ? *from.master_copies : nobody, gone);
  const std::array<const Layout*, 5> all{&from.own, &own, &copies, &masters,
                                         &peers};
  TRY(const Cells cells, Cells::of(all, dimensions));
  const Holders before(cells, from.own);
  const Holders replica(cells, own);
  const Holders copied(cells, copies);
  const Holders cast(cells, masters);
  const Holders cast_copy(cells, peers);
  ClassFate out;
  std::map<std::vector<DeviceId>, std::vector<Box>> lost;
  for (std::size_t c = 0; c < cells.size(); ++c) {
    std::vector<DeviceId> owners = devices_at(before, from.own, c);
    const bool touched = std::ranges::any_of(
        owners, [&](DeviceId d) { return gone.contains(d); });
    if (!touched) continue;
    const std::int64_t n = cells.elements(c);
    if (!replica.at(c).empty()) {
      out.elements.replica += n;
    } else if (!copied.at(c).empty()) {
      out.elements.peer += n;
    } else if (!cast.at(c).empty() || !cast_copy.at(c).empty()) {
      out.elements.cast += n;
    } else {
      out.elements.lost += n;
      lost[std::move(owners)].push_back(cells.box(c));
    }
  }
  for (auto& [owners, boxes] : lost) {
    for (Box& box : reshard::merged(std::move(boxes))) {
      out.lost.emplace_back(std::move(box), owners);
    }
  }
  const std::array<const Layout*, 4> left{&own, &copies, &masters, &peers};
  TRY(out.left, union_of(left, dimensions));
  return out;
}

/// Elements of gradient summands whose holders are all gone.
std::int64_t lost_gradients(const Keeping::Class& one,
                            const std::set<DeviceId>& gone) {
  const Layout all =
      reshard::layout_of(one.gradient, one.shape, reshard::kSource);
  std::map<int, Layout> by_summand;
  for (const Held& held : all) by_summand[held.summand].push_back(held);
  std::int64_t lost = 0;
  for (const auto& [summand, layout] : by_summand) {
    const Layout left = without(layout, gone);
    if (left.size() == layout.size()) continue;
    const std::array<const Layout*, 1> both{&layout};
    const auto cells = Cells::of(both, one.shape.size());
    if (!cells) continue;
    const Holders before(*cells, layout);
    const Holders after(*cells, left);
    for (std::size_t c = 0; c < cells->size(); ++c) {
      if (!before.at(c).empty() && after.at(c).empty()) {
        lost += cells->elements(c);
      }
    }
  }
  return lost;
}

/// The fates of a class: of its compute copy and of the optimizer's tensors.
struct BothFates {
  ClassFate compute, optimizer;
  std::int64_t gradients = 0;
};

Result<BothFates> fates_of(const Keeping::Class& one, bool narrow,
                           const std::set<DeviceId>& gone) {
  BothFates out;
  const std::size_t dimensions = one.shape.size();
  const Sources compute{one.compute_held, one.compute_copies,
                        narrow ? &one.optimizer_held : nullptr,
                        narrow ? &one.copies : nullptr};
  TRY(out.compute, fate_of(compute, dimensions, gone));
  const Sources optimizer{one.optimizer_held, one.copies, nullptr, nullptr};
  TRY(out.optimizer, fate_of(optimizer, dimensions, gone));
  out.gradients = lost_gradients(one, gone);
  return out;
}

std::vector<Box> boxes_of(const ClassFate& fate) {
  std::vector<Box> out;
  for (const auto& [box, owners] : fate.lost) out.push_back(box);
  return out;
}

}  // namespace

Result<Survival> survival_of(const Keeping& keeping,
                             const std::set<DeviceId>& gone) {
  Survival out;
  std::vector<BothFates> fates;
  for (const Keeping::Class& one : keeping.classes()) {
    TRY(BothFates both, fates_of(one, keeping.narrow(), gone));
    out.compute_lost.push_back(boxes_of(both.compute));
    out.optimizer_lost.push_back(boxes_of(both.optimizer));
    out.compute.push_back(
        std::make_shared<const Layout>(std::move(both.compute.left)));
    out.optimizer.push_back(
        std::make_shared<const Layout>(std::move(both.optimizer.left)));
    fates.push_back(std::move(both));
  }
  for (std::size_t p = 0; p < keeping.parameters(); ++p) {
    const BothFates& both = fates[keeping.class_of(p)];
    const std::int64_t elements = keeping.of(p).elements();
    out.gradient_bytes_lost += both.gradients * keeping.gradient_bytes();
    for (std::size_t k = 0; k < kStateKinds; ++k) {
      const auto kind = static_cast<StateKind>(k);
      const std::int64_t bytes = keeping.element_bytes(kind);
      if (bytes == 0) continue;
      const ClassFate& fate =
          kind == StateKind::compute ? both.compute : both.optimizer;
      const Fate& f = fate.elements;
      out.total_bytes[k] += elements * bytes;
      out.bytes[k] +=
          {f.replica * bytes, f.peer * bytes, f.cast * bytes, f.lost * bytes};
      for (const auto& [box, owners] : fate.lost) {
        ++out.lost_boxes;
        if (std::ssize(out.lost) >= kMostLost) continue;
        out.lost.push_back({p, kind, box, owners});
      }
    }
  }
  return out;
}

}  // namespace troupe::runs
