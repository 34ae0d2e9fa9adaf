// Eigen, as the bodies use it: row-major, one thread, and with one idea of
// the caches, so that products are split alike on every machine.
#pragma once

#include <Eigen/Core>
#include <cstdint>

#include "kernels/cpu/types.h"

namespace troupe::kernels::cpu {

template <typename S>
using Matrix =
    Eigen::Matrix<S, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <typename S, int Order>
using Operand =
    Eigen::Map<const Eigen::Matrix<S, Eigen::Dynamic, Eigen::Dynamic, Order>, 0,
               Eigen::OuterStride<>>;
template <typename S>
using Target = Eigen::Map<Matrix<S>, 0, Eigen::OuterStride<>>;

/// Tells Eigen the sizes of caches; cheap after the first time.
inline void fix_caches() {
  static const bool done = [] {
    // Those of a common server core: 32 KiB, 1 MiB, and a share of the last.
    Eigen::setCpuCacheSizes(32 << 10, 1 << 20, 4 << 20);
    return true;
  }();
  static_cast<void>(done);
}

/// to(rows, columns), packed or with row stride `to_ld`, = from.
template <typename S, typename T>
void load_block(S* to, std::int64_t to_ld, const T* from, std::int64_t from_ld,
                std::int64_t rows, std::int64_t columns) {
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j) {
      to[i * to_ld + j] = load(from[i * from_ld + j]);
    }
  }
}

}  // namespace troupe::kernels::cpu
