// Times measured along one size, and what lies between them.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace troupe::profiles {

/// How to go from one point to the next.
enum class Scale { linear, logarithmic };

/// A curve through the measured points of one source. At a measured size the
/// answer is the measured time, noise included. Between sizes it rises: where
/// noise makes a larger size faster, it follows the isotonic regression.
class Curve {
 public:
  struct Point {
    double x = 0;  ///< positive
    double time = 0;
    double spread = 0;
    bool derived = false;  ///< not measured as it stands
  };
  struct Found {
    double time = 0;
    double spread = 0;
    bool exact = false;  ///< the measured time itself
    bool derived = false;
  };

  Curve() = default;
  /// Of several points at one size the first is kept.
  explicit Curve(std::vector<Point> points, Scale scale = Scale::linear);

  /// Nothing outside of the measured sizes.
  std::optional<Found> at(double x) const;

  bool empty() const { return points_.empty(); }
  const Point& front() const { return points_.front(); }
  const Point& back() const { return points_.back(); }
  /// The ends with their repaired times, from which extrapolation starts.
  Point first() const;
  Point last() const;

 private:
  std::vector<Point> points_;
  std::vector<double> repaired_;
  Scale scale_ = Scale::linear;
};

/// Points of one family by source, the newest source first.
struct SourcePoints {
  std::int64_t source = 0;
  std::vector<Curve::Point> points = {};
};
using PointsBySource = std::vector<SourcePoints>;
/// Adds a point; those of one source come one after another.
void add_point(PointsBySource& points, std::int64_t source, Curve::Point point);

/// The curves of one family, one per source: sources are never mixed.
class SourcedCurve {
 public:
  SourcedCurve() = default;
  explicit SourcedCurve(PointsBySource points, Scale scale = Scale::linear);

  /// The newest source's time where one measured this size; else between
  /// sizes of the newest source that covers it; else nothing.
  std::optional<Curve::Found> at(double x) const;
  /// The end of a source's curve nearest to x in proportion, of equal ones the
  /// newest source's.
  std::optional<Curve::Point> nearest_end(double x) const;
  /// The largest end of a curve that x lies beyond.
  std::optional<Curve::Point> end_below(double x) const;
  /// The smallest end of a curve that x lies before.
  std::optional<Curve::Point> end_above(double x) const;

 private:
  std::vector<Curve> curves_;  ///< the newest source first
};

/// The closest non-decreasing sequence: least absolute deviations, the lower
/// median of two, as timing noise is one-sided (a first run is slow).
///
/// Source: pool adjacent violators; Barlow et al., 1972.
std::vector<double> isotonic(const std::vector<double>& values);

}  // namespace troupe::profiles
