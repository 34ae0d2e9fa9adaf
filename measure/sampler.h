// Which operator to measure next: the one whose time is known worst, in
// seconds of the work that it stands for.
#pragma once

#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "measure/shapes.h"

namespace troupe::measure {

/// What the machine does at best, measured before anything else.
struct Ceilings {
  double matrix_rate = 1e12;  ///< FLOP/s of the best large product
  double bandwidth = 1e11;    ///< bytes/s, a copy counted read and written
  double launch_s = 1e-6;     ///< of the smallest operator
  /// Seconds no operator beats: work at the two ceilings, and a launch.
  double least(const kernels::OpShape& op) const;
};

/// A time and how wrong it may be.
struct Guess {
  double seconds = 0;
  double error = 0;  ///< relative, expected
  bool measured = false;
};

/// Keeps what is measured and chooses what is next.
///
/// Model: an operator takes `least` times a ratio. Ratios are known where
///        measured, and lie between those of the nearest measured members of
///        the family (all sizes equal but one), linear in the logarithm of
///        the size. The expected error between two members, largest in the
///        middle, follows how much the slope turns at its ends, and is at
///        most half of their difference; beyond the last member it grows
///        with the distance; a family without one has a fixed error.
class Sampler {
 public:
  Sampler(std::vector<Wanted> wanted, Ceilings ceilings);

  void add(const kernels::OpShape& op, double seconds);
  /// Leaves an operator out: it cannot be measured here.
  void drop(std::size_t index);
  Guess guess(const kernels::OpShape& op) const;

  /// Index of the operator with the largest expected error in seconds (uses
  /// counted); nothing when all are known within `accuracy`.
  std::optional<std::size_t> next(double accuracy) const;
  /// Expected error of the whole range's time, relative.
  double expected_error() const;
  /// Wanted operators neither measured nor dropped.
  std::size_t left() const;

  const std::vector<Wanted>& wanted() const { return wanted_; }
  const Ceilings& ceilings() const { return ceilings_; }

 private:
  using Family = std::map<double, double>;  ///< log of the size -> ratio

  double unknown_ratio(kernels::OpKind kind) const;

  std::vector<Wanted> wanted_;
  std::vector<bool> dropped_;
  Ceilings ceilings_;
  std::map<kernels::OpShape, double> measured_;
  std::map<kernels::OpShape, Family> families_;
  std::map<kernels::OpKind, std::vector<double>> ratios_;
};

}  // namespace troupe::measure
