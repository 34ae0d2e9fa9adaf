// Independent pieces of work on all cores.
#pragma once

#include <tbb/parallel_for.h>

#include <cstddef>

#include "base/sanitizers.h"

#if defined(TROUPE_TSAN)
#include <sanitizer/tsan_interface.h>
#endif

namespace troupe::cli {

/// Performs `body(0)` to `body(count - 1)`, in any order and at the same
/// time, and returns when all have ended. Results belong into places of
/// their own.
template <typename Body>
void in_parallel(std::size_t count, const Body& body) {
#if defined(TROUPE_TSAN)
  // The scheduler is a library that ThreadSanitizer does not see into: this
  // is the order that it gives, and there is none between the pieces.
  char begins = 0;
  char ends = 0;
  __tsan_release(&begins);
  tbb::parallel_for(std::size_t{0}, count, [&](std::size_t i) {
    __tsan_acquire(&begins);
    body(i);
    __tsan_release(&ends);
  });
  __tsan_acquire(&ends);
#else
  tbb::parallel_for(std::size_t{0}, count, body);
#endif
}

}  // namespace troupe::cli
