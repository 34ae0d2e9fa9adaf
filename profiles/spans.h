// Nested intervals on threads: which of them contain a moment.
#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

namespace troupe::profiles {

/// Calls or marked ranges of a recorded program. Times in any one unit.
class Spans {
 public:
  /// `what` is returned for it.
  void add(std::uint64_t thread, double start, double end, std::size_t what);

  /// To be called once, after the last `add`.
  void nest();

  /// What contains the moment, the outermost first; at most the 256 innermost
  /// ones, so that hostile nesting costs no more.
  std::vector<std::size_t> around(std::uint64_t thread, double at) const;

 private:
  static constexpr std::ptrdiff_t kNone = -1;
  static constexpr int kDeepest = 256;
  struct Span {
    double start = 0;
    double end = 0;
    std::size_t what = 0;
    std::ptrdiff_t parent = kNone;
  };
  std::unordered_map<std::uint64_t, std::vector<Span>> threads_;
};

}  // namespace troupe::profiles
