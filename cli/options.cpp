#include "cli/options.h"

#include <fmt/format.h>

#include "base/file.h"
#include "clusters/hostfile.h"

namespace troupe::cli {

void add_strategy_options(CLI::App& command, StrategyOptions& options) {
  command
      .add_option("strategy", options.strategy,
                  "strategy file, or the name of a shipped one")
      ->required();
  command.add_option("--from", options.from,
                     "spelling of the file: hspmd, hotspa, hydraulis, "
                     "hexiscale or megatron (default: troupe's own)");
  command
      .add_option("--case", options.case_index,
                  "which case of a file that holds several")
      ->check(CLI::NonNegativeNumber);
  command.add_option("--model", options.model,
                     "model file or name, instead of the strategy's");
  command.add_option("--cluster", options.cluster,
                     "cluster file, name or short form, instead of the "
                     "strategy's");
  command.add_option("--hostfile", options.hostfile,
                     "host list (MPI, Slurm or JSON) instead of a cluster");
  command.add_option("--kind", options.kind, "device kind of a host list");
  command.add_option("--network", options.network,
                     "of a host list, e.g. \"400 Gbit/s per GPU\"");
  command
      .add_option("--set", options.set,
                  "override a field before reading, e.g. --set dp=8 or "
                  "--set cluster.nodes.0.nodes=16")
      ->take_all();
}

/// The short form of the cluster that a host list describes.
static Result<std::string> cluster_of_hosts(const StrategyOptions& options) {
  if (options.kind.empty() || !options.cluster.empty()) {
    return fail(Fault::input,
                "--hostfile: name the device kind with --kind, and give no "
                "--cluster beside it");
  }
  TRY(const std::string text, read_file(options.hostfile));
  clusters::HostOptions hosts;
  hosts.kind = options.kind;
  if (!options.network.empty()) hosts.base = options.network;
  TRY(const clusters::Cluster cluster,
      clusters::cluster_from_hostfile(text, clusters::guess_host_format(text),
                                      hosts, options.hostfile));
  return clusters::describe(cluster);
}

Result<strategy::LoadOptions> load_options(const StrategyOptions& options) {
  strategy::LoadOptions out;
  out.model = options.model;
  out.cluster = options.cluster;
  out.from = options.from;
  out.case_index = options.case_index;
  if (!options.hostfile.empty()) {
    TRY(out.cluster, cluster_of_hosts(options));
  }
  for (const std::string& pair : options.set) {
    const auto equals = pair.find('=');
    if (equals == std::string::npos || equals == 0) {
      return fail(Fault::input,
                  fmt::format("--set {}: expected field=value", pair));
    }
    out.set.emplace_back(pair.substr(0, equals), pair.substr(equals + 1));
  }
  return out;
}

Result<strategy::Plan> load(const StrategyOptions& options) {
  TRY(const strategy::LoadOptions load, load_options(options));
  return strategy::load_plan(options.strategy, load);
}

Result<std::vector<std::size_t>> choose_phases(const strategy::Strategy& s,
                                               const std::string& wanted) {
  std::vector<std::size_t> out;
  std::string names;
  for (std::size_t p = 0; p < s.phases.size(); ++p) {
    if (wanted.empty() || s.phases[p].name == wanted) out.push_back(p);
    names += (p ? ", '" : "'") + s.phases[p].name + "'";
  }
  if (out.empty()) {
    return fail(Fault::input,
                fmt::format("--phase {}: the strategy has {}", wanted, names));
  }
  return out;
}

void print_warnings(const strategy::Plan& plan) {
  for (const Finding& f : plan.findings.warnings()) {
    fmt::print(stderr, "warning: {}\n", to_line(f));
  }
}

}  // namespace troupe::cli
