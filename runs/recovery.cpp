#include "runs/recovery.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "reshard/cells.h"

namespace troupe::runs {

using reshard::Cells;
using reshard::Held;
using reshard::Holders;

namespace {

/// Adds to every device's sum the bytes of what a layout gives it.
void add_bytes(const Layout& layout, std::int64_t element_bytes,
               std::vector<std::int64_t>& by_device) {
  for (const Held& held : layout) {
    by_device[held.device.at()] +=
        reshard::elements(held.boxes) * element_bytes;
  }
}

/// Where the copies of a device's share lie: on the next nodes in use, at its
/// own position there.
class Neighbours {
 public:
  Neighbours(std::span<const DeviceId> devices,
             const clusters::Cluster& cluster)
      : cluster_(cluster) {
    for (const DeviceId d : devices) {
      const auto node = cluster.devices[d.at()].node;
      if (nodes_.empty() || nodes_.back().first != node) {
        nodes_.push_back({node, {}});
      }
      nodes_.back().second.push_back(d);
    }
  }

  /// Devices for the copies of what `owners` hold, so that it is on `nodes`
  /// nodes, or on all in use when there are fewer.
  std::vector<DeviceId> of(std::span<const DeviceId> owners,
                           std::size_t nodes) const {
    std::set<clusters::NodeId> held;
    for (const DeviceId d : owners) held.insert(node_of(d));
    const auto first = std::ranges::find(
        nodes_, node_of(owners.front()),
        &std::pair<clusters::NodeId, std::vector<DeviceId>>::first);
    const auto start = static_cast<std::size_t>(first - nodes_.begin());
    const auto at = static_cast<std::size_t>(
        std::ranges::find(first->second, owners.front()) -
        first->second.begin());
    std::vector<DeviceId> out;
    for (std::size_t j = 1; j < nodes_.size(); ++j) {
      if (held.size() + out.size() >= nodes) break;
      const auto& [node, list] = nodes_[(start + j) % nodes_.size()];
      if (held.contains(node)) continue;
      out.push_back(list[at % list.size()]);
    }
    return out;
  }

 private:
  clusters::NodeId node_of(DeviceId d) const {
    return cluster_.devices[d.at()].node;
  }
  const clusters::Cluster& cluster_;
  std::vector<std::pair<clusters::NodeId, std::vector<DeviceId>>> nodes_;
};

/// Calls `visit(owners, box)` for each box whose elements have equal owners.
template <typename Visit>
void by_owners(const Layout& layout, const Cells& cells, Visit visit) {
  const Holders holders(cells, layout);
  std::map<std::vector<DeviceId>, std::vector<Box>> boxes;
  for (std::size_t c = 0; c < cells.size(); ++c) {
    std::vector<DeviceId> owners;
    for (const std::int32_t h : holders.at(c)) {
      owners.push_back(layout[static_cast<std::size_t>(h)].device);
    }
    if (!owners.empty()) boxes[owners].push_back(cells.box(c));
  }
  for (auto& [owners, list] : boxes) {
    for (const Box& box : reshard::merged(std::move(list))) visit(owners, box);
  }
}

Layout copies_of(const Layout& held, std::size_t dimensions,
                 const Neighbours& neighbours, int peers) {
  Layout out;
  const Layout* all[] = {&held};
  const auto cells = Cells::of(all, dimensions);
  if (!cells) return out;
  std::map<DeviceId, std::vector<Box>> boxes;
  by_owners(held, *cells, [&](const auto& owners, const Box& box) {
    for (const DeviceId d :
         neighbours.of(owners, static_cast<std::size_t>(peers) + 1)) {
      boxes[d].push_back(box);
    }
  });
  for (auto& [device, list] : boxes) {
    out.push_back({device, reshard::kSource, 0, 0, std::move(list)});
  }
  return out;
}

}  // namespace

std::string_view name_of(StateKind kind) {
  switch (kind) {
    case StateKind::compute:
      return "compute copy";
    case StateKind::master:
      return "master copy";
    case StateKind::first_moment:
      return "first moment";
    case StateKind::second_moment:
      return "second moment";
  }
  return "";
}

std::int64_t Keeping::Class::elements() const {
  std::int64_t out = 1;
  for (const std::int64_t n : shape) out *= n;
  return out;
}

Fate& Fate::operator+=(const Fate& more) {
  replica += more.replica;
  peer += more.peer;
  cast += more.cast;
  lost += more.lost;
  return *this;
}

Keeping::Keeping(const Candidate& candidate,
                 const std::vector<models::Parameter>& parameters,
                 const models::Model& model, const clusters::Cluster& cluster,
                 int peers)
    : devices_(candidate.devices),
      device_count_(cluster.devices.size()),
      dtype_(candidate.strategy.dtype),
      gradient_dtype_(candidate.strategy.gradient_dtype),
      narrow_(candidate.strategy.dtype != kernels::DType::fp32),
      peers_(peers) {
  const strategy::Layouts layouts(candidate.strategy, candidate.phase(), model);
  const bool sharded = candidate.strategy.zero == strategy::Zero::three;
  for (const models::Parameter& p : parameters) {
    Class one;
    one.shape = p.shape;
    one.optimizer = layouts.of(p, strategy::Use::optimizer);
    one.compute =
        sharded ? one.optimizer : layouts.of(p, strategy::Use::compute);
    one.gradient = layouts.of(p, strategy::Use::gradient);
    const auto same = std::ranges::find_if(classes_, [&](const Class& c) {
      return c.shape == one.shape && c.optimizer == one.optimizer &&
             c.compute == one.compute && c.gradient == one.gradient;
    });
    class_of_.push_back(static_cast<std::size_t>(same - classes_.begin()));
    if (same != classes_.end()) continue;
    one.compute_held =
        reshard::layout_of(one.compute, one.shape, reshard::kSource);
    one.optimizer_held =
        reshard::layout_of(one.optimizer, one.shape, reshard::kSource);
    if (peers_ > 0) add_copies(one, cluster);
    classes_.push_back(std::move(one));
  }
}

void Keeping::add_copies(Class& one, const clusters::Cluster& cluster) const {
  const Neighbours neighbours(devices_, cluster);
  one.copies =
      copies_of(one.optimizer_held, one.shape.size(), neighbours, peers_);
  if (narrow_) return;
  one.compute_copies =
      copies_of(one.compute_held, one.shape.size(), neighbours, peers_);
}

std::int64_t Keeping::element_bytes(StateKind kind) const {
  switch (kind) {
    case StateKind::compute:
      return kernels::size_of(dtype_).v;
    case StateKind::master:
      return narrow_ ? 4 : 0;
    case StateKind::first_moment:
    case StateKind::second_moment:
      return 4;
  }
  return 0;
}

const strategy::Annotation& Keeping::annotation(std::size_t parameter,
                                                StateKind kind) const {
  const Class& one = of(parameter);
  return kind == StateKind::compute ? one.compute : one.optimizer;
}

std::vector<std::int64_t> Keeping::copies_by_device() const {
  std::vector<std::int64_t> per_class_count(classes_.size(), 0);
  for (const std::size_t c : class_of_) ++per_class_count[c];
  std::vector<std::int64_t> out(device_count_, 0);
  for (std::size_t c = 0; c < classes_.size(); ++c) {
    const std::int64_t n = per_class_count[c];
    add_bytes(classes_[c].copies, n * optimizer_bytes(), out);
    add_bytes(classes_[c].compute_copies, n * element_bytes(StateKind::compute),
              out);
  }
  return out;
}

std::vector<std::int64_t> Keeping::bytes_by_device() const {
  std::vector<std::int64_t> out = copies_by_device();
  for (const std::size_t c : class_of_) {
    add_bytes(classes_[c].compute_held, element_bytes(StateKind::compute), out);
    add_bytes(classes_[c].optimizer_held, optimizer_bytes(), out);
  }
  return out;
}

namespace {

std::vector<Keeping::Copy> sent(const Layout& own, const Layout& copies) {
  std::vector<Keeping::Copy> out;
  for (const Held& copy : copies) {
    for (const Box& box : copy.boxes) {
      // The first owner of a box sends it.
      const std::int64_t n = strategy::elements(box);
      const auto owner = std::ranges::find_if(own, [&](const Held& held) {
        return reshard::elements(reshard::overlaps({&box, 1}, held.boxes)) == n;
      });
      check(owner != own.end(), "a copy has an owner");
      out.push_back({owner->device, copy.device, box});
    }
  }
  return out;
}

}  // namespace

std::vector<Keeping::Copy> Keeping::sends_of(const Class& one) {
  return sent(one.optimizer_held, one.copies);
}

std::vector<Keeping::Update> Keeping::updates() const {
  std::vector<std::int64_t> count(classes_.size(), 0);
  for (const std::size_t c : class_of_) ++count[c];
  std::map<std::pair<DeviceId, DeviceId>, std::int64_t> pairs;
  const auto add = [&](const std::vector<Copy>& copies, std::int64_t bytes) {
    for (const Copy& c : copies) {
      pairs[{c.from, c.to}] += strategy::elements(c.box) * bytes;
    }
  };
  for (std::size_t c = 0; c < classes_.size(); ++c) {
    const Class& one = classes_[c];
    add(sends_of(one), count[c] * optimizer_bytes());
    add(sent(one.compute_held, one.compute_copies),
        count[c] * element_bytes(StateKind::compute));
  }
  std::vector<Update> out;
  for (const auto& [pair, bytes] : pairs) {
    out.push_back({pair.first, pair.second, bytes});
  }
  return out;
}

Result<Layout> union_of(std::span<const Layout* const> layouts,
                        std::size_t dimensions) {
  TRY(const Cells cells, Cells::of(layouts, dimensions));
  std::vector<DeviceId> order;
  std::map<DeviceId, std::set<std::size_t>> mine;
  for (const Layout* layout : layouts) {
    for (const Held& held : *layout) {
      const auto [at, fresh] = mine.try_emplace(held.device);
      if (fresh) order.push_back(held.device);
      for (const Box& box : held.boxes) {
        cells.inside(box, [&](std::size_t c) { at->second.insert(c); });
      }
    }
  }
  Layout out;
  for (const DeviceId d : order) {
    std::vector<Box> boxes;
    for (const std::size_t c : mine[d]) boxes.push_back(cells.box(c));
    if (boxes.empty()) continue;
    out.push_back(
        {d, reshard::kSource, 0, 0, reshard::merged(std::move(boxes))});
  }
  return out;
}

std::string to_string(const LostBox& lost,
                      const std::vector<models::Parameter>& parameters) {
  std::vector<std::string> spans;
  for (const auto& s : lost.box) {
    spans.push_back(fmt::format("[{},{})", s.first, s.last));
  }
  std::vector<int> owners;
  for (const DeviceId d : lost.owners) owners.push_back(d.v);
  return fmt::format("{} {} {}: held only by device{} {}",
                     parameters[lost.parameter].name, name_of(lost.kind),
                     fmt::join(spans, "x"), owners.size() == 1 ? "" : "s",
                     fmt::join(owners, ", "));
}

}  // namespace troupe::runs
