// Lists of hosts in the spellings of MPI, Slurm and HSPMD's launcher, and
// what they say about a cluster: its nodes' addresses, or the cluster itself.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "clusters/cluster.h"

namespace troupe::clusters {

enum class HostFormat : std::uint8_t {
  mpi,    ///< "host slots=8" or "host:8", a line each, '#' comments
  slurm,  ///< "node[001-004,007]", or lines SLURM_JOB_NODELIST=...
  json,   ///< {"hosts": [{"addr": ..., "initial_workers": 8}, ...]}
};

struct Host {
  std::string address;
  int slots = 0;  ///< GPUs; 0 when the list does not say
  bool operator==(const Host&) const = default;
};

/// The format that the text looks like.
HostFormat guess_host_format(std::string_view text);

/// The hosts of a list in order. A host that MPI repeats has the sum of its
/// slots. `where` is the file in messages.
///
/// Errors: input, with the line or the JSON path.
[[nodiscard]] Result<std::vector<Host>> parse_hosts(std::string_view text,
                                                    HostFormat format,
                                                    const std::string& where);

/// What a host list does not say about a cluster.
struct HostOptions {
  std::string kind;       ///< device kind of every host
  int gpus_per_node = 8;  ///< of hosts without a slot count
  /// Keys of a group and "network" of the cluster format ("intra", "nic",
  /// ...), or a short form's clauses ("400 Gbit/s per GPU").
  Json base = Json::object();
};

/// A cluster with one node per host, of as many GPUs as it has slots.
///
/// Errors: input, as parse_hosts and parse_cluster.
[[nodiscard]] Result<Cluster> cluster_from_hostfile(std::string_view text,
                                                    HostFormat format,
                                                    const HostOptions& options,
                                                    const std::string& where);

/// Gives the nodes of a cluster the addresses of the hosts, in order.
///
/// Errors: input, unless there is one host per node with as many slots, where
///         they are stated, as the node has devices.
[[nodiscard]] Result<Cluster> assign_addresses(Cluster cluster,
                                               std::span<const Host> hosts);

}  // namespace troupe::clusters
