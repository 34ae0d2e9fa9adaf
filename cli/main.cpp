// Registers the commands, parses, runs one, prints its error.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <iostream>

#include "base/progress.h"
#include "base/text.h"
#include "cli/command.h"

namespace troupe::cli {

int exit_code(const Error& error) {
  switch (error.fault) {
    case Fault::input:
    case Fault::io:
    case Fault::unavailable:
      return 1;
    case Fault::infeasible:
      return 2;
    case Fault::interrupted:
      return 130;
  }
  return 3;
}

namespace {

/// What is wrong with the first word when it is no command, or empty.
std::string unknown_command(const CLI::App& app, int argc, char** argv) {
  if (argc < 2 || argv[1][0] == '-') return {};
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands({})) {
    names.push_back(command->get_name());
  }
  const std::string given = argv[1];
  if (std::find(names.begin(), names.end(), given) != names.end()) return {};
  return fmt::format("no command '{}'{}; there are: {}", excerpt(given),
                     did_you_mean(given, names), join(names));
}

int run(int argc, char** argv) {
  CLI::App app{"Troupe: training transformers on clusters of unequal GPUs."};
  app.require_subcommand(1);
  app.set_version_flag("--version", TROUPE_VERSION);
  Commands commands{app, {}};
  add_simulate(commands);
  add_schedule(commands);
  add_check(commands);
  add_convert(commands);
  add_reshard(commands);
  add_emulate(commands);
  add_annotate(commands);
  add_elastic(commands);
  add_ingest(commands);
  add_profile(commands);
  add_profiles(commands);
  add_results(commands);
  add_compare(commands);
  add_shipped(commands);
  add_validate(commands);
  add_hotspa(commands);
  if (const std::string wrong = unknown_command(app, argc, argv);
      !wrong.empty()) {
    fmt::print(stderr, "troupe: {}\n", wrong);
    return 1;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    // Help and version end with 0; every misuse is bad input.
    const bool good = app.exit(e) == 0;
    if (good && std::cout.flush()) return 0;
    if (good) {
      fmt::print(stderr,
                 "troupe: cannot write the answer: disk full or "
                 "output closed\n");
    }
    return 1;
  }
  for (const auto& [command, action] : commands.list) {
    if (!command->parsed()) continue;
    const Result<int> done = action();
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
      fmt::print(stderr,
                 "troupe: cannot write the answer: disk full or "
                 "output closed\n");
      return 1;
    }
    if (done) return *done;
    fmt::print(stderr, "troupe: {}\n", done.error().message);
    return exit_code(done.error());
  }
  return 1;
}

}  // namespace
}  // namespace troupe::cli

int main(int argc, char** argv) {
  troupe::catch_interrupts();
  return troupe::cli::run(argc, argv);
}
