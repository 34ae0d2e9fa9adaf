#include "emu/waits.h"

#include <fmt/format.h>

#include <set>

namespace troupe::emu {

std::string blame(const std::map<std::int32_t, Wait>& waits) {
  std::set<std::int32_t> seen;
  auto at = waits.begin();
  std::string text = at->second.text;
  while (seen.insert(at->first).second) {
    const Wait& wait = at->second;
    if (wait.on == at->first) {
      return fmt::format("rank {} hangs; {}", at->first, text);
    }
    text = wait.text;
    if (wait.on < 0) return text;
    at = waits.find(wait.on);
    if (at == waits.end()) {
      return fmt::format("rank {} does not answer; {}", wait.on, text);
    }
  }
  return "all ranks wait for each other; " + text;
}

}  // namespace troupe::emu
