// Reads clusters: a shipped one by name, a file (clusters/FORMAT.md), or the
// one-line short form.
#pragma once

#include <string>
#include <string_view>

#include "base/json.h"
#include "base/result.h"
#include "clusters/cluster.h"

namespace troupe::clusters {

/// The cluster of a file, a shipped one by name ("h100-1024"), or a short
/// form ("8 x h100-sxm per node, 400 Gbit/s per GPU, 128 nodes").
///
/// Errors: input, every problem with its place.
[[nodiscard]] Result<Cluster> read_cluster(std::string_view path_or_text);

/// The cluster of a JSON value: an object of the format, or a text with a
/// short form. `where` is the file in messages; a cluster without a name is
/// called after it.
///
/// Errors: input, every problem with its place.
[[nodiscard]] Result<Cluster> parse_cluster(const Json& json,
                                            const std::string& where);

}  // namespace troupe::clusters
