#include "clusters/hostfile.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <unordered_map>

#include "base/text.h"
#include "clusters/group.h"
#include "clusters/read.h"
#include "clusters/short_form.h"

namespace troupe::clusters {
namespace {

constexpr std::size_t kLongestAddress = 255;  // of a DNS name

std::optional<std::int64_t> whole(std::string_view word) {
  std::int64_t value = 0;
  const auto [end, error] =
      std::from_chars(word.data(), word.data() + word.size(), value);
  if (error != std::errc() || end != word.data() + word.size()) return {};
  return value;
}

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

bool is_address(std::string_view text) {
  if (text.empty() || text.size() > kLongestAddress) return false;
  return std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_' ||
           c == ':' || c == '<' || c == '>';
  });
}

tl::unexpected<Error> bad(const std::string& where, std::string message) {
  return fail(Fault::input, fmt::format("{}: {}", where, message));
}

/// Calls `visit(line, number)` for each line, trimmed, comments cut off.
template <typename Visit>
Result<void> each_line(std::string_view text, Visit visit) {
  int number = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    ++number;
    line = trimmed(line.substr(0, line.find('#')));
    if (!line.empty()) TRY_DO(visit(line, number));
  }
  return {};
}

Result<int> slots_of(std::string_view word, const std::string& where) {
  const auto slots = whole(word);
  if (!slots || *slots < 1 || *slots > kMostPerNode) {
    return bad(where, fmt::format("expected slots from 1 to {}, found '{}'",
                                  kMostPerNode, excerpt(word)));
  }
  return static_cast<int>(*slots);
}

/// "host", "host slots=8 max_slots=8", "host:8", "host slots = 8".
Result<Host> mpi_line(std::string_view line, const std::string& where) {
  Host host;
  const std::size_t space = line.find_first_of(" \t");
  host.address = line.substr(0, space);
  const std::size_t colon = host.address.find(':');
  if (colon != std::string::npos && host.address.rfind(':') == colon) {
    TRY(host.slots,
        slots_of(std::string_view(host.address).substr(colon + 1), where));
    host.address.resize(colon);
  }
  if (!is_address(host.address)) {
    return bad(where, fmt::format("'{}' is not a host name or address",
                                  excerpt(host.address)));
  }
  std::string_view rest = line.substr(std::min(space, line.size()));
  while (!(rest = trimmed(rest)).empty()) {
    // "slots = 8" is as good as "slots=8".
    const std::size_t key_end =
        std::min(rest.find_first_of(" \t="), rest.size());
    const std::string_view key = rest.substr(0, key_end);
    rest = trimmed(rest.substr(key_end));
    if (!rest.starts_with('=') ||
        (key != "slots" && key != "max_slots" && key != "max-slots")) {
      return bad(where,
                 fmt::format("expected 'slots=N', found '{}'", excerpt(key)));
    }
    rest = trimmed(rest.substr(1));
    const std::size_t value_end =
        std::min(rest.find_first_of(" \t"), rest.size());
    TRY(const int slots, slots_of(rest.substr(0, value_end), where));
    rest.remove_prefix(value_end);
    if (key == "slots") host.slots = slots;
  }
  return host;
}

Result<std::vector<Host>> mpi_hosts(std::string_view text,
                                    const std::string& where) {
  std::vector<Host> hosts;
  std::unordered_map<std::string, std::size_t> seen;
  const auto visit = [&](std::string_view line, int number) -> Result<void> {
    const std::string place = fmt::format("{}: line {}", where, number);
    TRY(Host host, mpi_line(line, place));
    const auto [it, fresh] = seen.emplace(host.address, hosts.size());
    if (fresh) {
      hosts.push_back(std::move(host));
      return {};
    }
    // A repeated host adds its slots; without a count a line is one slot.
    Host& first = hosts[it->second];
    const int sum = std::max(first.slots, 1) + std::max(host.slots, 1);
    if (sum > kMostPerNode) {
      return bad(place, fmt::format("'{}' has more than {} slots in all",
                                    host.address, kMostPerNode));
    }
    first.slots = sum;
    return {};
  };
  TRY_DO(each_line(text, visit));
  return hosts;
}

/// Expands Slurm's bracket lists, "gpu[01-03,7],login1".
class SlurmList {
 public:
  SlurmList(std::string_view text, const std::string& where)
      : text_(text), where_(where) {}

  Result<std::vector<Host>> expand() {
    std::size_t start = 0;
    int depth = 0;
    for (std::size_t i = 0; i <= text_.size(); ++i) {
      const char c = i < text_.size() ? text_[i] : ',';
      if (c == '[') ++depth;
      if (c == ']') --depth;
      if (depth < 0 || depth > 1) return wrong("brackets do not match");
      if (c != ',' || depth > 0) continue;
      TRY_DO(one(trimmed(text_.substr(start, i - start))));
      start = i + 1;
    }
    if (depth != 0) return wrong("brackets do not match");
    return std::move(hosts_);
  }

 private:
  tl::unexpected<Error> wrong(const std::string& what) const {
    return bad(where_, fmt::format("{} in '{}'", what, excerpt(text_)));
  }

  /// One name with any number of brackets; each multiplies the list.
  Result<void> one(std::string_view item) {
    if (item.empty()) return wrong("an empty name");
    std::vector<std::string> names{""};
    while (!item.empty()) {
      const std::size_t open = std::min(item.find('['), item.size());
      for (std::string& name : names) name += item.substr(0, open);
      item.remove_prefix(open);
      if (item.empty()) break;
      const std::size_t close = item.find(']');
      std::vector<std::string> next;
      TRY_DO(ranges(item.substr(1, close - 1), names, next));
      names = std::move(next);
      item.remove_prefix(close + 1);
    }
    for (std::string& name : names) {
      if (!is_address(name)) return wrong("a name with odd characters");
      hosts_.push_back({std::move(name), 0});
      if (hosts_.size() > kMostHosts) return too_many();
    }
    return {};
  }

  /// "001-004,007" after each of `names`.
  Result<void> ranges(std::string_view list,
                      const std::vector<std::string>& names,
                      std::vector<std::string>& out) {
    struct Range {
      std::int64_t first, last;
      int width;
    };
    std::vector<Range> parsed;
    while (true) {
      const std::size_t end = std::min(list.find(','), list.size());
      const std::string_view range = trimmed(list.substr(0, end));
      const std::size_t dash = range.find('-');
      const std::string_view low = range.substr(0, dash);
      const auto first = whole(low);
      const auto last =
          dash == range.npos ? first : whole(range.substr(dash + 1));
      if (!first || !last || *first < 0 || *last < *first || low.size() > 18) {
        return wrong(fmt::format("a bad range '{}'", excerpt(range)));
      }
      parsed.push_back({*first, *last, static_cast<int>(low.size())});
      if (end == list.size()) break;
      list.remove_prefix(end + 1);
    }
    for (const std::string& name : names) {
      for (const Range& range : parsed) {
        if (range.last - range.first >= kMostDevices) return too_many();
        for (std::int64_t i = range.first; i <= range.last; ++i) {
          out.push_back(fmt::format("{}{:0{}}", name, i, range.width));
          if (out.size() > kMostHosts) return too_many();
        }
      }
    }
    return {};
  }

  tl::unexpected<Error> too_many() const {
    return wrong(fmt::format("more than {} hosts", kMostHosts));
  }

  static constexpr std::size_t kMostHosts = kMostDevices;
  std::string_view text_;
  const std::string& where_;
  std::vector<Host> hosts_;
};

/// The number in "8", "h100:8" or "gpu:h100:8".
std::string_view gpu_count(std::string_view value) {
  const std::size_t colon = value.rfind(':');
  return colon == value.npos ? value : value.substr(colon + 1);
}

Result<std::vector<Host>> slurm_hosts(std::string_view text,
                                      const std::string& where) {
  std::vector<Host> hosts;
  int slots = 0;
  const auto visit = [&](std::string_view line, int number) -> Result<void> {
    const std::string place = fmt::format("{}: line {}", where, number);
    if (line.starts_with("export ")) line = trimmed(line.substr(7));
    const std::size_t equals = line.find('=');
    std::string_view value = line;
    if (equals != line.npos) {
      const std::string_view key = trimmed(line.substr(0, equals));
      value = trimmed(line.substr(equals + 1));
      if (value.size() >= 2 && (value[0] == '"' || value[0] == '\'') &&
          value.back() == value[0]) {
        value = value.substr(1, value.size() - 2);
      }
      if (key == "SLURM_GPUS_ON_NODE" || key == "SLURM_GPUS_PER_NODE") {
        TRY(slots, slots_of(gpu_count(value), place));
        return {};
      }
      if (key != "SLURM_JOB_NODELIST" && key != "SLURM_NODELIST") return {};
      if (!hosts.empty()) return {};  // the two names say the same
    }
    TRY(std::vector<Host> more, SlurmList(value, place).expand());
    hosts.insert(hosts.end(), more.begin(), more.end());
    return {};
  };
  TRY_DO(each_line(text, visit));
  for (Host& host : hosts) host.slots = slots;
  return hosts;
}

Result<std::vector<Host>> json_hosts(std::string_view text,
                                     const std::string& where) {
  TRY(const Json json, parse_json(text, where));
  Findings findings;
  JsonObject file(json, where, findings);
  std::vector<Host> hosts;
  for (JsonObject& object : file.objects("hosts")) {
    Host host;
    host.address = object.text("addr");
    if (!host.address.empty() && !is_address(host.address)) {
      findings.error(object.where("addr"),
                     fmt::format("'{}' is not a host name or address",
                                 excerpt(host.address)));
    }
    host.slots = object.small("initial_workers", {1, kMostPerNode}, 0);
    object.raw("min_workers");
    object.raw("max_workers");
    object.finish();
    hosts.push_back(std::move(host));
  }
  file.raw("max_restart_times");
  file.raw("heartbeat_interval");
  file.finish();
  if (!findings.ok()) return fail(findings.to_error());
  return hosts;
}

/// Groups of consecutive hosts with equal slots, as the cluster format.
Json groups_of(std::span<const Host> hosts, const HostOptions& options,
               const Json& base) {
  Json groups = Json::array();
  for (std::size_t i = 0; i < hosts.size();) {
    std::size_t end = i;
    Json addresses = Json::array();
    while (end < hosts.size() && hosts[end].slots == hosts[i].slots) {
      addresses.push_back(hosts[end++].address);
    }
    Json group = base;
    group["kind"] = options.kind;
    group["count"] =
        hosts[i].slots > 0 ? hosts[i].slots : options.gpus_per_node;
    group["nodes"] = end - i;
    group["addresses"] = std::move(addresses);
    groups.push_back(std::move(group));
    i = end;
  }
  return groups;
}

}  // namespace

HostFormat guess_host_format(std::string_view text) {
  const std::string_view start = trimmed(text);
  if (start.starts_with('{')) return HostFormat::json;
  if (start.find("SLURM_") != start.npos || start.find('[') != start.npos) {
    return HostFormat::slurm;
  }
  return HostFormat::mpi;
}

Result<std::vector<Host>> parse_hosts(std::string_view text, HostFormat format,
                                      const std::string& where) {
  Result<std::vector<Host>> hosts = [&] {
    switch (format) {
      case HostFormat::mpi:
        return mpi_hosts(text, where);
      case HostFormat::slurm:
        return slurm_hosts(text, where);
      case HostFormat::json:
        return json_hosts(text, where);
    }
    return mpi_hosts(text, where);
  }();
  if (hosts && hosts->empty()) return bad(where, "names no hosts");
  if (hosts && hosts->size() > static_cast<std::size_t>(kMostDevices)) {
    return bad(where, fmt::format("more than {} hosts", kMostDevices));
  }
  return hosts;
}

Result<Cluster> cluster_from_hostfile(std::string_view text, HostFormat format,
                                      const HostOptions& options,
                                      const std::string& where) {
  TRY(const std::vector<Host> hosts, parse_hosts(text, format, where));
  Json base = options.base;
  Json file{{"format", "troupe.cluster/1"}, {"name", where}};
  if (base.is_string()) {
    Findings findings;
    const Json clauses =
        expand_short_form(base.get<std::string>(), where, findings);
    if (!findings.ok()) return fail(findings.to_error());
    if (clauses.contains("network")) file["network"] = clauses["network"];
    base = clauses["nodes"][0];
  } else if (base.is_object()) {
    for (const char* key : {"network", "kinds", "source", "name"}) {
      if (!base.contains(key)) continue;
      file[key] = base[key];
      base.erase(key);
    }
  }
  if (!base.is_object()) return bad(where, "the base must be an object");
  file["nodes"] = groups_of(hosts, options, base);
  return parse_cluster(file, where);
}

Result<Cluster> assign_addresses(Cluster cluster, std::span<const Host> hosts) {
  if (hosts.size() != cluster.nodes.size()) {
    return fail(
        Fault::input,
        fmt::format("{} for the {} of cluster '{}'; give one per node, "
                    "in its order",
                    counted(std::ssize(hosts), "host"),
                    counted(std::ssize(cluster.nodes), "node"), cluster.name));
  }
  for (std::size_t i = 0; i < hosts.size(); ++i) {
    Node& node = cluster.nodes[i];
    const auto slots = static_cast<std::size_t>(hosts[i].slots);
    if (slots != 0 && slots != node.devices.size()) {
      return fail(Fault::input,
                  fmt::format("host '{}' has {}, but {} of cluster '{}' has {}",
                              hosts[i].address, counted(hosts[i].slots, "slot"),
                              node.name, cluster.name,
                              counted(std::ssize(node.devices), "GPU")));
    }
    node.address = hosts[i].address;
  }
  return cluster;
}

}  // namespace troupe::clusters
