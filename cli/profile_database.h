// The profile database that a command works on.
#pragma once

#include <string>

#include "base/result.h"
#include "profiles/database.h"

namespace troupe::cli {

/// The database to write to: `given`, made when it is absent, or the default
/// one ($TROUPE_HOME/profiles.db), which gets the shipped measurements before
/// anything else.
///
/// Errors: io, when the folder of `given` does not exist; those of opening.
Result<profiles::Database> profiles_to_write(const std::string& given);

/// The database to read: `given`, which must be there, or the default one,
/// made on first use.
///
/// Errors: input, saying how to make it.
Result<profiles::Database> profiles_to_read(const std::string& given);

/// The same, but the default one must be there too.
Result<profiles::Database> existing_profiles(const std::string& given);

}  // namespace troupe::cli
