#include "kernels/dynamic_library.h"

#include <dlfcn.h>

namespace troupe::kernels {

Result<void*> open_library(const std::string& name,
                           std::span<const std::string> places) {
  std::string reason;
  for (const std::string& place : places) {
    if (void* const library = dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL)) {
      return library;
    }
    const char* const said = dlerror();
    if (reason.empty() && said != nullptr) reason = said;
  }
  return fail(Fault::unavailable, name + " cannot be opened: " + reason +
                                      "; add its folder to LD_LIBRARY_PATH");
}

}  // namespace troupe::kernels
