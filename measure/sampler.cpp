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

using Points = std::map<double, double>;

double slope(Points::const_iterator from, Points::const_iterator to) {
  return (to->second - from->second) / (to->first - from->first);
}

/// Expected error of a straight line from `below` to the next member: by how
/// much the slope turns at its ends, where there are members beyond; never
/// more than half of what the ends differ by.
double between(const Points& family, Points::const_iterator below) {
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

/// Ratio at x and its expected error; `points` are not empty.
std::pair<double, double> ratio_at(const Points& points, double x) {
  const auto above = points.lower_bound(x);
  if (above != points.end() && above->first == x) return {above->second, 0};
  if (above == points.begin() || above == points.end()) {
    const auto& end = above == points.begin() ? *above : *std::prev(above);
    const double doublings = std::abs(x - end.first) / std::log(2.0);
    return {end.second, std::min(kPerDoubling * doublings, kUnknownFamily)};
  }
  const auto below = std::prev(above);
  const double width = above->first - below->first;
  const double t = (x - below->first) / width;
  const double ratio = below->second + t * (above->second - below->second);
  const double middle = 1 - std::abs(2 * t - 1);
  return {ratio, middle * (between(points, below) / ratio +
                           kBetween * width / std::log(2.0))};
}

double place_of(const OpShape& op) { return std::log(profiles::along(op)); }

}  // namespace

Sampler::Sampler(std::vector<Wanted> wanted, Ceilings ceilings)
    : wanted_(std::move(wanted)),
      states_(wanted_.size(), State::open),
      ceilings_(ceilings) {
  for (std::size_t i = 0; i < wanted_.size(); ++i) {
    const OpShape& op = wanted_[i].op;
    families_[profiles::family_of(op)].members.push_back(i);
    places_.push_back(place_of(op));
  }
}

void Sampler::add(const OpShape& op, double seconds) {
  const double ratio = seconds / ceilings_.least(op);
  measured_[op] = seconds;
  Family& family = families_[profiles::family_of(op)];
  family.points[place_of(op)] = ratio;
  family.stale = true;
  Kind& kind = kinds_[op.kind];
  const bool first = kind.ratios.empty();
  kind.ratios.insert(std::ranges::upper_bound(kind.ratios, ratio), ratio);
  if (!first) return;
  // The kind is not unknown any more.
  for (auto& [shape, other] : families_) {
    if (shape.kind == op.kind) other.stale = true;
  }
}

void Sampler::drop(std::size_t index, State why) { states_[index] = why; }

double Sampler::Kind::middle() const {
  return ratios.empty() ? 1.5 : ratios[ratios.size() / 2];
}

Guess Sampler::guess_at(const Family* family, const OpShape& op) const {
  const double least = ceilings_.least(op);
  if (const auto at = measured_.find(op); at != measured_.end()) {
    return {at->second, 0, true, false};
  }
  if (family == nullptr || family->points.empty()) {
    const auto kind = kinds_.find(op.kind);
    if (kind == kinds_.end()) {
      // Products are what the ceiling was measured with.
      return {least * Kind{}.middle(), kUnknownKind, false,
              op.kind != kernels::OpKind::gemm};
    }
    return {least * kind->second.middle(), kUnknownFamily, false, false};
  }
  const auto [ratio, error] = ratio_at(family->points, place_of(op));
  return {least * ratio, error, false, false};
}

Guess Sampler::guess(const OpShape& op) const {
  const auto found = families_.find(profiles::family_of(op));
  return guess_at(found == families_.end() ? nullptr : &found->second, op);
}

double Sampler::work(std::size_t index) const {
  return ceilings_.least(wanted_[index].op) * wanted_[index].uses;
}

void Sampler::refresh(Family& family) {
  family.stale = false;
  family.gains.assign(family.members.size(), 0);
  const auto kind = kinds_.find(wanted_[family.members.front()].op.kind);
  const double unknown = kind == kinds_.end() ? kUnknownKind : kUnknownFamily;
  const auto known = [&](const Points& points, std::size_t member) {
    return points.empty() ? std::pair(1.0, unknown)
                          : ratio_at(points, places_[member]);
  };
  for (std::size_t i = 0; i < family.members.size(); ++i) {
    // As if it were measured, with the ratio that is expected.
    Points with = family.points;
    const std::size_t candidate = family.members[i];
    with.try_emplace(places_[candidate], known(with, candidate).first);
    for (const std::size_t member : family.members) {
      const auto [ratio, error] = known(family.points, member);
      const double then = ratio_at(with, places_[member]).second;
      family.gains[i] += std::max(error - then, 0.0) * ratio * work(member);
    }
  }
}

std::optional<std::size_t> Sampler::next(double accuracy, const Price& price) {
  std::optional<std::size_t> best;
  double most = 0;
  for (auto& [shape, family] : families_) {
    if (family.members.empty()) continue;
    if (family.stale) refresh(family);
    // A family without points is kept at a ratio of 1.
    const auto kind = kinds_.find(shape.kind);
    const double scale = !family.points.empty() ? 1
                         : kind == kinds_.end() ? Kind{}.middle()
                                                : kind->second.middle();
    for (std::size_t i = 0; i < family.members.size(); ++i) {
      const std::size_t index = family.members[i];
      if (states_[index] != State::open || family.gains[i] <= 0) continue;
      const Guess g = guess_at(&family, wanted_[index].op);
      if (g.measured || g.error < accuracy) continue;
      const auto cost = price ? price(index, g) : std::optional(1.0);
      if (!cost) continue;
      const double worth = family.gains[i] * scale / std::max(*cost, 1e-9);
      if (worth > most) {
        most = worth;
        best = index;
      }
    }
  }
  return best;
}

double Sampler::expected_error() const {
  double error = 0;
  double sum = 0;
  for (const Wanted& wanted : wanted_) {
    const Guess g = guess(wanted.op);
    error += g.error * g.seconds * wanted.uses;
    sum += g.seconds * wanted.uses;
  }
  return sum > 0 ? error / sum : 0;
}

State Sampler::state(std::size_t index) const {
  return measured_.contains(wanted_[index].op) ? State::measured
                                               : states_[index];
}

std::size_t Sampler::count(State state) const {
  std::size_t count = 0;
  for (std::size_t i = 0; i < wanted_.size(); ++i) {
    if (this->state(i) == state) ++count;
  }
  return count;
}

std::size_t Sampler::resting(double accuracy) const {
  std::size_t count = 0;
  for (std::size_t i = 0; i < wanted_.size(); ++i) {
    if (state(i) == State::open && guess(wanted_[i].op).error < accuracy) {
      ++count;
    }
  }
  return count;
}

}  // namespace troupe::measure
