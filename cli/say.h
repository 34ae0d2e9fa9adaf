// Prints answers. A full disk or a closed pipe is found by `main` when it
// flushes; nothing is thrown on the way.
#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <string>
#include <utility>

namespace troupe::cli {

/// fmt::print to standard output, without its exception.
template <typename... Args>
void say(fmt::format_string<Args...> format, Args&&... args) {
  const std::string text = fmt::format(format, std::forward<Args>(args)...);
  std::fwrite(text.data(), 1, text.size(), stdout);
}

}  // namespace troupe::cli
