#include "strategy/annotation.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

namespace troupe::strategy {
namespace {

/// The keys with a count over 1 and their counts, ascending by key.
std::map<int, int> counts_of(const States& states) {
  std::map<int, int> counts;
  if (states.partial > 1) counts[kPartial] = states.partial;
  if (states.duplicate > 1) counts[kDuplicate] = states.duplicate;
  for (const auto& [dimension, parts] : states.split) {
    if (parts > 1) counts[dimension] = parts;
  }
  return counts;
}

/// A key of the order with its count.
struct Axis {
  int key = 0;
  int count = 1;
};

/// The keys with a count over 1 in layout order, slowest first.
std::vector<Axis> axes_of(const States& states) {
  const std::map<int, int> counts = counts_of(states);
  std::vector<Axis> axes;
  if (states.order.empty()) {
    for (const auto& [key, count] : counts) axes.push_back({key, count});
    return axes;
  }
  for (const int key : states.order) {
    const auto count = counts.find(key);
    if (count != counts.end()) axes.push_back({key, count->second});
  }
  return axes;
}

/// The position of device `index` in `key`; 0 for a key without an axis.
int position(std::span<const Axis> axes, std::size_t index, int key) {
  for (auto axis = axes.rbegin(); axis != axes.rend(); ++axis) {
    const auto count = static_cast<std::size_t>(axis->count);
    if (axis->key == key) return static_cast<int>(index % count);
    index /= count;
  }
  return 0;
}

std::vector<std::int64_t> weights_of(const Annotation& annotation) {
  std::vector<std::int64_t> weights;
  for (const Subgroup& group : annotation.groups) {
    weights.push_back(group.weight);
  }
  return weights;
}

/// Parts that the interleaved dimension is first cut into, up to one over the
/// limit.
std::int64_t blocks_of(const Annotation& annotation) {
  std::int64_t blocks = 1;
  for (const Subgroup& group : annotation.groups) {
    const int parts = std::max(group.states.parts(annotation.dimension), 1);
    blocks = std::lcm(blocks, std::int64_t{parts});
    if (blocks > kMostBlocks) return kMostBlocks + 1;
  }
  return blocks;
}

Span shifted(Span span, std::int64_t by) {
  return {span.first + by, span.last + by};
}

/// The spans of the dimension that subgroups split, on a device at `place` of
/// subgroup `u`.
std::vector<Span> spans_across(const Annotation& annotation, std::size_t u,
                               std::int64_t n, int place) {
  const std::vector<std::int64_t> weights = weights_of(annotation);
  const int parts = annotation.groups[u].states.parts(annotation.dimension);
  if (!annotation.interleaved) {
    const Span mine = part_of(n, u, weights);
    return {shifted(part_of(mine.size(), place, parts), mine.first)};
  }
  const std::int64_t blocks = blocks_of(annotation);
  const std::int64_t each = blocks / parts;
  std::vector<Span> spans;
  for (std::int64_t b = place * each; b < (place + 1) * each; ++b) {
    const Span block = part_of(n, b, blocks);
    spans.push_back(shifted(part_of(block.size(), u, weights), block.first));
  }
  return spans;
}

/// Adds boxes for each combination of spans.
void add_boxes(const std::vector<std::vector<Span>>& spans, std::size_t d,
               Box& box, std::vector<Box>& boxes) {
  if (d == spans.size()) {
    boxes.push_back(box);
    return;
  }
  for (const Span span : spans[d]) {
    if (span.size() <= 0) continue;
    box.push_back(span);
    add_boxes(spans, d + 1, box, boxes);
    box.pop_back();
  }
}

Holding holding_of(const Annotation& annotation, std::size_t u,
                   std::span<const Axis> axes, std::size_t index,
                   std::span<const std::int64_t> shape) {
  const Subgroup& group = annotation.groups[u];
  std::vector<std::vector<Span>> spans;
  for (std::size_t d = 0; d < shape.size(); ++d) {
    const auto dimension = static_cast<int>(d);
    const int place = position(axes, index, dimension);
    const bool across =
        annotation.across == Across::split && annotation.dimension == dimension;
    if (across) {
      spans.push_back(spans_across(annotation, u, shape[d], place));
    } else {
      spans.push_back(
          {part_of(shape[d], place, group.states.parts(dimension))});
    }
  }
  Holding holding{group.devices[index], {}, position(axes, index, kPartial)};
  if (annotation.across == Across::partial) {
    for (std::size_t before = 0; before < u; ++before) {
      holding.summand += annotation.groups[before].states.partial;
    }
  }
  Box box;
  add_boxes(spans, 0, box, holding.boxes);
  return holding;
}

void check_group(const Subgroup& group, std::size_t u, std::size_t dimensions,
                 std::vector<std::string>& found) {
  const States& s = group.states;
  std::set<int> seen;
  bool counts = s.duplicate >= 1 && s.partial >= 1;
  for (const auto& [dimension, parts] : s.split) {
    counts = counts && parts >= 1;
    if (dimension < 0 || static_cast<std::size_t>(dimension) >= dimensions) {
      found.push_back(
          fmt::format("subgroup {}: splits dimension {} of a tensor of {}", u,
                      dimension, dimensions));
    }
    if (!seen.insert(dimension).second) {
      found.push_back(
          fmt::format("subgroup {}: splits dimension {} twice", u, dimension));
    }
  }
  if (!counts) {
    found.push_back(
        fmt::format("subgroup {}: expected counts of 1 or more", u));
    return;
  }
  if (static_cast<std::size_t>(s.devices()) != group.devices.size()) {
    found.push_back(
        fmt::format("subgroup {}: its layout is for {} devices, it has {}", u,
                    s.devices(), group.devices.size()));
  }
  if (s.order.empty()) return;
  std::set<int> keys;
  for (const auto& [key, count] : counts_of(s)) keys.insert(key);
  const std::set<int> given(s.order.begin(), s.order.end());
  const bool repeated = given.size() != s.order.size();
  const bool complete = std::ranges::includes(given, keys);
  if (repeated || !complete) {
    found.push_back(
        fmt::format("subgroup {}: order [{}], expected each of [{}] once", u,
                    fmt::join(s.order, " "), fmt::join(keys, " ")));
  }
}

void check_limits(const Annotation& annotation,
                  std::span<const std::int64_t> shape,
                  std::vector<std::string>& found) {
  std::int64_t all = 1;
  for (const std::int64_t extent : shape) {
    if (extent < 1 || extent > kMostExtent || all > kMostElements / extent) {
      found.push_back(
          fmt::format("shape [{}]: expected sizes of 1 or more with a product "
                      "of at most 2^50",
                      fmt::join(shape, " ")));
      break;
    }
    all *= extent;
  }
  std::int64_t weight = 0;
  for (const Subgroup& group : annotation.groups) {
    weight += std::clamp<std::int64_t>(group.weight, 0, kMostWeight);
    weight = std::min(weight, kMostWeight + 1);
    if (group.weight > kMostWeight) weight = kMostWeight + 1;
  }
  if (weight > kMostWeight) {
    found.push_back(fmt::format("weights add up to more than {}", kMostWeight));
  }
  if (annotation.interleaved && blocks_of(annotation) > kMostBlocks) {
    found.push_back(fmt::format(
        "interleaved over local splits with a common multiple over {}",
        kMostBlocks));
  }
}

/// "0-7 16": runs of devices in order.
std::string devices_text(const std::vector<DeviceId>& devices) {
  std::string text;
  for (std::size_t i = 0; i < devices.size();) {
    std::size_t end = i + 1;
    while (end < devices.size() && devices[end].v == devices[end - 1].v + 1) {
      ++end;
    }
    if (!text.empty()) text += ' ';
    text += fmt::format("{}", devices[i].v);
    if (end - i > 1) text += fmt::format("-{}", devices[end - 1].v);
    i = end;
  }
  return text;
}

std::string states_text(const States& states) {
  std::string text;
  for (const auto& [dimension, parts] : states.split) {
    text += fmt::format(" split {} by {}", dimension, parts);
  }
  if (states.duplicate > 1) text += fmt::format(" x{}", states.duplicate);
  if (states.partial > 1) text += fmt::format(" summands {}", states.partial);
  return text.empty() ? " whole" : text;
}

}  // namespace

int States::parts(int dimension) const {
  for (const auto& [d, parts] : split) {
    if (d == dimension) return parts;
  }
  return 1;
}

int States::devices() const {
  std::int64_t product = std::int64_t{duplicate} * partial;
  for (const auto& [dimension, parts] : split) {
    product = std::min<std::int64_t>(product * parts, 1 << 30);
  }
  return static_cast<int>(product);
}

std::int64_t elements(const Box& box) {
  std::int64_t product = 1;
  for (const Span& span : box)
    product *= std::max<std::int64_t>(span.size(), 0);
  return product;
}

Box overlap(const Box& a, const Box& b) {
  Box common(a.size());
  for (std::size_t d = 0; d < a.size(); ++d) {
    common[d].first = std::max(a[d].first, b[d].first);
    common[d].last = std::max(std::min(a[d].last, b[d].last), common[d].first);
  }
  return common;
}

Span part_of(std::int64_t n, std::int64_t index, std::int64_t parts) {
  return {n * index / parts, n * (index + 1) / parts};
}

Span part_of(std::int64_t n, std::size_t index,
             std::span<const std::int64_t> weights) {
  const std::int64_t all =
      std::accumulate(weights.begin(), weights.end(), std::int64_t{0});
  const std::int64_t before = std::accumulate(
      weights.begin(), weights.begin() + static_cast<std::ptrdiff_t>(index),
      std::int64_t{0});
  return {n * before / all, n * (before + weights[index]) / all};
}

int summands(const Annotation& annotation) {
  int sum = 0;
  for (const Subgroup& group : annotation.groups) sum += group.states.partial;
  if (annotation.across == Across::partial) return sum;
  return annotation.groups.empty() ? 1 : annotation.groups[0].states.partial;
}

std::vector<Holding> holdings(const Annotation& annotation,
                              std::span<const std::int64_t> shape) {
  std::vector<Holding> all;
  for (std::size_t u = 0; u < annotation.groups.size(); ++u) {
    const std::vector<Axis> axes = axes_of(annotation.groups[u].states);
    for (std::size_t i = 0; i < annotation.groups[u].devices.size(); ++i) {
      all.push_back(holding_of(annotation, u, axes, i, shape));
    }
  }
  return all;
}

std::vector<std::string> problems(const Annotation& annotation,
                                  std::span<const std::int64_t> shape) {
  std::vector<std::string> found;
  if (annotation.groups.empty()) found.push_back("no subgroup");
  std::set<DeviceId> devices;
  for (std::size_t u = 0; u < annotation.groups.size(); ++u) {
    const Subgroup& group = annotation.groups[u];
    check_group(group, u, shape.size(), found);
    for (const DeviceId device : group.devices) {
      if (devices.insert(device).second) continue;
      found.push_back(fmt::format("device {} is named twice", device.v));
    }
    if (group.weight < 1) {
      found.push_back(fmt::format("subgroup {}: weight {}, expected 1 or more",
                                  u, group.weight));
    }
    const bool unequal =
        annotation.across != Across::partial &&
        group.states.partial != annotation.groups[0].states.partial;
    if (unequal) {
      found.push_back(fmt::format(
          "subgroup {} holds one of {} summands, subgroup 0 one of {}; "
          "expected equal counts unless subgroups are summands themselves",
          u, group.states.partial, annotation.groups[0].states.partial));
    }
  }
  const bool outside =
      annotation.across == Across::split &&
      (annotation.dimension < 0 ||
       static_cast<std::size_t>(annotation.dimension) >= shape.size());
  check_limits(annotation, shape, found);
  if (outside) {
    found.push_back(
        fmt::format("subgroups split dimension {} of a tensor of {}",
                    annotation.dimension, shape.size()));
  }
  return found;
}

std::string to_string(const Annotation& annotation) {
  std::string text =
      annotation.across == Across::replicated ? "replicated"
      : annotation.across == Across::partial
          ? "partial"
          : fmt::format("split {}{}", annotation.dimension,
                        annotation.interleaved ? " interleaved" : "");
  const auto& groups = annotation.groups;
  for (std::size_t u = 0; u < groups.size();) {
    // Equal layouts in a row are said once: the first and the last of them.
    std::size_t end = u + 1;
    while (end < groups.size() && groups[end].states == groups[u].states) ++end;
    const std::size_t alike = end - u;
    text += fmt::format(" {{[{}]", devices_text(groups[u].devices));
    if (alike > 2) {
      text += fmt::format(" to [{}], {} groups",
                          devices_text(groups[end - 1].devices), alike);
    }
    if (alike == 2)
      text += fmt::format(" [{}]", devices_text(groups[u + 1].devices));
    text += fmt::format(":{}}}", states_text(groups[u].states));
    u = end;
  }
  return text;
}

}  // namespace troupe::strategy
