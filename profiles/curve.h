// Times measured along one size, and what lies between them.
#pragma once

#include <optional>
#include <vector>

namespace troupe::profiles {

/// How to go from one point to the next.
enum class Scale { linear, logarithmic };

/// A rising curve through measured points. Noise that makes a larger size
/// faster is averaged away between points (isotonic regression); at a
/// measured size the measured time itself is given.
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
    bool exact = false;
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
  /// The repaired time at the ends, from which extrapolation starts.
  double first_time() const { return repaired_.front(); }
  double last_time() const { return repaired_.back(); }

 private:
  std::vector<Point> points_;
  std::vector<double> repaired_;
  Scale scale_ = Scale::linear;
};

/// The closest non-decreasing sequence (least squares, equal weights).
///
/// Source: pool adjacent violators; Barlow et al., 1972.
std::vector<double> isotonic(const std::vector<double>& values);

}  // namespace troupe::profiles
