#include "kernels/cuda/copy_plan.h"

#include <algorithm>
#include <vector>

namespace troupe::kernels::cuda {
namespace {

// Slowest of the output first; joins a dimension with the next where both
// sides step through them as through one.
std::vector<CopyDimension> joined(const CopyBlock& call) {
  std::vector<CopyDimension> all;
  for (std::size_t i = 0; i < call.size.size(); ++i) {
    if (call.size[i] == 1) continue;
    all.push_back({call.size[i], call.from_stride[i], call.to_stride[i]});
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const CopyDimension& a, const CopyDimension& b) {
                     return a.to != b.to ? a.to > b.to : a.from > b.from;
                   });
  std::vector<CopyDimension> out;
  for (const CopyDimension& next : all) {
    if (!out.empty() && out.back().from == next.size * next.from &&
        out.back().to == next.size * next.to) {
      out.back() = {out.back().size * next.size, next.from, next.to};
    } else {
      out.push_back(next);
    }
  }
  return out;
}

}  // namespace

bool CopyPlan::aligned_to(std::int64_t width) const {
  if (inner.from != 1 || inner.to != 1 || inner.size % width != 0) {
    return false;
  }
  return std::all_of(outer.begin(), outer.end(), [&](const auto& d) {
    return d.size == 1 || (d.from % width == 0 && d.to % width == 0);
  });
}

CopyPlan plan_copy(const CopyBlock& call) {
  CopyPlan plan;
  if (std::any_of(call.size.begin(), call.size.end(),
                  [](std::int64_t size) { return size <= 0; })) {
    return plan;
  }
  plan.way = CopyWay::rows;
  plan.inner = {1, 1, 1};
  auto dimensions = joined(call);
  if (dimensions.empty()) return plan;
  plan.inner = dimensions.back();
  dimensions.pop_back();
  const auto across = std::find_if(dimensions.begin(), dimensions.end(),
                                   [](const auto& d) { return d.from == 1; });
  if (plan.inner.to == 1 && plan.inner.from != 1 &&
      across != dimensions.end()) {
    plan.way = CopyWay::transpose;
    plan.across = *across;
    dimensions.erase(across);
  }
  std::copy(dimensions.begin(), dimensions.end(), plan.outer.begin());
  return plan;
}

}  // namespace troupe::kernels::cuda
