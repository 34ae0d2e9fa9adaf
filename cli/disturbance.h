// --noise and --slow, of whoever predicts a step.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "schedule/disturbance.h"

namespace troupe::cli {

struct DisturbanceOptions {
  std::string noise;              ///< "5%" or "0.05"
  std::uint64_t seed = 1;         ///< of the noise
  std::vector<std::string> slow;  ///< "3:1.3", "0-7:1.3"
  bool any() const { return !noise.empty() || !slow.empty(); }
};

void add_disturbance_options(CLI::App& command, DisturbanceOptions& options);

/// Nothing when no option was given.
///
/// Errors: input: noise outside of [0, 100%), a factor outside of
///         [0.01, 1000], devices that are not in the cluster or are named
///         twice.
Result<std::optional<schedule::Disturbance>> disturbance_of(
    const DisturbanceOptions& options, const clusters::Cluster& cluster);

/// The options as they can be given again.
void append(const DisturbanceOptions& options,
            std::vector<std::string>& command);

}  // namespace troupe::cli
