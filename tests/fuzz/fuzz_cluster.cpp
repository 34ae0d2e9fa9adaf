// Any bytes as a cluster file or short form.
#include <cstddef>
#include <cstdint>

#include "clusters/read.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto json = troupe::parse_json(text, "fuzz");
  const auto cluster = json ? troupe::clusters::parse_cluster(*json, "fuzz")
                            : troupe::clusters::parse_cluster(
                                  troupe::Json(std::string(text)), "fuzz");
  if (cluster && cluster->devices.size() > 1) {
    (void)cluster->route({0}, {1});
  }
  return 0;
}
