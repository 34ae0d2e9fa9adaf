// What the tests of resolution share: clusters and random layouts.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "clusters/read.h"
#include "reshard/resolve.h"
#include "tests/support/dice.h"

namespace troupe::reshard {

inline clusters::Cluster cluster_of(const char* text) {
  auto cluster = clusters::read_cluster(text);
  EXPECT_TRUE(cluster) << (cluster ? "" : cluster.error().message);
  return cluster ? *std::move(cluster) : clusters::Cluster{};
}

inline std::filesystem::path seeds() {
  const char* set = std::getenv("TROUPE_SHARED");
  const std::filesystem::path shared =
      set && *set ? set : TROUPE_SOURCE_DIR "/../shared";
  return shared / "seeds-data";
}

using test::Dice;

/// Splits `devices` in random factors over dimensions, copies and summands.
inline strategy::States random_states(Dice& dice, int devices, int dimensions,
                                      int partial) {
  strategy::States states;
  states.partial = partial;
  int left = devices / partial;
  std::vector<int> parts(static_cast<std::size_t>(dimensions), 1);
  for (int factor = 2; left > 1;) {
    if (left % factor != 0) {
      ++factor;
      continue;
    }
    left /= factor;
    const int where = dice.below(dimensions + 1);
    if (where == dimensions) {
      states.duplicate *= factor;
    } else {
      parts[static_cast<std::size_t>(where)] *= factor;
    }
  }
  std::vector<int> order;
  if (states.partial > 1) order.push_back(strategy::kPartial);
  if (states.duplicate > 1) order.push_back(strategy::kDuplicate);
  for (int d = 0; d < dimensions; ++d) {
    const int count = parts[static_cast<std::size_t>(d)];
    if (count == 1) continue;
    states.split.emplace_back(d, count);
    order.push_back(d);
  }
  if (!dice.one_in(3)) {
    for (std::size_t i = order.size(); i > 1; --i) {
      std::swap(
          order[i - 1],
          order[static_cast<std::size_t>(dice.below(static_cast<int>(i)))]);
    }
    states.order = order;
  }
  return states;
}

/// A divisor of n, often 1.
inline int random_partial(Dice& dice, int n) {
  if (!dice.one_in(3)) return 1;
  std::vector<int> divisors;
  for (int d = 1; d <= n; ++d) {
    if (n % d == 0) divisors.push_back(d);
  }
  return divisors[static_cast<std::size_t>(
      dice.below(static_cast<int>(divisors.size())))];
}

/// 1 to 4 subgroups of random sizes and layouts on random devices of `pool`.
inline Annotation random_annotation(Dice& dice, std::vector<int> pool,
                                    int dimensions) {
  for (std::size_t i = pool.size(); i > 1 && dice.one_in(2); --i) {
    std::swap(pool[i - 1],
              pool[static_cast<std::size_t>(dice.below(static_cast<int>(i)))]);
  }
  Annotation out;
  const int most = static_cast<int>(pool.size());
  const int groups = dice.one_in(2) ? 1 : 1 + dice.below(std::min(most, 4));
  std::size_t next = 0;
  for (int u = 0; u < groups; ++u) {
    const int rest = most - static_cast<int>(next) - (groups - 1 - u);
    const int size = 1 + dice.below(rest);
    strategy::Subgroup group;
    for (int i = 0; i < size; ++i) {
      group.devices.push_back(DeviceId{pool[next++]});
    }
    out.groups.push_back(std::move(group));
  }
  const int kind = dice.below(4);
  out.across = kind == 0   ? strategy::Across::partial
               : kind == 1 ? strategy::Across::replicated
                           : strategy::Across::split;
  out.dimension = dice.below(dimensions);
  out.interleaved = out.across == strategy::Across::split && dice.one_in(2);
  // Subgroups must hold equally many summands unless they are summands.
  int common = 0;
  for (const strategy::Subgroup& group : out.groups) {
    common = std::gcd(common, static_cast<int>(group.devices.size()));
  }
  const int partial = random_partial(dice, common);
  for (strategy::Subgroup& group : out.groups) {
    const int size = static_cast<int>(group.devices.size());
    const bool own = out.across == strategy::Across::partial;
    group.states = random_states(dice, size, dimensions,
                                 own ? random_partial(dice, size) : partial);
    if (dice.one_in(4)) group.weight = 1 + dice.below(3);
  }
  return out;
}

struct RandomChange {
  Annotation source, destination;
  Shape shape;
};

/// Two annotations of one tensor, on the same, overlapping or disjoint
/// devices; half of the pairs differ only in part, as real changes do.
inline RandomChange random_change(Dice& dice, int devices) {
  RandomChange out;
  const int dimensions = 1 + dice.below(3);
  for (int d = 0; d < dimensions; ++d) {
    out.shape.push_back(1 + dice.below(dice.one_in(3) ? 40 : 12));
  }
  // Mostly several devices: a single one has little to communicate.
  const int least = std::min(devices, dice.one_in(8) ? 1 : 3);
  const int size = least + dice.below(devices - least + 1);
  const int first = dice.below(devices - size + 1);
  std::vector<int> pool;
  for (int i = 0; i < size; ++i) pool.push_back(first + i);
  out.source = random_annotation(dice, pool, dimensions);
  const int relation = dice.below(4);
  if (relation < 2) {
    // The same groups: as a whole otherwise, or each with another layout.
    out.destination = out.source;
    const int other = (static_cast<int>(out.source.across) + dice.below(3)) % 3;
    out.destination.across = static_cast<strategy::Across>(other);
    if (relation == 1 && out.source.groups.size() > 1) return out;
    for (strategy::Subgroup& group : out.destination.groups) {
      if (out.source.groups.size() > 1 && dice.one_in(3)) continue;
      group.states = random_states(dice, static_cast<int>(group.devices.size()),
                                   dimensions, 1);
    }
    return out;
  }
  if (relation == 2) {
    const int other = dice.below(devices - size + 1);
    for (int& id : pool) id += other - first;
  }
  out.destination = random_annotation(dice, pool, dimensions);
  return out;
}

}  // namespace troupe::reshard
