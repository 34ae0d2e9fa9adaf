// Any bytes as a file of measurements, into a database in memory.
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "base/file.h"
#include "profiles/database.h"
#include "profiles/ingest.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  static auto database = troupe::profiles::open_or_create(":memory:");
  if (!database) std::abort();
  static const std::string path =
      "/tmp/troupe_fuzz_" + std::to_string(::getpid()) + ".csv";
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (!troupe::write_file(path, text)) return 0;
  (void)troupe::profiles::ingest(*database, path);
  // Files that name no device, and none of the ranks.
  (void)troupe::profiles::ingest(*database, path, {.device = "t4"});
  (void)troupe::profiles::ingest(*database, path,
                                 {.device = "t4", .ranks = 16, .per_node = 8});
  return 0;
}
