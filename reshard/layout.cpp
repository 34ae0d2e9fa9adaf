#include "reshard/layout.h"

#include <algorithm>

namespace troupe::reshard {

Layout layout_of(const Annotation& annotation, const Shape& shape, int buffer) {
  Layout layout;
  std::vector<strategy::Holding> all = strategy::holdings(annotation, shape);
  layout.reserve(all.size());
  std::size_t next = 0;
  for (std::size_t u = 0; u < annotation.groups.size(); ++u) {
    for (std::size_t i = 0; i < annotation.groups[u].devices.size(); ++i) {
      strategy::Holding& h = all[next++];
      layout.push_back({h.device, buffer, h.summand, static_cast<int>(u),
                        std::move(h.boxes)});
    }
  }
  return layout;
}

Layout subgroup_of(const Layout& layout, int subgroup) {
  Layout out;
  for (const Held& held : layout) {
    if (held.subgroup == subgroup) out.push_back(held);
  }
  return out;
}

bool same_content(const Layout& a, const Layout& b) {
  return std::ranges::equal(a, b, [](const Held& x, const Held& y) {
    return x.device == y.device && x.summand == y.summand && x.boxes == y.boxes;
  });
}

std::vector<Box> overlaps(std::span<const Box> a, std::span<const Box> b) {
  std::vector<Box> out;
  for (const Box& x : a) {
    for (const Box& y : b) {
      bool meet = true;
      for (std::size_t d = 0; meet && d < x.size(); ++d) {
        meet =
            std::max(x[d].first, y[d].first) < std::min(x[d].last, y[d].last);
      }
      if (meet) out.push_back(strategy::overlap(x, y));
    }
  }
  return out;
}

namespace {

/// Joins boxes that follow each other along `d` and are equal elsewhere.
void join_along(std::size_t d, std::vector<Box>& boxes) {
  const auto key_less = [d](const Box& a, const Box& b) {
    for (std::size_t k = 0; k < a.size(); ++k) {
      if (k == d || a[k] == b[k]) continue;
      return a[k] < b[k];
    }
    return a[d] < b[d];
  };
  std::ranges::sort(boxes, key_less);
  std::size_t kept = 0;
  for (std::size_t i = 1; i < boxes.size(); ++i) {
    Box& last = boxes[kept];
    bool joins = last[d].last == boxes[i][d].first;
    for (std::size_t k = 0; joins && k < last.size(); ++k) {
      joins = k == d || last[k] == boxes[i][k];
    }
    if (joins) {
      last[d].last = boxes[i][d].last;
    } else if (++kept != i) {
      boxes[kept] = std::move(boxes[i]);
    }
  }
  boxes.resize(boxes.empty() ? 0 : kept + 1);
}

}  // namespace

std::vector<Box> merged(std::vector<Box> boxes) {
  if (boxes.size() < 2) return boxes;
  for (std::size_t d = boxes.front().size(); d-- > 0;) join_along(d, boxes);
  std::ranges::sort(boxes);
  return boxes;
}

std::int64_t elements(std::span<const Box> boxes) {
  std::int64_t sum = 0;
  for (const Box& box : boxes) sum += strategy::elements(box);
  return sum;
}

std::size_t longest(const Box& box) {
  std::size_t best = 0;
  for (std::size_t d = 1; d < box.size(); ++d) {
    if (box[d].size() > box[best].size()) best = d;
  }
  return best;
}

std::vector<Box> cut_in(const Box& box, std::int64_t parts) {
  const std::size_t d = longest(box);
  const std::int64_t n = box[d].size();
  std::vector<Box> out;
  for (std::int64_t i = 0; i < parts; ++i) {
    const Span part = strategy::part_of(n, i, parts);
    if (part.size() <= 0) continue;
    Box piece = box;
    piece[d] = {box[d].first + part.first, box[d].first + part.last};
    out.push_back(std::move(piece));
  }
  return out;
}

}  // namespace troupe::reshard
