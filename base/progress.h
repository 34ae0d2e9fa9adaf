// One status line, overwritten in place on a terminal, silent elsewhere.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace troupe {

/// Shows "[done/total] text, time left" on stderr. One thread at a time.
class Progress {
 public:
  /// Nothing is shown unless stderr is a terminal or `always` is set; then
  /// without a terminal a line is printed at each tenth.
  explicit Progress(std::string title, std::int64_t total, bool always = false);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();

  void update(std::int64_t done, std::string_view text = {});

 private:
  std::string title_;
  std::int64_t total_;
  std::int64_t last_tenth_ = -1;
  bool terminal_;
  bool enabled_;
  std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::time_point last_;
};

/// Set by SIGINT and SIGTERM once `catch_interrupts` was called; long loops
/// look at it and return Fault::interrupted.
bool interrupted();
void catch_interrupts();

}  // namespace troupe
