#include "base/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>

namespace troupe {
namespace {

// Set by a signal on any thread, read by all: a plain flag would be a race.
std::atomic<bool> g_interrupted{false};
static_assert(std::atomic<bool>::is_always_lock_free);

extern "C" void on_interrupt(int number) {
  g_interrupted.store(true, std::memory_order_relaxed);
  std::signal(number, SIG_DFL);  // a second Ctrl-C ends at once
}

}  // namespace

Progress::Progress(std::string title, std::int64_t total, bool always)
    : title_(std::move(title)),
      total_(std::max<std::int64_t>(total, 1)),
      terminal_(::isatty(STDERR_FILENO) == 1),
      enabled_(terminal_ || always),
      start_(std::chrono::steady_clock::now()),
      last_(start_ - std::chrono::hours(1)) {}

Progress::~Progress() {
  if (enabled_ && terminal_) fmt::print(stderr, "\r\x1b[K");
}

void Progress::update(std::int64_t done, std::string_view text) {
  if (!enabled_) return;
  const auto now = std::chrono::steady_clock::now();
  const std::int64_t tenth = done * 10 / total_;
  if (terminal_) {
    if (now - last_ < std::chrono::milliseconds(100) && done < total_) return;
  } else if (tenth == last_tenth_) {
    return;
  }
  last_ = now;
  last_tenth_ = tenth;
  const double spent = std::chrono::duration<double>(now - start_).count();
  const double left = done > 0 ? spent * static_cast<double>(total_ - done) /
                                     static_cast<double>(done)
                               : 0.0;
  fmt::print(stderr, "{}[{}/{}] {} {}({:.0f} s left){}",
             terminal_ ? "\r\x1b[K" : "", done, total_, title_,
             text.empty() ? "" : fmt::format("{} ", text), left,
             terminal_ ? "" : "\n");
  std::fflush(stderr);
}

bool interrupted() { return g_interrupted.load(std::memory_order_relaxed); }

void catch_interrupts() {
  std::signal(SIGINT, on_interrupt);
  std::signal(SIGTERM, on_interrupt);
}

}  // namespace troupe
