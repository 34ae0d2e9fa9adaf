// What every command of the program shares: how it is registered and how its
// failure becomes an exit code.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <utility>
#include <vector>

#include "base/result.h"

namespace troupe::cli {

/// Does the command's work; the value is the exit code of a success (0, or 2
/// for an answer such as "no feasible plan").
using Action = std::function<Result<int>()>;

/// The registered commands. `main` runs the action of the one that was given.
struct Commands {
  CLI::App& app;
  std::vector<std::pair<CLI::App*, Action>> list;

  CLI::App* add(const std::string& name, const std::string& help) {
    return app.add_subcommand(name, help);
  }
  void run(CLI::App* command, Action action) {
    list.emplace_back(command, std::move(action));
  }
};

void add_simulate(Commands& commands);
void add_annotate(Commands& commands);
void add_elastic(Commands& commands);
void add_schedule(Commands& commands);
void add_check(Commands& commands);
void add_convert(Commands& commands);
void add_emulate(Commands& commands);
void add_reshard(Commands& commands);
void add_ingest(Commands& commands);
void add_profile(Commands& commands);
void add_profiles(Commands& commands);
void add_results(Commands& commands);
void add_compare(Commands& commands);
void add_shipped(Commands& commands);
void add_validate(Commands& commands);
void add_hotspa(Commands& commands);

/// 1 for input, io and unavailable, 2 infeasible, 130 interrupted.
int exit_code(const Error& error);

}  // namespace troupe::cli
