#include "measure/sampler.h"

#include <algorithm>
#include <cmath>

#include "profiles/operator_table.h"

namespace troupe::measure {
namespace {

using kernels::OpShape;

// Expected relative error where nothing of the kind, or of the family, was
// measured, and its growth per doubling beyond a family's last member. They
// only order the work: no time that is stored depends on them.
constexpr double kUnknownKind = 1.0;
constexpr double kUnknownFamily = 0.3;
constexpr double kPerDoubling = 0.1;
// Two neighbours may agree by chance: an error per doubling between them.
constexpr double kBetween = 0.01;

using Family = std::map<double, double>;

double slope(Family::const_iterator from, Family::const_iterator to) {
  return (to->second - from->second) / (to->first - from->first);
}

/// Expected error of a straight line from `below` to the next member: by how
/// much the slope turns at its ends, where there are members beyond; never
/// more than half of what the ends differ by.
double between(const Family& family, Family::const_iterator below) {
  const auto above = std::next(below);
  const double half = std::abs(above->second - below->second) / 2;
  const double here = slope(below, above);
  double turn = -1;
  if (below != family.begin()) {
    turn = std::abs(here - slope(std::prev(below), below));
  }
  if (std::next(above) != family.end()) {
    turn = std::max(turn, std::abs(slope(above, std::next(above)) - here));
  }
  if (turn < 0) return half;
  return std::min(half, turn * (above->first - below->first) / 4);
}

}  // namespace

double Ceilings::least(const OpShape& op) const {
  const double matrix = kernels::uses_matrix_units(op.kind)
                            ? kernels::flops(op).v / matrix_rate
                            : 0;
  const double memory = static_cast<double>(kernels::traffic(op).v) / bandwidth;
  return std::max(matrix, memory) + launch_s;
}

Sampler::Sampler(std::vector<Wanted> wanted, Ceilings ceilings)
    : wanted_(std::move(wanted)),
      dropped_(wanted_.size(), false),
      ceilings_(ceilings) {}

void Sampler::add(const OpShape& op, double seconds) {
  const double ratio = seconds / ceilings_.least(op);
  measured_[op] = seconds;
  families_[profiles::family_of(op)][std::log(profiles::along(op))] = ratio;
  ratios_[op.kind].push_back(ratio);
}

void Sampler::drop(std::size_t index) { dropped_[index] = true; }

double Sampler::unknown_ratio(kernels::OpKind kind) const {
  const auto at = ratios_.find(kind);
  if (at == ratios_.end()) return 1.5;
  std::vector<double> all = at->second;
  const auto middle = all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2);
  std::nth_element(all.begin(), middle, all.end());
  return *middle;
}

Guess Sampler::guess(const OpShape& op) const {
  const double least = ceilings_.least(op);
  if (const auto at = measured_.find(op); at != measured_.end()) {
    return {at->second, 0, true};
  }
  const auto found = families_.find(profiles::family_of(op));
  if (found == families_.end()) {
    const bool kind = ratios_.contains(op.kind);
    return {least * unknown_ratio(op.kind),
            kind ? kUnknownFamily : kUnknownKind, false};
  }
  const Family& family = found->second;
  const double x = std::log(profiles::along(op));
  const auto above = family.lower_bound(x);
  if (above == family.begin() || above == family.end()) {
    const auto& end = above == family.begin() ? *above : *std::prev(above);
    const double doublings = std::abs(x - end.first) / std::log(2.0);
    return {least * end.second, std::min(kPerDoubling * doublings, 1.0), false};
  }
  const auto below = std::prev(above);
  const double width = above->first - below->first;
  const double t = (x - below->first) / width;
  const double ratio = below->second + t * (above->second - below->second);
  const double middle = 1 - std::abs(2 * t - 1);
  return {least * ratio,
          middle * (between(family, below) / ratio +
                    kBetween * width / std::log(2.0)),
          false};
}

std::optional<std::size_t> Sampler::next(double accuracy) const {
  std::optional<std::size_t> best;
  double most = 0;
  for (std::size_t i = 0; i < wanted_.size(); ++i) {
    if (dropped_[i]) continue;
    const Guess g = guess(wanted_[i].op);
    if (g.measured || g.error < accuracy) continue;
    const double seconds = g.error * g.seconds * wanted_[i].uses;
    if (seconds > most) {
      most = seconds;
      best = i;
    }
  }
  return best;
}

double Sampler::expected_error() const {
  double error = 0;
  double sum = 0;
  for (std::size_t i = 0; i < wanted_.size(); ++i) {
    if (dropped_[i]) continue;
    const Guess g = guess(wanted_[i].op);
    error += g.error * g.seconds * wanted_[i].uses;
    sum += g.seconds * wanted_[i].uses;
  }
  return sum > 0 ? error / sum : 0;
}

std::size_t Sampler::left() const {
  std::size_t count = 0;
  for (std::size_t i = 0; i < wanted_.size(); ++i) {
    if (!dropped_[i] && !measured_.contains(wanted_[i].op)) ++count;
  }
  return count;
}

}  // namespace troupe::measure
