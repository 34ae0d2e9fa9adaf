#include "cli/options.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "base/file.h"
#include "base/text.h"
#include "clusters/hostfile.h"
#include "measure/machine.h"

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
                     "host list (MPI, Slurm or JSON): the cluster, with "
                     "--kind, or the addresses of --cluster");
  command.add_option("--kind", options.kind, "device kind of a host list");
  command.add_option("--network", options.network,
                     "of a host list, e.g. \"400 Gbit/s per GPU\"");
  command
      .add_option("--set", options.set,
                  "override a field before reading, e.g. --set dp=8 or "
                  "--set cluster.nodes.0.nodes=16")
      ->take_all();
}

namespace {

/// The hosts of --hostfile; none without it.
Result<std::vector<clusters::Host>> read_hosts(const StrategyOptions& options) {
  if (options.hostfile.empty()) return std::vector<clusters::Host>{};
  TRY(const std::string text, read_file(options.hostfile));
  return clusters::parse_hosts(text, clusters::guess_host_format(text),
                               options.hostfile);
}

/// The short form of the cluster that a host list describes.
Result<std::string> cluster_of_hosts(const StrategyOptions& options) {
  TRY(const std::string text, read_file(options.hostfile));
  clusters::HostOptions hosts;
  hosts.kind = options.kind;
  if (!options.network.empty()) hosts.base = options.network;
  TRY(const clusters::Cluster cluster,
      clusters::cluster_from_hostfile(text, clusters::guess_host_format(text),
                                      hosts, options.hostfile));
  return clusters::describe(cluster);
}

/// A host list is a cluster of one kind, or the addresses of a given one.
Result<void> check_host_options(const StrategyOptions& o) {
  if (o.hostfile.empty()) {
    if (o.kind.empty() && o.network.empty()) return {};
    return fail(Fault::input,
                fmt::format("{} describes a host list; give it with --hostfile",
                            o.kind.empty() ? "--network" : "--kind"));
  }
  if (o.kind.empty() == o.cluster.empty()) {
    return fail(Fault::input,
                "--hostfile: give either --kind, the device kind of its "
                "hosts, or --cluster, whose nodes they are");
  }
  if (!o.cluster.empty() && !o.network.empty()) {
    return fail(Fault::input,
                "--network: cluster and host list are given; the cluster "
                "describes its network itself");
  }
  return {};
}

/// The plan with the hosts' addresses.
Result<strategy::Plan> with_addresses(strategy::Plan plan,
                                      const StrategyOptions& options) {
  TRY(const auto hosts, read_hosts(options));
  if (hosts.empty()) return plan;
  auto named = clusters::assign_addresses(std::move(plan.cluster), hosts);
  if (!named) {
    return fail(named.error().fault,
                fmt::format("--hostfile {}: {}", options.hostfile,
                            named.error().message));
  }
  plan.cluster = *std::move(named);
  return plan;
}

}  // namespace

Result<strategy::LoadOptions> load_options(const StrategyOptions& options) {
  strategy::LoadOptions out;
  out.model = options.model;
  out.cluster = options.cluster;
  out.from = options.from;
  out.case_index = options.case_index;
  TRY_DO(check_host_options(options));
  if (!options.kind.empty()) {
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
  TRY(strategy::Plan plan, strategy::load_plan(options.strategy, load));
  return with_addresses(std::move(plan), options);
}

Result<strategy::Plan> load_text(const std::string& text,
                                 const std::string& name,
                                 const StrategyOptions& options) {
  TRY(const strategy::LoadOptions load, load_options(options));
  TRY(strategy::Plan plan, strategy::load_plan_text(text, name, load));
  return with_addresses(std::move(plan), options);
}

Result<std::vector<std::size_t>> choose_phases(const strategy::Strategy& s,
                                               const std::string& wanted) {
  std::vector<std::size_t> out;
  std::string names;
  for (std::size_t p = 0; p < s.phases.size(); ++p) {
    if (wanted.empty() || s.phases[p].name == wanted) out.push_back(p);
    const std::string& name = s.phases[p].name;
    names +=
        (p ? ", " : "") + (name.empty() ? std::string("one without a name")
                                        : fmt::format("'{}'", excerpt(name)));
  }
  if (out.empty()) {
    return fail(
        Fault::input,
        fmt::format("--phase {}: the strategy has no such phase, but {}",
                    excerpt(wanted), names));
  }
  return out;
}

Result<std::vector<int>> gpus_of(const std::string& text) {
  std::vector<int> out;
  std::string_view rest = text;
  for (bool more = true; more;) {
    const std::string_view one = rest.substr(0, rest.find(','));
    more = one.size() < rest.size();
    rest.remove_prefix(std::min(rest.size(), one.size() + 1));
    const auto ordinal = measure::ordinal_of(one);
    if (!ordinal || !one.starts_with("cuda:")) {
      return fail(Fault::input,
                  fmt::format("--device {}: expected cpu, cuda:0, or several "
                              "as in cuda:0,cuda:1",
                              excerpt(text)));
    }
    out.push_back(*ordinal);
  }
  return out;
}

Result<void> check_output(const std::string& given) {
  if (given.empty()) return {};
  namespace fs = std::filesystem;
  std::error_code ignored;
  const fs::path path = given;
  const auto cannot = [&](const std::string& why) {
    return fail(Fault::io, fmt::format("cannot write {}: {}", given, why));
  };
  if (given == "-") return cannot("say /dev/stdout for standard output");
  if (fs::is_directory(path, ignored)) {
    return cannot("it is a folder, not a file");
  }
  if (fs::exists(path, ignored) && !fs::is_regular_file(path, ignored)) {
    return {};
  }
  const fs::path parent = path.has_parent_path() ? path.parent_path() : ".";
  if (!fs::is_directory(parent, ignored)) {
    return cannot(fmt::format("there is no folder {}", parent.string()));
  }
  if (::access(parent.c_str(), W_OK | X_OK) != 0) {
    return cannot(
        fmt::format("folder {}: {}", parent.string(), std::strerror(errno)));
  }
  return {};
}

void print_warnings(const strategy::Plan& plan) {
  for (const Finding& f : plan.findings.warnings()) {
    fmt::print(stderr, "warning: {}\n", to_line(f));
  }
}

}  // namespace troupe::cli
