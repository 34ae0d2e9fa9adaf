// Unicode's normal forms, by utf8proc.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace troupe::data {

enum class NormalForm : std::uint8_t { nfc, nfd, nfkc, nfkd };

/// Requires: UTF-8.
/// Errors:   io, without memory.
Result<std::string> normalized(std::string_view text, NormalForm form);

}  // namespace troupe::data
