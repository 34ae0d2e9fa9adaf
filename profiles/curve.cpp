#include "profiles/curve.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace troupe::profiles {

std::vector<double> isotonic(const std::vector<double>& values) {
  struct Pool {
    double sum;
    std::size_t count;
    double mean() const { return sum / static_cast<double>(count); }
  };
  std::vector<Pool> pools;
  pools.reserve(values.size());
  for (const double v : values) {
    pools.push_back({v, 1});
    while (pools.size() > 1 &&
           pools[pools.size() - 2].mean() > pools.back().mean()) {
      const Pool last = pools.back();
      pools.pop_back();
      pools.back().sum += last.sum;
      pools.back().count += last.count;
    }
  }
  std::vector<double> result;
  result.reserve(values.size());
  for (const Pool& pool : pools) {
    result.insert(result.end(), pool.count, pool.mean());
  }
  return result;
}

Curve::Curve(std::vector<Point> points, Scale scale)
    : points_(std::move(points)), scale_(scale) {
  std::ranges::stable_sort(points_, {}, &Point::x);
  const auto again =
      std::ranges::unique(points_, {}, [](const Point& p) { return p.x; });
  points_.erase(again.begin(), again.end());
  std::vector<double> times;
  times.reserve(points_.size());
  for (const Point& p : points_) times.push_back(p.time);
  repaired_ = isotonic(times);
}

std::optional<Curve::Found> Curve::at(double x) const {
  const auto upper = std::ranges::lower_bound(points_, x, {}, &Point::x);
  if (upper == points_.end()) return {};
  if (upper->x == x) {
    return Found{upper->time, upper->spread, true, upper->derived};
  }
  if (upper == points_.begin()) return {};
  const auto lower = upper - 1;
  const auto i = static_cast<std::size_t>(lower - points_.begin());
  const double low = repaired_[i];
  const double high = repaired_[i + 1];
  double time = 0;
  if (scale_ == Scale::linear) {
    time = low + (high - low) * (x - lower->x) / (upper->x - lower->x);
  } else {
    const double share = std::log(x / lower->x) / std::log(upper->x / lower->x);
    time = low * std::pow(high / low, share);
  }
  return Found{std::clamp(time, low, high),
               std::max(lower->spread, upper->spread), false,
               lower->derived || upper->derived};
}

}  // namespace troupe::profiles
