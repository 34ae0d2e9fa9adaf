#include <algorithm>
#include <bit>
#include <cmath>

#include "measure/links.h"

namespace troupe::measure {
namespace {

// Every fourth power of two is measured before anything is refined.
constexpr std::size_t kCoarseStep = 4;

/// Half the logarithm of what is possible in the middle of two points.
double error_between(std::int64_t x1, double t1, std::int64_t x2, double t2,
                     std::int64_t middle) {
  const double up = static_cast<double>(middle) / static_cast<double>(x1);
  const double down = static_cast<double>(middle) / static_cast<double>(x2);
  const double most = std::min(t2, t1 * up);
  const double least = std::max(t1, t2 * down);
  return most > least ? std::log(most / least) / 2 : 0;
}

}  // namespace

LinkSampler::LinkSampler(std::size_t curves, Bytes least, Bytes most,
                         double accuracy)
    : curves_(curves), dropped_(curves, false), accuracy_(accuracy) {
  const auto first = std::bit_ceil(
      static_cast<std::uint64_t>(std::max<std::int64_t>(least.v, 1)));
  for (auto s = static_cast<std::int64_t>(first); s <= most.v; s *= 2) {
    sizes_.push_back(s);
  }
  for (std::size_t i = 0; i < sizes_.size(); i += kCoarseStep) {
    coarse_.push_back(sizes_[i]);
  }
  if (!sizes_.empty() && coarse_.back() != sizes_.back()) {
    coarse_.push_back(sizes_.back());
  }
}

std::optional<LinkSampler::Choice> LinkSampler::next() const {
  for (std::size_t c = 0; c < curves_.size(); ++c) {
    if (dropped_[c]) continue;
    for (const std::int64_t size : coarse_) {
      if (!curves_[c].contains(size)) return Choice{c, size};
    }
  }
  std::optional<Choice> worst;
  double error = accuracy_;
  for (std::size_t c = 0; c < curves_.size(); ++c) {
    if (dropped_[c] || curves_[c].empty()) continue;
    for (auto b = std::next(curves_[c].begin()); b != curves_[c].end(); ++b) {
      const auto a = std::prev(b);
      const int steps =
          std::countr_zero(static_cast<std::uint64_t>(b->first / a->first));
      if (steps < 2) continue;
      const std::int64_t middle = a->first << (steps / 2);
      const double found =
          error_between(a->first, a->second, b->first, b->second, middle);
      if (found <= error) continue;
      error = found;
      worst = Choice{c, middle};
    }
  }
  return worst;
}

void LinkSampler::add(const Choice& at, double seconds) {
  curves_[at.curve][at.nominal] = seconds;
}

void LinkSampler::drop(std::size_t curve) { dropped_[curve] = true; }

double LinkSampler::guess(const Choice& at) const {
  const Points& points = curves_[at.curve];
  const auto above = points.lower_bound(at.nominal);
  if (above != points.end()) return above->second;
  if (points.empty()) return 0;
  // Time per byte does not grow.
  const auto& [size, seconds] = *points.rbegin();
  return seconds * static_cast<double>(at.nominal) / static_cast<double>(size);
}

}  // namespace troupe::measure
