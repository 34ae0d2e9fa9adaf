#include "strategy/deduce.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>

namespace troupe::strategy {
namespace {

/// A run of device indices that one key numbers: `count` steps.
struct Axis {
  int key = kDuplicate;
  int count = 1;
};

/// What two operands do along the same steps of the device index.
struct Pair {
  int a = kDuplicate;
  int b = kDuplicate;
  int count = 1;
};

int count_of(const States& states, int key) {
  return key == kDuplicate ? states.duplicate
         : key == kPartial ? states.partial
                           : states.parts(key);
}

/// The axes of a layout, slowest first; counts of 1 are left out.
std::vector<Axis> axes_of(const States& states) {
  std::vector<int> order = states.order;
  if (order.empty()) {
    order = {kPartial, kDuplicate};
    for (const auto& [dimension, parts] : states.split) {
      order.push_back(dimension);
    }
  }
  std::vector<Axis> axes;
  for (const int key : order) {
    const int count = count_of(states, key);
    if (count > 1) axes.push_back({key, count});
  }
  return axes;
}

/// Cuts both lists of axes where the other one ends; nothing when a count
/// neither divides nor is divided.
std::optional<std::vector<Pair>> common_axes(std::vector<Axis> a,
                                             std::vector<Axis> b) {
  std::vector<Pair> pairs;
  while (!a.empty() || !b.empty()) {
    if (a.empty() || b.empty()) return {};
    Axis& x = a.back();
    Axis& y = b.back();
    const int step = std::min(x.count, y.count);
    if (x.count % step != 0 || y.count % step != 0) return {};
    pairs.push_back({x.key, y.key, step});
    x.count /= step;
    y.count /= step;
    if (x.count == 1) a.pop_back();
    if (y.count == 1) b.pop_back();
  }
  std::ranges::reverse(pairs);
  return pairs;
}

/// The layout with these axes, slowest first. A key may stand in several
/// neighbouring axes, for they number one run of devices.
std::optional<States> states_of(const std::vector<Axis>& axes) {
  States states;
  std::map<int, int> split;
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const auto [key, count] = axes[i];
    const bool again = i > 0 && axes[i - 1].key == key;
    const bool seen =
        std::ranges::find(states.order, key) != states.order.end();
    if (seen && !again) return {};
    if (!seen) states.order.push_back(key);
    if (key == kDuplicate) {
      states.duplicate *= count;
    } else if (key == kPartial) {
      states.partial *= count;
    } else {
      split.try_emplace(key, 1).first->second *= count;
    }
  }
  states.split.assign(split.begin(), split.end());
  return states;
}

/// The result's key where the operands of a product have these keys.
std::optional<int> product_key(int a, int b) {
  if (a == kDuplicate && b == kDuplicate) return kDuplicate;
  if (a == 0 && b == kDuplicate) return 0;
  if (a == kDuplicate && b == 1) return 1;
  if (a == 1 && b == 0) return kPartial;
  if (a == kPartial && b == kDuplicate) return kPartial;
  if (a == kDuplicate && b == kPartial) return kPartial;
  return {};
}

std::string key_name(int key) {
  return key == kDuplicate ? "copies"
         : key == kPartial ? "summands"
                           : fmt::format("cuts dimension {}", key);
}

/// How subgroups relate, as a key of the same kind.
int across_key(const Annotation& a) {
  switch (a.across) {
    case Across::replicated:
      return kDuplicate;
    case Across::partial:
      return kPartial;
    case Across::split:
      return a.dimension;
  }
  return kDuplicate;
}

void set_across(Annotation& a, int key) {
  a.across = key == kDuplicate ? Across::replicated
             : key == kPartial ? Across::partial
                               : Across::split;
  a.dimension = std::max(key, 0);
}

Result<void> same_groups(const Annotation& a, const Annotation& b) {
  const bool same = std::ranges::equal(a.groups, b.groups, {},
                                       &Subgroup::devices, &Subgroup::devices);
  if (same) return {};
  return fail(Fault::input,
              fmt::format("operands lie on different devices: {} and {}",
                          to_string(a), to_string(b)));
}

/// Renames the keys of a layout; a key that `rename` gives nothing for ends
/// the deduction.
template <typename Rename>
Result<Annotation> renamed(const Annotation& a, Rename rename,
                           const char* what) {
  Annotation out = a;
  for (Subgroup& group : out.groups) {
    std::vector<Axis> axes = axes_of(group.states);
    for (Axis& axis : axes) {
      const std::optional<int> key = rename(axis.key);
      if (!key) {
        return fail(Fault::input,
                    fmt::format("{}: {} of {}", what, key_name(axis.key),
                                to_string(a)));
      }
      axis.key = *key;
    }
    const auto states = states_of(axes);
    if (!states) {
      return fail(Fault::input,
                  fmt::format("{}: devices of {} are numbered so that no order "
                              "describes the result",
                              what, to_string(a)));
    }
    group.states = *states;
  }
  if (out.groups.size() > 1) {
    const std::optional<int> key = rename(across_key(a));
    if (!key) {
      return fail(Fault::input,
                  fmt::format("{}: subgroups of {}", what, to_string(a)));
    }
    set_across(out, *key);
  }
  return out;
}

}  // namespace

Result<Annotation> deduce_product(const Annotation& a, const Annotation& b) {
  TRY_DO(same_groups(a, b));
  Annotation c = a;
  for (std::size_t u = 0; u < a.groups.size(); ++u) {
    const auto pairs =
        common_axes(axes_of(a.groups[u].states), axes_of(b.groups[u].states));
    std::vector<Axis> axes;
    if (pairs) {
      for (const Pair& pair : *pairs) {
        const auto key = product_key(pair.a, pair.b);
        if (!key) {
          return fail(
              Fault::input,
              fmt::format("product in subgroup {}: {} devices that are "
                          "{} of the left operand are {} of the right",
                          u, pair.count, key_name(pair.a), key_name(pair.b)));
        }
        axes.push_back({*key, pair.count});
      }
    }
    const auto states = pairs ? states_of(axes) : std::nullopt;
    if (!states) {
      return fail(Fault::input,
                  fmt::format("product in subgroup {}: {} and {} number the "
                              "devices in ways that do not fit",
                              u, to_string(a), to_string(b)));
    }
    c.groups[u].states = *states;
  }
  if (c.groups.size() < 2) return c;
  const auto key = product_key(across_key(a), across_key(b));
  if (!key) {
    return fail(Fault::input,
                fmt::format("product: subgroups are {} of the left operand and "
                            "{} of the right",
                            key_name(across_key(a)), key_name(across_key(b))));
  }
  set_across(c, *key);
  c.interleaved = a.interleaved && *key == across_key(a);
  return c;
}

Result<Annotation> deduce_pointwise(std::span<const Annotation> operands,
                                    bool linear) {
  if (operands.empty()) return fail(Fault::input, "an operator of nothing");
  const Annotation& first = operands.front();
  for (const Annotation& other : operands) {
    TRY_DO(same_groups(first, other));
    bool same = across_key(first) == across_key(other) &&
                first.interleaved == other.interleaved;
    for (std::size_t u = 0; u < first.groups.size(); ++u) {
      const auto pairs = common_axes(axes_of(first.groups[u].states),
                                     axes_of(other.groups[u].states));
      same = same && pairs && std::ranges::all_of(*pairs, [](const Pair& p) {
               return p.a == p.b;
             });
    }
    if (!same) {
      return fail(Fault::input,
                  fmt::format("operands differ in layout: {} and {}",
                              to_string(first), to_string(other)));
    }
  }
  if (!linear && summands(first) > 1) {
    return fail(Fault::input,
                fmt::format("a non-linear operator needs whole values, {} "
                            "holds summands",
                            to_string(first)));
  }
  return first;
}

Result<Annotation> deduce_sum(const Annotation& a, int dimension) {
  return renamed(
      a,
      [dimension](int key) -> std::optional<int> {
        if (key == dimension) return kPartial;
        return key > dimension ? key - 1 : key;
      },
      "sum");
}

Annotation deduce_transpose(const Annotation& a) {
  Annotation out = a;
  const auto swap = [](int key) { return key < 0 ? key : 1 - key; };
  for (Subgroup& group : out.groups) {
    if (group.states.order.empty()) {
      for (const Axis& axis : axes_of(group.states)) {
        group.states.order.push_back(axis.key);
      }
    }
    for (auto& [dimension, parts] : group.states.split) {
      dimension = swap(dimension);
    }
    std::ranges::sort(group.states.split);
    std::ranges::transform(group.states.order, group.states.order.begin(),
                           swap);
  }
  if (a.across == Across::split) out.dimension = swap(a.dimension);
  return out;
}

Result<Annotation> deduce_lookup(const Annotation& ids,
                                 const Annotation& table) {
  // A look-up is the product of the tokens' one-hot rows with the table: ids
  // cut their rows, and hold every column of them.
  Annotation one_hot = ids;
  for (std::size_t u = 0; u < one_hot.groups.size(); ++u) {
    if (u >= table.groups.size()) break;
    States& states = one_hot.groups[u].states;
    const int rows = table.groups[u].states.parts(0);
    if (rows == 1) continue;
    if (states.duplicate % rows != 0) {
      return fail(Fault::input,
                  fmt::format("look-up in subgroup {}: tokens are held {} "
                              "times, the table is cut into {}",
                              u, states.duplicate, rows));
    }
    // Copies of the tokens each look at their rows of the table.
    const auto pairs =
        common_axes(axes_of(states), axes_of(table.groups[u].states));
    if (!pairs) {
      return fail(Fault::input,
                  "look-up: devices are numbered in ways that "
                  "do not fit");
    }
    std::vector<Axis> axes;
    for (const Pair& pair : *pairs) {
      const bool cut = pair.a == kDuplicate && pair.b == 0;
      axes.push_back({cut ? 1 : pair.a, pair.count});
    }
    const auto cut = states_of(axes);
    if (!cut) return fail(Fault::input, "look-up: copies lie apart");
    states = *cut;
  }
  return deduce_product(one_hot, table);
}

Result<Annotation> deduce_cross_entropy(const Annotation& logits) {
  if (summands(logits) > 1) {
    return fail(Fault::input,
                fmt::format("cross-entropy needs whole logits, {} holds "
                            "summands",
                            to_string(logits)));
  }
  return renamed(
      logits,
      [](int key) -> std::optional<int> { return key == 1 ? kDuplicate : key; },
      "cross-entropy");
}

Result<Annotation> deduce_reshape(const Annotation& a,
                                  std::span<const std::int64_t> from,
                                  std::span<const std::int64_t> to) {
  // A dimension's place: how many elements one step of it spans before.
  std::map<int, int> moved;
  std::map<int, std::int64_t> sizes;
  std::int64_t before = 1;
  for (std::size_t d = 0; d < from.size(); ++d) {
    std::int64_t there = 1;
    for (std::size_t t = 0; t < to.size(); ++t) {
      if (there == before && to[t] > 1) {
        moved.try_emplace(static_cast<int>(d), static_cast<int>(t));
        sizes[static_cast<int>(d)] = to[t];
        break;
      }
      there *= to[t];
    }
    before *= from[d];
  }
  for (const Subgroup& group : a.groups) {
    for (const auto& [dimension, parts] : group.states.split) {
      const bool fits =
          moved.contains(dimension) && sizes[dimension] % parts == 0;
      if (fits) continue;
      return fail(Fault::input,
                  fmt::format("reshape: dimension {} is cut into {}, and no "
                              "dimension of the new shape can be",
                              dimension, parts));
    }
  }
  return renamed(
      a,
      [&moved](int key) -> std::optional<int> {
        if (key < 0) return key;
        const auto at = moved.find(key);
        if (at == moved.end()) return {};
        return at->second;
      },
      "reshape");
}

Result<Annotation> deduce_slice(const Annotation& a, int dimension) {
  const bool across = a.across == Across::split && a.dimension == dimension;
  const bool within = std::ranges::any_of(a.groups, [&](const Subgroup& g) {
    return g.states.parts(dimension) > 1;
  });
  if (!across && !within) return a;
  return fail(Fault::input,
              fmt::format("slice: dimension {} is cut over devices in {}",
                          dimension, to_string(a)));
}

}  // namespace troupe::strategy
