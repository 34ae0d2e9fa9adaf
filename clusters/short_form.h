// The one-line spelling of a cluster, such as
// "8 x h100-sxm per node, 400 Gbit/s per GPU, rail-optimised, 128 nodes".
#pragma once

#include <string>
#include <string_view>

#include "base/findings.h"
#include "base/json.h"

namespace troupe::clusters {

/// True when the text starts like a short form: a number, then "x".
bool looks_like_short_form(std::string_view text);

/// The short form as an object with "nodes" and, when it says anything of
/// it, "network" of the cluster format; groups are joined by " + ".
/// Problems, each naming its clause, are added to `findings`.
Json expand_short_form(std::string_view text, const std::string& where,
                       Findings& findings);

}  // namespace troupe::clusters
