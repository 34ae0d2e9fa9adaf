// Any bytes as a model file: an error or a model, never a crash.
#include <cstddef>
#include <cstdint>

#include "models/model.h"
#include "models/read.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto json = troupe::parse_json(text, "fuzz");
  if (!json) return 0;
  const auto model = troupe::models::parse_model(*json, "fuzz");
  if (model) troupe::models::parameters(*model);
  return 0;
}
