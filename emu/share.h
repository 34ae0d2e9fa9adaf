// What ranks tell each other besides the numbers of training.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "exec/communicator.h"

namespace troupe::emu {

/// Each rank's text, by rank, on every rank. All ranks of the run call it.
Result<std::vector<std::string>> share(exec::Communicator& communicator,
                                       int ranks, const std::string& mine);

/// Compares what ranks are to perform, each in its own words.
///
/// Errors: unavailable, on every rank, naming the first that differs.
Result<void> agree(exec::Communicator& communicator, int ranks,
                   const std::string& mine);

/// The error of the lowest rank that has one, on every rank; it says which
/// rank, unless all have the same.
Result<std::optional<Error>> first_error(exec::Communicator& communicator,
                                         int ranks,
                                         const std::optional<Error>& mine);

}  // namespace troupe::emu
