// troupe validate: simulates published measurements and prints the errors.
// Keeps nothing in the run store.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <optional>

#include "base/file.h"
#include "base/progress.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/parallel.h"
#include "cli/say.h"
#include "cli/simulation.h"
#include "cli/validation_file.h"
#include "cli/validation_table.h"

namespace troupe::cli {
namespace {

struct ValidateOptions {
  std::vector<std::string> paths;
  std::string source, profiles;
  bool json = false, brief = false;
};

Result<std::vector<Validated>> read_cases(const ValidateOptions& o) {
  std::vector<std::string> paths = o.paths;
  if (paths.empty()) {
    paths.push_back((data_root() / "bench" / "validation" / "cases").string());
  }
  TRY(const auto files, validation_files(paths));
  std::vector<Validated> out;
  bool any = o.source.empty();
  std::vector<std::string> sources;
  for (const auto& file : files) {
    for (ValidationCase& one : read_validation_file(file)) {
      const bool chosen = one.source.find(o.source) != std::string::npos;
      any = any || chosen;
      if (one.error.empty() && std::find(sources.begin(), sources.end(),
                                         one.source) == sources.end()) {
        sources.push_back(one.source);
      }
      // What cannot be read is never hidden by the filter.
      if (one.error.empty() && !chosen) continue;
      out.push_back({std::move(one), {}, ""});
    }
  }
  if (any) return out;
  std::string message =
      fmt::format("--source {}: no case has such a source{}; there are: {}",
                  excerpt(o.source), did_you_mean(o.source, sources),
                  excerpt(join(sources), 600));
  for (const Validated& unread : out) message += "\n" + unread.one.error;
  return fail(Fault::input, message);
}

/// The different kinds of all plans, as a cluster of no nodes.
clusters::Cluster kinds_of(
    const std::vector<std::optional<strategy::Plan>>& plans) {
  clusters::Cluster out;
  for (const auto& plan : plans) {
    if (!plan) continue;
    for (const clusters::DeviceKind& kind : plan->cluster.kinds) {
      if (std::find(out.kinds.begin(), out.kinds.end(), kind) ==
          out.kinds.end()) {
        out.kinds.push_back(kind);
      }
    }
  }
  return out;
}

Result<int> validate(const ValidateOptions& o) {
  TRY(std::vector<Validated> all, read_cases(o));
  std::vector<std::optional<strategy::Plan>> plans(all.size());
  in_parallel(all.size(), [&](std::size_t i) {
    auto plan = load_case(all[i].one);
    if (plan) {
      plans[i] = std::move(*plan);
    } else {
      all[i].error = plan.error().message;
    }
  });
  TRY(const auto costs, load_costs(o.profiles, kinds_of(plans)));
  TRY(const auto libraries,
      read_libraries(data_root() / "bench/validation/libraries.json"));
  Progress progress("cases simulated", static_cast<std::int64_t>(all.size()));
  std::mutex mutex;
  std::int64_t done = 0;
  in_parallel(all.size(), [&](std::size_t i) {
    if (interrupted() || !plans[i]) return;
    SimulationOptions options;
    options.reserve = kReserve;
    options.bar_pipelines = 0;
    if (const auto library = libraries.find(all[i].one.library);
        library != libraries.end()) {
      options.host_per_operator = library->second;
    }
    auto run = simulate_phase(*plans[i], 0, *costs, options);
    if (run) {
      all[i].run = std::move(*run);
    } else {
      all[i].error = run.error().message;
    }
    plans[i].reset();
    const std::lock_guard lock(mutex);
    progress.update(++done);
  });
  if (interrupted()) return fail(Fault::interrupted, "interrupted");
  if (o.json) {
    say("{}\n", to_text(validation_json(all)));
  } else {
    say("{}", validation_text(all, o.brief));
  }
  const bool broken = std::any_of(all.begin(), all.end(),
                                  [](const auto& v) { return !v.simulated(); });
  return broken ? 1 : 0;
}

}  // namespace

void add_validate(Commands& commands) {
  auto options = std::make_shared<ValidateOptions>();
  CLI::App* command = commands.add(
      "validate", "simulate published measurements and print the errors");
  command->add_option("paths", options->paths,
                      "files or folders of cases (the shipped ones)");
  command->add_option("--source", options->source,
                      "only sources with this in their name");
  command->add_option("--profiles", options->profiles, "profile database");
  command->add_flag("--brief", options->brief, "leave out the line per case");
  command->add_flag("--json", options->json, "print one JSON object");
  commands.run(command, [options] { return validate(*options); });
}

}  // namespace troupe::cli
