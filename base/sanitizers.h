// Which sanitizer this source is compiled with, whatever the compiler's way
// of saying so: TROUPE_ASAN, TROUPE_TSAN, or neither.
#pragma once

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TROUPE_ASAN
#endif
#if __has_feature(thread_sanitizer)
#define TROUPE_TSAN
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) && !defined(TROUPE_ASAN)
#define TROUPE_ASAN
#endif
#if defined(__SANITIZE_THREAD__) && !defined(TROUPE_TSAN)
#define TROUPE_TSAN
#endif
