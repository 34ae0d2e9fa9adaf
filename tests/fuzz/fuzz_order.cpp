// Any bytes as a task order file.
#include <cstddef>
#include <cstdint>

#include "schedule/order.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto json = troupe::parse_json(text, "fuzz");
  if (!json) return 0;
  troupe::strategy::Phase phase;
  phase.pipelines.resize(1);
  phase.pipelines[0].micro_batches = 2;
  phase.pipelines[0].stages.resize(2);
  for (auto& stage : phase.pipelines[0].stages) stage.chunks = {{0, 1}};
  (void)troupe::schedule::parse_order(*json, "fuzz", phase);
  return 0;
}
