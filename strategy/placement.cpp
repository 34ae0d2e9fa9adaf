#include "strategy/placement.h"

#include <algorithm>
#include <numeric>

namespace troupe::strategy {

NodeFiller::NodeFiller(const clusters::Cluster& cluster)
    : cluster_(&cluster), used_(cluster.nodes.size(), 0) {}

std::vector<DeviceId> NodeFiller::take(std::size_t node, int size) {
  const auto& devices = cluster_->nodes[node].devices;
  const auto first = devices.begin() + used_[node];
  used_[node] += size;
  return {first, first + size};
}

std::optional<std::vector<DeviceId>> NodeFiller::take_nodes(int size) {
  std::vector<std::size_t> nodes;
  int sum = 0;
  for (std::size_t n = 0; n < used_.size() && sum < size; ++n) {
    if (used_[n] > 0) continue;
    nodes.push_back(n);
    sum += static_cast<int>(cluster_->nodes[n].devices.size());
  }
  if (sum < size) return {};
  std::vector<DeviceId> out;
  for (const std::size_t n : nodes) {
    const int left = size - static_cast<int>(out.size());
    const int held = static_cast<int>(cluster_->nodes[n].devices.size());
    const auto part = take(n, std::min(left, held));
    out.insert(out.end(), part.begin(), part.end());
  }
  return out;
}

std::optional<std::vector<DeviceId>> NodeFiller::place_group(int size) {
  for (std::size_t n = 0; n < used_.size(); ++n) {
    const int held = static_cast<int>(cluster_->nodes[n].devices.size());
    if (held - used_[n] >= size) return take(n, size);
  }
  return take_nodes(size);
}

std::optional<std::vector<std::vector<DeviceId>>> NodeFiller::place_pipeline(
    int stages, int size) {
  const std::vector<int> before = used_;
  std::vector<std::vector<DeviceId>> out;
  const auto wanted = static_cast<std::size_t>(stages);
  std::vector<std::size_t> order(used_.size());
  while (out.size() < wanted) {
    const std::size_t had = out.size();
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(
        order.begin(), order.end(),
        [&](std::size_t a, std::size_t b) { return used_[a] > used_[b]; });
    for (const std::size_t n : order) {
      const int held = static_cast<int>(cluster_->nodes[n].devices.size());
      if (out.size() < wanted && held - used_[n] >= size) {
        out.push_back(take(n, size));
      }
    }
    if (out.size() > had) continue;
    auto nodes = take_nodes(size);
    if (!nodes) {
      used_ = before;
      return {};
    }
    out.push_back(*std::move(nodes));
  }
  return out;
}

}  // namespace troupe::strategy
