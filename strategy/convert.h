// From any spelling of a strategy to the native one, or to Megatron-LM's.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "strategy/load.h"

namespace troupe::strategy {

/// The native file, full form, of a plan. Model and cluster stay names where
/// they are shipped ones or short forms, and are written out where they come
/// from files, so that the result stands alone.
Json native_of(const Plan& plan);

/// Loads `path_or_name` as `options.from` says and writes it natively.
///
/// Errors: input, as `load_plan`.
[[nodiscard]] Result<Json> convert_to_native(std::string_view path_or_name,
                                             const LoadOptions& options);

/// The arguments of Megatron-LM that run the same strategy on the same model,
/// one per line.
///
/// Errors: input, every reason why they cannot say it.
[[nodiscard]] Result<std::string> to_megatron(const Plan& plan);

/// What of the plan those arguments leave unsaid, a sentence each: the step
/// they give differs in it.
std::vector<std::string> megatron_notes(const Plan& plan);

}  // namespace troupe::strategy
