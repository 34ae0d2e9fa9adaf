#include "exec/sharing.h"

#include <algorithm>

#include "reshard/cells.h"

namespace troupe::exec {
namespace {

using reshard::Cells;
using reshard::DeviceId;
using reshard::Holders;
using reshard::Layout;
using reshard::Region;
using Parts = std::map<DeviceId, Sharing>;
using Positions = std::span<const std::int32_t>;

/// `wanted` when it is one of the holders, else holder number `turn` of them.
DeviceId chosen(const Layout& layout, Positions holders, DeviceId wanted,
                std::size_t turn) {
  const auto device = [&](std::int32_t i) {
    return layout[static_cast<std::size_t>(i)].device;
  };
  if (std::ranges::find(holders, wanted, device) != holders.end()) {
    return wanted;
  }
  return device(holders[turn % holders.size()]);
}

void add(std::vector<Peer>& peers, DeviceId device,
         const std::vector<Box>& boxes) {
  const auto at = std::ranges::lower_bound(peers, device, {}, &Peer::device);
  Peer& peer = at != peers.end() && at->device == device
                   ? *at
                   : *peers.insert(at, {device, {}});
  peer.boxes.insert(peer.boxes.end(), boxes.begin(), boxes.end());
}

/// Calls `visit(region)` for what the same devices have and want.
template <typename Visit>
Result<void> each_region(const Layout& from, const Layout& to,
                         std::size_t dimensions, Visit visit) {
  const Layout* const both[] = {&from, &to};
  TRY(const Cells cells, Cells::of(both, dimensions));
  const Holders have(cells, from);
  const Holders want(cells, to);
  for (const Region& region :
       reshard::regions_of(cells, have, want, reshard::By::both)) {
    visit(region);
  }
  return {};
}

/// Positions of a region's holders by the summand that they hold.
std::map<int, std::vector<std::int32_t>> summands_of(const Layout& layout,
                                                     Positions have) {
  std::map<int, std::vector<std::int32_t>> out;
  for (const std::int32_t i : have) {
    out[layout[static_cast<std::size_t>(i)].summand].push_back(i);
  }
  return out;
}

}  // namespace

Result<Parts> plan_sharing(const schedule::Placement& placement) {
  const auto& shape = placement.parameter.shape;
  const Layout kept =
      reshard::layout_of(placement.optimizer, shape, reshard::kSource);
  const Layout used =
      reshard::layout_of(placement.compute, shape, reshard::kSource);
  const Layout made =
      reshard::layout_of(placement.gradient, shape, reshard::kSource);
  Parts out;
  TRY_DO(each_region(kept, used, shape.size(), [&](const Region& r) {
    for (std::size_t w = 0; w < r.want.size(); ++w) {
      const DeviceId reader = used[static_cast<std::size_t>(r.want[w])].device;
      add(out[reader].reads, chosen(kept, r.have, reader, w), r.boxes);
    }
  }));
  TRY_DO(each_region(made, kept, shape.size(), [&](const Region& r) {
    const auto summands = summands_of(made, r.have);
    for (std::size_t w = 0; w < r.want.size(); ++w) {
      const DeviceId owner = kept[static_cast<std::size_t>(r.want[w])].device;
      for (const auto& [summand, holders] : summands) {
        const DeviceId giver = chosen(made, holders, owner, w);
        add(out[giver].gives, owner, r.boxes);
        add(out[owner].takes, giver, r.boxes);
      }
    }
  }));
  return out;
}

}  // namespace troupe::exec
