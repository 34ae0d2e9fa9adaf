// Reading a file of whatever format, told by the option or by its content.
#pragma once

#include <filesystem>

#include "base/result.h"
#include "profiles/gather.h"
#include "profiles/ingest.h"

namespace troupe::profiles {

/// The rows of a file into `gather`, refused ones with their places.
///
/// Errors: input for a file of no known format or one that cannot be read as
///         a whole.
Result<void> read_any(const std::filesystem::path& path,
                      const IngestOptions& options, Gather& gather);

}  // namespace troupe::profiles
