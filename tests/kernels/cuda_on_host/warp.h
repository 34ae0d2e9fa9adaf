// What the lanes of a warp do together, and what threads do to memory
// together.
#pragma once

#include <algorithm>
#include <cstring>

#include "tests/kernels/cuda_on_host/machine.h"

namespace troupe::on_host {

template <typename T>
struct Shuffle {
  T value;
  int from;
};

template <typename T>
T shuffle(std::uint32_t mask, T value, int from) {
  const Shuffle<T> mine{value, from};
  static_assert(sizeof mine <= Lanes::kBytes);
  T out;
  together(mask, &mine, sizeof mine, &out, sizeof out, [](Lanes& lanes) {
    for (std::size_t l = 0; l < 32; ++l) {
      if ((lanes.mask >> l & 1U) == 0) continue;
      Shuffle<T> here, there;
      std::memcpy(&here, lanes.in[l].data(), sizeof here);
      const auto from_lane = static_cast<std::size_t>(here.from);
      // What an absent lane gives is undefined; NaN makes it seen.
      std::memset(&there, 0xFF, sizeof there);
      if ((lanes.mask >> from_lane & 1U) != 0) {
        std::memcpy(&there, lanes.in[from_lane].data(), sizeof there);
      }
      std::memcpy(lanes.out[l].data(), &there.value, sizeof(T));
    }
  });
  return out;
}

/// The lane `offset` away within sections of `width`, or this one.
inline int section(int width) { return lane() & ~(width - 1); }

}  // namespace troupe::on_host

template <typename T>
T __shfl_sync(unsigned mask, T value, int from, int width = 32) {
  using namespace troupe::on_host;
  return shuffle(mask, value, section(width) + (from & (width - 1)));
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
  using namespace troupe::on_host;
  const int from = lane() ^ bits;
  return shuffle(mask, value, from < section(width) + width ? from : lane());
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32) {
  using namespace troupe::on_host;
  const int from = lane() + static_cast<int>(by);
  return shuffle(mask, value, from < section(width) + width ? from : lane());
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32) {
  using namespace troupe::on_host;
  const int from = lane() - static_cast<int>(by);
  return shuffle(mask, value, from >= section(width) ? from : lane());
}
inline unsigned __ballot_sync(unsigned mask, int vote) {
  using troupe::on_host::Lanes;
  unsigned out = 0;
  troupe::on_host::together(
      mask, &vote, sizeof vote, &out, sizeof out, [](Lanes& lanes) {
        unsigned votes = 0;
        for (std::size_t l = 0; l < 32; ++l) {
          int given = 0;
          if ((lanes.mask >> l & 1U) == 0) continue;
          std::memcpy(&given, lanes.in[l].data(), sizeof given);
          if (given != 0) votes |= 1U << l;
        }
        for (std::size_t l = 0; l < 32; ++l) {
          if ((lanes.mask >> l & 1U) == 0) continue;
          std::memcpy(lanes.out[l].data(), &votes, sizeof votes);
        }
      });
  return out;
}
inline int __any_sync(unsigned mask, int vote) {
  return __ballot_sync(mask, vote) != 0;
}
inline int __all_sync(unsigned mask, int vote) {
  return __ballot_sync(mask, vote) == mask;
}
inline void __syncwarp(unsigned mask = 0xFFFFFFFFU) {
  (void)__ballot_sync(mask, 0);
}

inline void __syncthreads() { (void)troupe::on_host::barrier(); }
inline int __syncthreads_count(int vote) {
  return troupe::on_host::barrier(vote != 0);
}
inline int __syncthreads_or(int vote) {
  return troupe::on_host::barrier(vote != 0) != 0;
}

// Only one thread runs at a time, so plain memory operations are atomic.
template <typename T>
T atomicAdd(T* at, T value) {
  const T old = *at;
  *at = old + value;
  return old;
}
template <typename T>
T atomicMax(T* at, T value) {
  const T old = *at;
  *at = std::max(old, value);
  return old;
}
template <typename T>
T atomicCAS(T* at, T expected, T value) {
  const T old = *at;
  if (old == expected) *at = value;
  return old;
}
inline void __threadfence() {}
inline void __threadfence_block() {}
