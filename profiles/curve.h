// Times measured along one size, and what lies between them.
#pragma once

#include <optional>
#include <vector>

namespace troupe::profiles {

/// How to go from one point to the next.
enum class Scale { linear, logarithmic };

/// A rising curve through measured points. Where noise makes a larger size
/// faster, the answer is the isotonic regression, also at measured sizes;
/// `points` keeps what was measured.
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
  const std::vector<Point>& points() const { return points_; }
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

/// The closest non-decreasing sequence: least absolute deviations, the lower
/// median of two, as timing noise is one-sided (a first run is slow).
///
/// Source: pool adjacent violators; Barlow et al., 1972.
std::vector<double> isotonic(const std::vector<double>& values);

}  // namespace troupe::profiles
