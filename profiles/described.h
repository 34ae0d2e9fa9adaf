// Files of other projects that describe and do not measure: what they are and
// where that belongs here.
#pragma once

#include <string_view>

#include "base/json.h"

namespace troupe::profiles {

/// Empty for a file that is none of the known ones.
std::string_view described_in(const Json& json);
std::string_view described_in(std::string_view text);

}  // namespace troupe::profiles
