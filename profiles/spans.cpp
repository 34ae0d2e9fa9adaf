#include "profiles/spans.h"

#include <algorithm>

namespace troupe::profiles {

void Spans::add(std::uint64_t thread, double start, double end,
                std::size_t what) {
  threads_[thread].push_back({start, end, what, kNone});
}

void Spans::nest() {
  for (auto& [thread, spans] : threads_) {
    std::ranges::stable_sort(spans, [](const Span& a, const Span& b) {
      return a.start != b.start ? a.start < b.start : a.end > b.end;
    });
    std::vector<std::ptrdiff_t> open;
    for (std::size_t i = 0; i < spans.size(); ++i) {
      while (!open.empty() && spans[static_cast<std::size_t>(open.back())].end <
                                  spans[i].start) {
        open.pop_back();
      }
      if (!open.empty()) spans[i].parent = open.back();
      open.push_back(static_cast<std::ptrdiff_t>(i));
    }
  }
}

std::vector<std::size_t> Spans::around(std::uint64_t thread, double at) const {
  std::vector<std::size_t> found;
  const auto spans = threads_.find(thread);
  if (spans == threads_.end()) return found;
  const auto& list = spans->second;
  const auto after = std::ranges::upper_bound(list, at, {}, &Span::start);
  std::ptrdiff_t i = after - list.begin() - 1;
  for (int steps = 0; i != kNone && steps < kDeepest; ++steps) {
    const Span& span = list[static_cast<std::size_t>(i)];
    if (span.end >= at) found.push_back(span.what);
    i = span.parent;
  }
  std::ranges::reverse(found);
  return found;
}

}  // namespace troupe::profiles
