// Which operator to measure next: the one by which most is learned in a
// second of measuring, in seconds of the work that the operators stand for.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "measure/ceilings.h"
#include "measure/shapes.h"

namespace troupe::measure {

/// A time and how wrong it may be.
struct Guess {
  double seconds = 0;
  double error = 0;  ///< relative, expected
  bool measured = false;
  /// Nothing of its kind was measured: it may well take several times as
  /// long.
  bool blind = false;
};

/// What became of a wanted operator.
enum class State : std::uint8_t {
  open,      ///< it may be measured
  measured,  ///< in this run or an earlier one
  too_large,
  refused,
};

/// Keeps what is measured and chooses what is next.
///
/// Model: an operator takes `least` times a ratio. Ratios are known where
///        measured, and lie between those of the nearest measured members of
///        the family (all sizes equal but one), linear in the logarithm of
///        the size. The expected error between two members, largest in the
///        middle, follows how much the slope turns at its ends, and is at
///        most half of their difference; beyond the last member it grows
///        with the distance, up to that of a family without one.
///        What measuring an operator gains is the sum of the errors that it
///        would take from the members of its family, in seconds of the work
///        they stand for.
class Sampler {
 public:
  Sampler(std::vector<Wanted> wanted, Ceilings ceilings);

  void add(const kernels::OpShape& op, double seconds);
  /// Leaves an operator out: it cannot be measured here.
  void drop(std::size_t index, State why);
  Guess guess(const kernels::OpShape& op) const;

  /// Seconds that measuring an operator takes; nothing where it may not be
  /// begun now.
  using Price = std::function<std::optional<double>(std::size_t, const Guess&)>;
  /// Index of the operator with the largest gain in a second; nothing when
  /// all are known within `accuracy` or have no price. Without prices all
  /// take equally long.
  std::optional<std::size_t> next(double accuracy, const Price& price = {});
  /// Expected error of the whole range's time, relative; of what was left
  /// out, too.
  double expected_error() const;

  /// Wanted operators in this state.
  std::size_t count(State state) const;
  /// Open ones that are known within `accuracy` without being measured.
  std::size_t resting(double accuracy) const;
  State state(std::size_t index) const;

  const std::vector<Wanted>& wanted() const { return wanted_; }
  const Ceilings& ceilings() const { return ceilings_; }

 private:
  using Points = std::map<double, double>;  ///< log of the size -> ratio
  struct Family {
    Points points;
    std::vector<std::size_t> members;  ///< of the wanted
    std::vector<double> gains;  ///< of members, at a ratio of 1 if no points
    bool stale = true;
  };
  struct Kind {
    std::vector<double> ratios;  ///< sorted
    double middle() const;
  };

  Guess guess_at(const Family* family, const kernels::OpShape& op) const;
  double work(std::size_t index) const;  ///< seconds at a ratio of 1
  void refresh(Family& family);

  std::vector<Wanted> wanted_;
  std::vector<State> states_;
  std::vector<double> places_;  ///< log of each one's size
  Ceilings ceilings_;
  std::map<kernels::OpShape, double> measured_;
  std::map<kernels::OpShape, Family> families_;
  std::map<kernels::OpKind, Kind> kinds_;
};

}  // namespace troupe::measure
