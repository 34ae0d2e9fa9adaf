// Numbers that look random and follow from what they are for.
#pragma once

#include <cstdint>

namespace troupe::data {

/// A well-mixed function of its argument: the finaliser of splitmix64.
///
/// Source: Steele, Lea, Flood, Fast splittable pseudorandom number
///         generators, OOPSLA 2014.
inline std::uint64_t mixed(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15ULL;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

}  // namespace troupe::data
