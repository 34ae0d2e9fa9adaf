// Reading and writing whole files, with limits, and never half-written.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/units.h"

namespace troupe {

/// The bytes of a file.
///
/// Errors: input when it is missing, a folder, unreadable or over `most`.
Result<std::string> read_file(const std::filesystem::path& path,
                              Bytes most = Bytes{std::int64_t{256} << 20});

/// Writes through a temporary file and a rename, so that an interruption or
/// a full disk leaves either the old file or the new one. A link is followed;
/// a device or pipe is written to as it is.
///
/// Errors: io, with the system's reason; the temporary file is removed.
Result<void> write_file(const std::filesystem::path& path,
                        std::string_view text);

/// Where the shipped models, clusters, examples and measurements are: the
/// variable TROUPE_DATA, else beside the binary, else the source tree.
std::filesystem::path data_root();

/// Where databases go unless told otherwise: the variable TROUPE_HOME, else
/// ~/.troupe. The folder is not created.
std::filesystem::path home_root();

/// A shipped file by name: `path` itself when it exists or looks like a path
/// (a slash or .json in it), else `data_root()/folder/NAME.json`.
///
/// Errors: input, naming the shipped names that come close.
Result<std::filesystem::path> find_shipped(std::string_view path_or_name,
                                           std::string_view folder);

/// 128-bit content hash as 32 hexadecimal digits (XXH3).
std::string content_hash(std::string_view bytes);

}  // namespace troupe
