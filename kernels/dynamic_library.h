// Libraries that are opened when first needed.
#pragma once

#include <span>
#include <string>

#include "base/result.h"

namespace troupe::kernels {

/// Opens the first of `places` that can be; never to be closed, for threads
/// of the library may still run. `name` is for the message.
///
/// Errors: unavailable, with the loader's first reason.
Result<void*> open_library(const std::string& name,
                           std::span<const std::string> places);

}  // namespace troupe::kernels
