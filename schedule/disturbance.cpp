#include "schedule/disturbance.h"

#include <cmath>
#include <initializer_list>

namespace troupe::schedule {
namespace {

/// SplitMix64's finaliser.
/// Source: Steele, Lea and Flood, OOPSLA 2014.
std::uint64_t mixed(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15U;
  x = (x ^ (x >> 30U)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27U)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31U);
}

/// Uniform in [-1, 1), of the words alone.
double uniform(std::initializer_list<std::int64_t> words) {
  std::uint64_t hash = 0;
  for (const std::int64_t word : words) {
    hash = mixed(hash ^ static_cast<std::uint64_t>(word));
  }
  return static_cast<double>(hash >> 11U) * 0x1p-52 - 1;
}

}  // namespace

Time scaled(Time time, double factor) {
  return {std::llround(static_cast<double>(time.v) * factor)};
}

Time disturbed(const Disturbance& d, const OperatorPlace& at,
               const Operator& op, Time price) {
  double factor = 1;
  if (const auto it = d.slower.find(at.device);
      !op.communicates && it != d.slower.end()) {
    factor = it->second;
  }
  if (d.noise > 0) {
    const bool shared = op.communicates && op.scope == Scope::tensor;
    constexpr std::int64_t kOperators = 1;  // beside the kinds of `Together`
    factor *= 1 + d.noise * uniform({static_cast<std::int64_t>(d.seed),
                                     kOperators, at.phase, at.task.v, at.layer,
                                     static_cast<std::int64_t>(at.index),
                                     shared ? at.lead.v : at.device.v});
  }
  return factor == 1 ? price : scaled(price, factor);
}

double message_factor(const Disturbance& d, Together kind, std::int64_t phase,
                      std::int64_t index) {
  if (d.noise == 0) return 1;
  return 1 + d.noise * uniform({static_cast<std::int64_t>(d.seed),
                                static_cast<std::int64_t>(kind), phase, index});
}

}  // namespace troupe::schedule
