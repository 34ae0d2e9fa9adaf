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

Curve::Point Curve::first() const {
  Point end = points_.front();
  end.time = repaired_.front();
  return end;
}

Curve::Point Curve::last() const {
  Point end = points_.back();
  end.time = repaired_.back();
  return end;
}

void add_point(PointsBySource& points, std::int64_t source,
               Curve::Point point) {
  if (points.empty() || points.back().source != source) {
    points.push_back({.source = source});
  }
  points.back().points.push_back(point);
}

SourcedCurve::SourcedCurve(PointsBySource points, Scale scale) {
  curves_.reserve(points.size());
  for (SourcePoints& one : points) {
    curves_.emplace_back(std::move(one.points), scale);
  }
}

std::optional<Curve::Found> SourcedCurve::at(double x) const {
  std::optional<Curve::Found> between;
  for (const Curve& curve : curves_) {
    const auto found = curve.at(x);
    if (found && found->exact) return found;
    if (found && !between) between = found;
  }
  return between;
}

std::optional<Curve::Point> SourcedCurve::nearest_end(double x) const {
  std::optional<Curve::Point> nearest;
  double least = 0;
  for (const Curve& curve : curves_) {
    for (const Curve::Point& end : {curve.first(), curve.last()}) {
      const double distance = std::abs(std::log(x / end.x));
      if (nearest && !(distance < least)) continue;
      nearest = end;
      least = distance;
    }
  }
  return nearest;
}

std::optional<Curve::Point> SourcedCurve::end_below(double x) const {
  std::optional<Curve::Point> largest;
  for (const Curve& curve : curves_) {
    const Curve::Point end = curve.last();
    if (end.x < x && (!largest || end.x > largest->x)) largest = end;
  }
  return largest;
}

std::optional<Curve::Point> SourcedCurve::end_above(double x) const {
  std::optional<Curve::Point> smallest;
  for (const Curve& curve : curves_) {
    const Curve::Point end = curve.first();
    if (end.x > x && (!smallest || end.x < smallest->x)) smallest = end;
  }
  return smallest;
}

}  // namespace troupe::profiles
