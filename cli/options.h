// Options that several commands share.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "base/result.h"
#include "strategy/load.h"

namespace troupe::cli {

/// Where a strategy comes from: a path or shipped name, perhaps in another
/// system's spelling.
struct StrategyOptions {
  std::string strategy;
  std::string from, model, cluster;
  int case_index = -1;
  std::string hostfile;          ///< MPI, Slurm or JSON host list
  std::string kind;              ///< device kind of its hosts
  std::string network;           ///< what a short form says of it
  std::vector<std::string> set;  ///< "field=value"
};

void add_strategy_options(CLI::App& command, StrategyOptions& options);

/// Errors: input, also for a `--set` that is not "field=value".
Result<strategy::LoadOptions> load_options(const StrategyOptions& options);
Result<strategy::Plan> load(const StrategyOptions& options);
/// The same of a strategy's text that was read from `name` already.
Result<strategy::Plan> load_text(const std::string& text,
                                 const std::string& name,
                                 const StrategyOptions& options);

/// The GPUs of "cuda:0,cuda:1", in this order.
///
/// Errors: input.
Result<std::vector<int>> gpus_of(const std::string& text);

/// Whether a file can be written there, before work is done for it; an empty
/// text is no file.
///
/// Errors: io, for a folder, for "-", or a file whose folder is missing or
/// read-only.
Result<void> check_output(const std::string& path);

/// Phases called `wanted`, or all when it is empty.
///
/// Errors: input, naming the phases there are.
Result<std::vector<std::size_t>> choose_phases(const strategy::Strategy& s,
                                               const std::string& wanted);

/// Prints the warnings of a plan to stderr, a line each.
void print_warnings(const strategy::Plan& plan);

}  // namespace troupe::cli
