// What architecture a device kind is, and how other projects spell kinds.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace troupe::profiles {

/// "ampere", "hopper", ... by the beginning of the name, or empty.
std::string_view architecture_of(std::string_view device);

/// The silicon and its interconnect without the memory size: "a100-sxm" of
/// "a100-sxm-80". Devices of one board reach the same rates in collectives.
std::string_view board_of(std::string_view device);

/// Our name for another project's ("A100-40", "T4 (g4dn.12xlarge)", "a100").
std::optional<std::string> device_alias(std::string_view foreign);

}  // namespace troupe::profiles
