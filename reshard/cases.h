// Case files: pairs of annotations with the communication they must become.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "reshard/plan.h"

namespace troupe::reshard {

/// One pair with what is expected of it, as it was written.
struct Case {
  std::string name;
  Annotation source, destination;
  Json expected;  ///< the whole case
};

/// A pair of annotations, each in the format of strategy/annotation_json.h.
///
/// Where subgroups are summands on one side and split a dimension on the
/// other, or split it and are replicated, on the same devices, and the file
/// does not say "interleaved", the split is interleaved: it is the ZeRO form
/// of which HSPMD's cases speak.
///
/// Errors: input, all problems of one side together.
Result<std::pair<Annotation, Annotation>> read_pair(const Json& source,
                                                    const Json& destination,
                                                    const std::string& where,
                                                    std::size_t dimensions);

/// {"cases": [{"name", "src", "dst", ...}]}.
///
/// Errors: input.
Result<std::vector<Case>> read_cases(const std::filesystem::path& path,
                                     std::size_t dimensions);

/// How a plan differs from what its case expects: "expect" names an operation,
/// a list of them, or one for each "subgroup_N"; "plan" is any; "groups",
/// "pairs" and "dim" are compared where they are given. Empty when it agrees.
std::vector<std::string> differences(const Case& c, const Plan& plan);

}  // namespace troupe::reshard
