// Any bytes as a strategy, native or foreign by the first byte.
#include <array>
#include <cstddef>
#include <cstdint>

#include "strategy/load.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  if (size == 0) return 0;
  static constexpr std::array kFrom{"",          "hspmd",     "hotspa",
                                    "hydraulis", "hexiscale", "megatron"};
  troupe::strategy::LoadOptions options;
  options.from = kFrom[data[0] % kFrom.size()];
  options.case_index = 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1,
                              size - 1);
  (void)troupe::strategy::load_plan_text(text, "fuzz.json", options);
  return 0;
}
