#include "clusters/group.h"

#include <fmt/format.h>

#include <array>

#include "base/text.h"
#include "base/units.h"
#include "clusters/short_form.h"

namespace troupe::clusters {
namespace {

constexpr RealLimits kGbytesPerS{1e-6, 1e6};
constexpr RealLimits kGbitPerS{1e-5, 1e7};
constexpr RealLimits kMicroseconds{0, 1e6};

// Latencies of small messages: NVLink 0.6 us, PCIe 1.0 us, network 2.7 us
// from slot to slot. Source: the ring, LL row of the tuning table in NCCL
// 2.18 to 2.27 (src/graph/tuning.cc). A pair of ports or slots shares the
// first two; the network's is two slots, two cards and the switches between.
constexpr double kNvlinkPortUs = 0.3;
constexpr double kPcieSlotUs = 0.5;
constexpr double kNicUs = 0.6;
constexpr double kNetworkUs = 0.5;
// One more switch: 130 ns port to port. Source: NVIDIA QM8700 datasheet.
constexpr double kHopUs = 0.13;
// Two UPI links of 10.4 GT/s and 2 bytes. Source: Intel Xeon Scalable.
constexpr double kSocketGbytesPerS = 41.6;

enum class Intra : std::uint8_t { nvswitch, nvlink, nvlink_pairs, pcie };
constexpr std::array<std::pair<const char*, Intra>, 4> kIntra{
    {{"nvswitch", Intra::nvswitch},
     {"nvlink", Intra::nvlink},
     {"nvlink-pairs", Intra::nvlink_pairs},
     {"pcie", Intra::pcie}}};

Time microseconds(double us) { return seconds(us * 1e-6); }

Time read_latency(JsonObject& o, double usual) {
  return microseconds(o.real("latency_us", kMicroseconds, usual));
}

Bandwidth read_rate(JsonObject& o, const char* key, double usual) {
  return {o.real(key, kGbytesPerS, usual) * 1e9};
}

void read_nvlink(JsonObject& o, Intra type, GroupSpec& group) {
  NvlinkSpec& nvlink = group.nvlink;
  nvlink.present = true;
  const double usual = group.kind ? group.kind->nvlink.v * 1e-9 : 1.0;
  if (usual <= 0 && !o.has("gbytes_per_s")) {
    o.findings().error(
        o.where("gbytes_per_s"),
        fmt::format("missing, and {} has no NVLink; use \"intra\": \"pcie\"",
                    group.kind->name));
  }
  nvlink.bandwidth = read_rate(o, "gbytes_per_s", usual > 0 ? usual : 1.0);
  nvlink.latency = read_latency(o, kNvlinkPortUs);
  const int all = type == Intra::nvlink_pairs ? 2 : group.per_node;
  nvlink.group = o.small("group", {1, kMostPerNode}, all);
}

void read_pcie(JsonObject& o, GroupSpec& group) {
  PcieSpec& pcie = group.pcie;
  const double slot = pcie.slot.v * 1e-9;
  pcie.slot = read_rate(o, "gbytes_per_s", slot);
  pcie.latency = read_latency(o, kPcieSlotUs);
  pcie.gpus_per_switch = o.small("gpus_per_switch", {1, kMostPerNode}, 0);
  pcie.uplink = read_rate(o, "uplink_gbytes_per_s", pcie.slot.v * 1e-9);
  pcie.sockets = o.small("sockets", {1, 2}, 1);
  pcie.socket = read_rate(o, "socket_gbytes_per_s", kSocketGbytesPerS);
  if (o.has("uplink_gbytes_per_s") && pcie.gpus_per_switch == 0) {
    o.findings().error(o.where("uplink_gbytes_per_s"), "needs gpus_per_switch");
  }
  if (o.has("socket_gbytes_per_s") && pcie.sockets == 1) {
    o.findings().error(o.where("socket_gbytes_per_s"), "needs \"sockets\": 2");
  }
}

/// "intra" is a word or an object with "type".
void read_intra(JsonObject& o, GroupSpec& group) {
  group.pcie.slot = group.kind ? group.kind->pcie : Bandwidth{31.5e9};
  group.pcie.latency = microseconds(kPcieSlotUs);
  group.pcie.socket = {kSocketGbytesPerS * 1e9};
  const bool has_nvlink =
      group.kind && group.kind->nvlink.v > 0 && !group.kind->nvlink_bridge;
  const Json* given = o.raw("intra");
  Json object = Json::object();
  if (!given) {
    object["type"] = has_nvlink ? "nvswitch" : "pcie";
  } else if (given->is_string()) {
    object["type"] = *given;
  } else {
    object = *given;
  }
  JsonObject intra(object, o.where("intra"), o.findings());
  const Intra type = intra.choice<Intra>("type", kIntra);
  if (type == Intra::pcie) {
    read_pcie(intra, group);
    if (o.has("pcie")) {
      o.findings().error(o.where("pcie"), "\"intra\" describes it already");
    }
    o.raw("pcie");
  } else {
    read_nvlink(intra, type, group);
    if (std::optional<JsonObject> pcie = o.object("pcie", true)) {
      read_pcie(*pcie, group);
      pcie->finish();
    } else {
      group.pcie.uplink = group.pcie.slot;
    }
  }
  intra.finish();
}

/// "nic" as an object: a text is the clause of a short form.
Json nic_object(JsonObject& o, const Json& given) {
  if (!given.is_string()) return given;
  Findings unread;
  const Json clauses =
      expand_short_form(given.get<std::string>(), o.where("nic"), unread);
  const Json groups = clauses.value("nodes", Json::array());
  const bool one = unread.ok() && groups.size() == 1 && clauses.size() == 1 &&
                   groups[0].size() == 1 && groups[0].contains("nic");
  if (one) return groups[0]["nic"];
  o.findings().error(
      o.where("nic"),
      fmt::format("cannot read '{}'; a card is written like \"400 Gbit/s per "
                  "GPU\" or \"2 x 50 Gbit/s per node\"",
                  excerpt(given.get<std::string>())));
  return {{"gbit_per_s", 1.0}};
}

void read_nic(JsonObject& o, GroupSpec& group) {
  const Json* given = o.raw("nic");
  if (!given) return;
  const Json object = nic_object(o, *given);
  JsonObject nic(object, o.where("nic"), o.findings());
  if (!object.is_object()) return;
  NicSpec& spec = group.nic;
  spec.present = true;
  if (nic.has("gbytes_per_s") == nic.has("gbit_per_s")) {
    nic.findings().error(nic.where("gbit_per_s"),
                         "give one of gbit_per_s and gbytes_per_s");
  }
  const double gbit = nic.real("gbit_per_s", kGbitPerS, 8.0);
  const double gbytes = nic.real("gbytes_per_s", kGbytesPerS, gbit / 8);
  spec.bandwidth = {gbytes * 1e9};
  static constexpr std::array<std::pair<const char*, bool>, 2> kPer{
      {{"gpu", true}, {"node", false}}};
  spec.per_gpu = nic.choice<bool>("per", kPer, true);
  spec.count = nic.small("count", {1, kMostPerNode}, 1);
  if (spec.per_gpu && spec.count > 1) {
    nic.findings().error(nic.where("count"),
                         "with \"per\": \"gpu\" each GPU has one card; give "
                         "\"per\": \"node\" and the cards of a node");
  }
  if (!spec.per_gpu && spec.count > group.per_node) {
    nic.findings().error(
        nic.where("count"),
        fmt::format("{} cards are more than the node's {}; give fewer and "
                    "faster ones",
                    spec.count, counted(group.per_node, "GPU")));
  }
  spec.latency = read_latency(nic, kNicUs);
  spec.behind_pcie = nic.boolean("behind_pcie", true);
  nic.finish();
}

/// "nodes" full nodes, or "gpus" in all with the last node partly filled.
void read_counts(JsonObject& o, GroupSpec& group) {
  group.per_node = o.small("count", {1, kMostPerNode});
  if (!o.has("gpus")) {
    o.raw("gpus");
    group.nodes = o.small("nodes", {1, kMostDevices}, 1);
    group.gpus = std::int64_t{group.nodes} * group.per_node;
    return;
  }
  group.gpus = o.integer("gpus", {1, kMostDevices});
  const std::int64_t nodes = ceil_div(group.gpus, group.per_node);
  group.nodes = o.small("nodes", {1, kMostDevices}, static_cast<int>(nodes));
  if (group.nodes != nodes) {
    o.findings().error(
        o.where("nodes"),
        fmt::format("{} for {} of {}, not {}", counted(group.gpus, "GPU"),
                    counted(nodes, "node"), group.per_node, group.nodes));
    group.nodes = static_cast<int>(nodes);
  }
}

void read_addresses(JsonObject& o, GroupSpec& group) {
  const Json* given = o.raw("addresses");
  if (!given) return;
  const bool fits = given->is_array() &&
                    given->size() == static_cast<std::size_t>(group.nodes);
  if (!fits) {
    o.findings().error(o.where("addresses"),
                       fmt::format("expected a list of {}, one per node",
                                   counted(group.nodes, "text")));
    return;
  }
  for (const Json& address : *given) {
    if (!address.is_string()) {
      o.findings().error(o.where("addresses"), "expected texts");
      return;
    }
    group.addresses.push_back(address.get<std::string>());
  }
}

}  // namespace

GroupSpec parse_group(JsonObject& o, const KindTable& kinds) {
  GroupSpec group;
  const std::string kind = o.text("kind");
  group.kind = kinds.find(kind);
  if (!group.kind && !kind.empty()) {
    o.findings().error(o.where("kind"), unknown_kind(kind, kinds));
  }
  group.name = o.text("name", "node");
  read_counts(o, group);
  read_intra(o, group);
  read_nic(o, group);
  group.price_per_node_hour = o.real("price_per_node_hour", {0, 1e9}, 0.0);
  read_addresses(o, group);
  o.finish();
  return group;
}

NetworkSpec parse_network(JsonObject* o, Findings& findings) {
  NetworkSpec network{.latency = microseconds(kNetworkUs),
                      .hop = microseconds(kHopUs)};
  if (!o) return network;
  network.latency = read_latency(*o, kNetworkUs);
  network.hop = microseconds(o->real("spine_hop_us", kMicroseconds, kHopUs));
  network.nodes_per_leaf = o->small("nodes_per_leaf", {1, kMostDevices}, 0);
  network.oversubscription = o->real("oversubscription", {1, 1e4}, 1.0);
  network.rails = o->boolean("rail_optimized", false);
  if (network.oversubscription > 1 && network.nodes_per_leaf == 0 &&
      !network.rails) {
    findings.error(o->where("nodes_per_leaf"),
                   "missing; oversubscription is between leaves, so say how "
                   "many nodes share one");
  }
  o->finish();
  return network;
}

}  // namespace troupe::clusters
