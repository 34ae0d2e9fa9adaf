#include "reshard/problem.h"

#include <algorithm>
#include <array>
#include <map>

namespace troupe::reshard {
namespace {

/// The summands that a layout has, ascending.
std::vector<int> summands_of(const Layout& layout) {
  std::vector<int> out;
  for (const Held& held : layout) out.push_back(held.summand);
  std::ranges::sort(out);
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

}  // namespace

Result<std::unique_ptr<Problem>> Problem::of(Layout source, Layout destination,
                                             std::size_t dimensions,
                                             bool same_labels) {
  const std::array<const Layout*, 2> both{&source, &destination};
  TRY(Cells cells, Cells::of(both, dimensions));
  return std::unique_ptr<Problem>(new Problem(std::move(source),
                                              std::move(destination),
                                              std::move(cells), same_labels));
}

Problem::Problem(Layout source, Layout destination, Cells cells,
                 bool same_labels)
    : source_(std::move(source)),
      destination_(std::move(destination)),
      cells_(std::move(cells)),
      have_(cells_, source_),
      want_(cells_, destination_) {
  match_summands(same_labels);
}

void Problem::match_summands(bool same_labels) {
  const std::vector<int> from = summands_of(source_);
  const std::vector<int> to = summands_of(destination_);
  terms_.resize(to.empty() ? 0 : static_cast<std::size_t>(to.back()) + 1);
  if (to.empty()) return;
  if (same_labels) {
    for (const int i : from) {
      if (i <= to.back()) terms_[static_cast<std::size_t>(i)] = {i};
    }
    return;
  }
  // Elements of each pair of summands that lie on the same device.
  std::map<std::pair<int, int>, std::int64_t> shared;
  if (from.size() != to.size() && to.size() > 1) {
    std::map<DeviceId, const Held*> wants;
    for (const Held& want : destination_) wants[want.device] = &want;
    for (const Held& held : source_) {
      const auto want = wants.find(held.device);
      if (want == wants.end()) continue;
      shared[{held.summand, want->second->summand}] +=
          elements(overlaps(held.boxes, want->second->boxes));
    }
  }
  for (std::size_t k = 0; k < from.size(); ++k) {
    int best =
        from.size() == to.size() ? to[k] : to[k * to.size() / from.size()];
    std::int64_t most = 0;
    for (const int i : to) {
      const auto found = shared.find({from[k], i});
      if (found == shared.end() || found->second <= most) continue;
      most = found->second;
      best = i;
    }
    terms_[static_cast<std::size_t>(best)].push_back(from[k]);
  }
  reduces_ =
      std::ranges::any_of(terms_, [](const auto& t) { return t.size() > 1; });
}

const std::vector<int>& Problem::terms(int i) const {
  return terms_[static_cast<std::size_t>(i)];
}

std::int32_t Problem::holder(DeviceId device, int summand,
                             std::span<const std::int32_t> have) const {
  for (const std::int32_t h : have) {
    const Held& held = source_[static_cast<std::size_t>(h)];
    if (held.device == device && held.summand == summand) return h;
  }
  return -1;
}

}  // namespace troupe::reshard
