// Tells AddressSanitizer and ThreadSanitizer on which stack a thread runs;
// nothing where neither is on.
#pragma once

#include <cstddef>

#include "base/sanitizers.h"

#if defined(TROUPE_ASAN)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(TROUPE_TSAN)
#include <sanitizer/tsan_interface.h>
// A function that changes stacks is not one that the sanitizer sees called on
// one stack and returning on another.
#define TROUPE_CHANGES_STACK __attribute__((no_sanitize("thread")))
#else
#define TROUPE_CHANGES_STACK
#endif

namespace troupe {

/// How many times larger the frames of instrumented code may be.
#if defined(TROUPE_ASAN) || defined(TROUPE_TSAN)
constexpr std::size_t kFrameGrowth = 4;
#else
constexpr std::size_t kFrameGrowth = 1;
#endif

/// One fibre, as sanitizers see it. A turn of the fibre is announced by, in
/// this order: `entering` on the thread's stack, `entered` on the fibre's,
/// `leaving` there, and `left` on the thread's. A fibre that ends announces
/// nothing: the thread does, by `ended`.
class FibreSwitch {
 public:
  FibreSwitch() = default;
  /// A fibre that has not run yet, with its stack of `size` bytes.
  FibreSwitch([[maybe_unused]] const void* bottom,
              [[maybe_unused]] std::size_t size) {
#if defined(TROUPE_ASAN)
    fibre_bottom_ = bottom;
    fibre_size_ = size;
#endif
#if defined(TROUPE_TSAN)
    fibre_ = __tsan_create_fiber(0);
#endif
  }

  TROUPE_CHANGES_STACK void entering() {
#if defined(TROUPE_ASAN)
    __sanitizer_start_switch_fiber(&thread_frames_, fibre_bottom_, fibre_size_);
#endif
#if defined(TROUPE_TSAN)
    thread_ = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(fibre_, 0);
#endif
  }

  TROUPE_CHANGES_STACK void entered() {
#if defined(TROUPE_ASAN)
    __sanitizer_finish_switch_fiber(fibre_frames_, &thread_bottom_,
                                    &thread_size_);
#endif
  }

  TROUPE_CHANGES_STACK void leaving() {
#if defined(TROUPE_ASAN)
    __sanitizer_start_switch_fiber(&fibre_frames_, thread_bottom_,
                                   thread_size_);
#endif
#if defined(TROUPE_TSAN)
    __tsan_switch_to_fiber(thread_, 0);
#endif
  }

  TROUPE_CHANGES_STACK void left() {
#if defined(TROUPE_ASAN)
    __sanitizer_finish_switch_fiber(thread_frames_, nullptr, nullptr);
#endif
  }

  /// On the thread's stack, which the sanitizers still take for the fibre's:
  /// what a fibre does to end belongs to it.
  TROUPE_CHANGES_STACK void ended() {
#if defined(TROUPE_ASAN)
    __sanitizer_start_switch_fiber(nullptr, thread_bottom_, thread_size_);
    __sanitizer_finish_switch_fiber(thread_frames_, nullptr, nullptr);
#endif
#if defined(TROUPE_TSAN)
    __tsan_switch_to_fiber(thread_, 0);
    __tsan_destroy_fiber(fibre_);
#endif
  }

 private:
#if defined(TROUPE_ASAN)
  const void* fibre_bottom_ = nullptr;
  std::size_t fibre_size_ = 0;
  void* fibre_frames_ = nullptr;  ///< ASan's fake frames, while it is away
  const void* thread_bottom_ = nullptr;
  std::size_t thread_size_ = 0;
  void* thread_frames_ = nullptr;
#endif
#if defined(TROUPE_TSAN)
  void* fibre_ = nullptr;
  void* thread_ = nullptr;
#endif
};

}  // namespace troupe
