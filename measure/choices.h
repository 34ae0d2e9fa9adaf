// What a machine chose by timing (algorithms, attention bodies), kept in a
// file beside the profile database, so that the next process need not choose
// again.
#pragma once

#include <filesystem>

#include "measure/machine.h"

namespace troupe::measure {

/// DATABASE.choices-DEVICE-LIBRARIES: another device, driver or version of a
/// library has a file of its own. Empty for ":memory:".
std::filesystem::path choices_path(const std::filesystem::path& database,
                                   const MachineInfo& machine);

/// Hands the file to the machine. A file that is not there is no error.
///
/// Errors: of reading; of the machine.
Result<void> load_choices(const std::filesystem::path& path, Machine& machine);

/// Writes what the machine has chosen and keeps lines of the file about
/// things that it did not meet. Nothing is written where nothing was chosen.
///
/// Format: one choice a line, "KIND;GPU;LIBRARY;PROBLEM;...": the first four
///         fields are its key.
/// Errors: of reading and writing.
Result<void> save_choices(const std::filesystem::path& path,
                          const Machine& machine);

}  // namespace troupe::measure
