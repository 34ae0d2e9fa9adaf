#include "profiles/curve.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <iterator>

namespace troupe::profiles {

std::vector<double> isotonic(const std::vector<double>& values) {
  struct Pool {
    std::vector<double> sorted;
    double median() const { return sorted[(sorted.size() - 1) / 2]; }
  };
  std::vector<Pool> pools;
  pools.reserve(values.size());
  for (const double v : values) {
    pools.push_back({{v}});
    while (pools.size() > 1 &&
           pools[pools.size() - 2].median() > pools.back().median()) {
      Pool last = std::move(pools.back());
      pools.pop_back();
      std::vector<double> both;
      both.reserve(last.sorted.size() + pools.back().sorted.size());
      std::ranges::merge(pools.back().sorted, last.sorted,
                         std::back_inserter(both));
      pools.back().sorted = std::move(both);
    }
  }
  std::vector<double> result;
  result.reserve(values.size());
  for (const Pool& pool : pools) {
    result.insert(result.end(), pool.sorted.size(), pool.median());
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
    const double time =
        repaired_[static_cast<std::size_t>(upper - points_.begin())];
    return Found{time, upper->spread, time == upper->time, upper->derived};
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
