// Any bytes as a schedule file, checked as `troupe check` does.
#include <cstddef>
#include <cstdint>

#include "schedule/check.h"
#include "schedule/file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto json = troupe::parse_json(text, "fuzz");
  if (!json) return 0;
  const auto read = troupe::schedule::schedule_from_json(*json, "fuzz");
  if (read) {
    (void)troupe::schedule::check_schedule(*read, nullptr, {});
  }
  return 0;
}
