// One strategy file with everything around it: read, expanded and checked.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/findings.h"
#include "base/result.h"
#include "clusters/cluster.h"
#include "models/model.h"
#include "strategy/strategy.h"

namespace troupe::strategy {

/// A valid strategy on its model and cluster.
struct Plan {
  Strategy strategy;
  models::Model model;
  clusters::Cluster cluster;
  Findings findings;  ///< warnings only
  /// Content hashes of the "strategy", "model" and "cluster" texts as used.
  std::map<std::string, std::string> hashes;
};

struct LoadOptions {
  std::string model = {};    ///< name, path or JSON text in place of the file's
  std::string cluster = {};  ///< the same; also a short form
  std::string from = {};     ///< "", or a foreign format: hspmd, hotspa, ...
  int case_index = -1;       ///< which of several cases; -1: the only one
  /// Fields set before anything is read: {"dp", "8"}, or inside model and
  /// cluster {"cluster.nodes.0.nodes", "16"}. A value is JSON, else a text.
  std::vector<std::pair<std::string, std::string>> set = {};
};

/// Reads a strategy by path or shipped name with its model and cluster, and
/// validates it.
///
/// Relative paths inside the file are relative to the file. A foreign file
/// that names no model or cluster gets the ones FORMAT.md lists.
///
/// Errors: input, all problems of strategy, model and cluster together.
[[nodiscard]] Result<Plan> load_plan(std::string_view path_or_name,
                                     const LoadOptions& options = {});

/// The same for a text; `name` stands for the file in messages, and its
/// folder is where relative paths begin.
[[nodiscard]] Result<Plan> load_plan_text(std::string_view text,
                                          const std::string& name,
                                          const LoadOptions& options = {});

}  // namespace troupe::strategy
