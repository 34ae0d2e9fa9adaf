// Which format a file is, by its content.
#pragma once

#include <string_view>

#include "base/json.h"
#include "profiles/ingest.h"

namespace troupe::profiles {

/// `automatic` when it is none.
Format format_of_json(const Json& json);
/// Of a text that is no JSON; `name` of the file where the content is too
/// little.
Format format_of_text(std::string_view text, std::string_view name);

/// What must be parsed as JSON as a whole.
bool is_json(Format format);

}  // namespace troupe::profiles
