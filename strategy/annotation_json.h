// Annotations as JSON: {"hdim": null, "groups": [{"devices": [0, 1],
// "split": {"0": 2}, "dup": 1, "partial": 1}]}.
#pragma once

#include "base/json.h"
#include "strategy/annotation.h"

namespace troupe::strategy {

/// `hdim` is null for a single subgroup, -1 replicated, -2 partial, else the
/// dimension that subgroups split; layouts of subgroups are local ones.
/// "interleaved": true, "order" and "weight" appear where they say something.
Json to_json(const Annotation& annotation);

/// Errors: input, all problems together, also those of `problems` for a
///         tensor of `dimensions` dimensions.
Result<Annotation> read_annotation(const Json& json, const std::string& where,
                                   std::size_t dimensions);

}  // namespace troupe::strategy
