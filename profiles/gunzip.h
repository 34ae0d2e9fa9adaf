// Reading gzip files, with a limit on what they expand to.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "base/units.h"

namespace troupe::profiles {

/// Whether the bytes begin as a gzip file does.
bool is_gzip(std::string_view bytes);

/// The content of a gzip file. `name` stands for it in messages.
///
/// Errors: input when it is damaged, truncated or expands beyond `most`.
Result<std::string> gunzip(std::string_view bytes, std::string_view name,
                           Bytes most = Bytes{std::int64_t{1} << 30});

}  // namespace troupe::profiles
