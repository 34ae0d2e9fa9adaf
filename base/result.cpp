#include "base/result.h"

#include <cstdio>
#include <cstdlib>

namespace troupe {

void check(bool condition, std::string_view what) {
  if (condition) return;
  std::fprintf(stderr,
               "troupe: internal error: %.*s\n"
               "This is a bug in troupe; please report it with the command "
               "and its input.\n",
               static_cast<int>(what.size()), what.data());
  std::_Exit(3);
}

}  // namespace troupe
