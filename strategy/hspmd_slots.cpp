#include "strategy/hspmd_slots.h"

#include <fmt/format.h>

#include <charconv>
#include <map>
#include <numeric>
#include <optional>
#include <set>

#include "base/text.h"
#include "strategy/foreign_readers.h"
#include "strategy/placement.h"

namespace troupe::strategy {
namespace {

constexpr std::int64_t kMostSlots = kMostRanks;

using Layers = std::vector<std::vector<std::int64_t>>;

std::int64_t count_slots(const Layers& layers, int tp) {
  std::int64_t stages = 0;
  for (const auto& list : layers) {
    stages += static_cast<std::int64_t>(list.size());
  }
  return stages * tp;
}

std::set<std::int64_t> read_unused(JsonObject& o, std::int64_t slots) {
  std::set<std::int64_t> out;
  const Json* list = o.raw("unused_rank");
  if (!list || list->is_null()) return out;
  const std::string where = o.where("unused_rank");
  const auto numbers = whole_list(*list, where, {0, kMostSlots}, o.findings());
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const std::string at = fmt::format("{}/{}", where, i);
    if (numbers[i] >= slots) {
      o.findings().error(at, fmt::format("rank {} does not exist; the stages "
                                         "have ranks 0 to {}",
                                         numbers[i], slots - 1));
    } else if (!out.insert(numbers[i]).second) {
      o.findings().error(at,
                         fmt::format("rank {} is listed twice", numbers[i]));
    }
  }
  return out;
}

std::optional<std::int64_t> number_of(const std::string& key) {
  std::int64_t out = 0;
  const char* end = key.data() + key.size();
  const auto [p, e] = std::from_chars(key.data(), end, out);
  if (e != std::errc{} || p != end) return {};
  return out;
}

/// The mapping by rank; empty when there is none.
std::map<std::int64_t, std::int64_t> read_mapping(JsonObject& o,
                                                  std::int64_t slots,
                                                  bool& given) {
  std::map<std::int64_t, std::int64_t> out;
  const Json* mapping = o.raw("rank_to_device_mapping");
  given = mapping && !mapping->is_null();
  if (!given) return out;
  const std::string where = o.where("rank_to_device_mapping");
  if (!mapping->is_object()) {
    o.findings().error(where,
                       "expected an object of devices by rank, or "
                       "null for the identity");
    return out;
  }
  std::vector<std::string> strangers;
  for (const auto& [key, value] : mapping->items()) {
    const auto rank = number_of(key);
    const auto device = whole_number(value);
    if (!device || *device < 0 || *device > (1 << 30)) {
      o.findings().error(fmt::format("{}/{}", where, excerpt(key)),
                         "expected a device number of 0 or more");
    }
    if (!rank || *rank < 0 || *rank >= slots) {
      strangers.push_back(excerpt(key, 12));
    } else {
      out[*rank] = device.value_or(0);
    }
  }
  if (!strangers.empty()) {
    o.findings().error(
        where, fmt::format("maps ranks that do not exist ({}); the stages "
                           "have ranks 0 to {}",
                           excerpt(join(strangers), 60), slots - 1));
  }
  return out;
}

void check_counts(JsonObject& o, std::int64_t slots, std::int64_t working,
                  const clusters::Cluster& cluster) {
  const std::int64_t said = o.integer("rank_slots", kPositive, slots);
  if (said != slots) {
    o.findings().error(o.where("rank_slots"),
                       fmt::format("{}; the stages of layers_num_list have {} "
                                   "(tp for each)",
                                   said, slots));
  }
  const auto devices = static_cast<std::int64_t>(cluster.devices.size());
  const std::int64_t gpus = o.integer("num_gpus", kPositive, slots);
  if (gpus < working || gpus > std::max(slots, devices)) {
    o.findings().error(o.where("num_gpus"),
                       fmt::format("{}; expected the {} rank slots or the {} "
                                   "working GPUs",
                                   gpus, slots, working));
  }
}

/// True when slot i can be device i for every working slot.
bool identity_fits(const HspmdSlots& out, const clusters::Cluster& cluster) {
  for (const auto& pipeline : out.stages) {
    for (const HspmdSlots::Stage& stage : pipeline) {
      for (const std::int64_t slot : stage.slots) {
        if (slot >= static_cast<std::int64_t>(cluster.devices.size())) {
          return false;
        }
      }
    }
  }
  return true;
}

void map_identity(HspmdSlots& out) {
  for (auto& pipeline : out.stages) {
    for (HspmdSlots::Stage& stage : pipeline) {
      for (const std::int64_t slot : stage.slots) {
        stage.devices.push_back(DeviceId{static_cast<std::int32_t>(slot)});
      }
    }
  }
}

void map_by_node(JsonObject& o, HspmdSlots& out,
                 const clusters::Cluster& cluster) {
  NodeFiller filler(cluster);
  const std::string where = o.where("rank_to_device_mapping");
  for (auto& pipeline : out.stages) {
    for (HspmdSlots::Stage& stage : pipeline) {
      auto devices = filler.place_group(static_cast<int>(stage.slots.size()));
      if (!devices) {
        o.findings().error(where,
                           fmt::format("missing, and the working ranks do not "
                                       "fit the {} devices of cluster {}",
                                       cluster.devices.size(), cluster.name));
        out.good = false;
        return;
      }
      stage.devices = *std::move(devices);
    }
  }
  o.findings().warning(where,
                       "missing, and ranks go beyond the cluster; stages take "
                       "free devices node by node");
}

void map_given(JsonObject& o, HspmdSlots& out,
               const std::map<std::int64_t, std::int64_t>& mapping) {
  std::vector<std::string> missing;
  for (auto& pipeline : out.stages) {
    for (HspmdSlots::Stage& stage : pipeline) {
      for (const std::int64_t slot : stage.slots) {
        const auto it = mapping.find(slot);
        if (it == mapping.end()) {
          missing.push_back(std::to_string(slot));
          continue;
        }
        stage.devices.push_back(
            DeviceId{static_cast<std::int32_t>(it->second)});
      }
    }
  }
  if (missing.empty()) return;
  out.good = false;
  o.findings().error(o.where("rank_to_device_mapping"),
                     fmt::format("no device for rank {}; add it, or list it "
                                 "in unused_rank",
                                 excerpt(join(missing))));
}

}  // namespace

HspmdSlots read_slots(JsonObject& o, const Layers& layers, int tp,
                      const clusters::Cluster& cluster) {
  HspmdSlots out;
  const std::int64_t slots = count_slots(layers, tp);
  if (slots > kMostSlots) {
    o.findings().error(o.where("layers_num_list"),
                       fmt::format("over {} ranks", kMostSlots));
    out.good = false;
    ignore(o,
           {"unused_rank", "rank_to_device_mapping", "num_gpus", "rank_slots"});
    return out;
  }
  const std::set<std::int64_t> unused = read_unused(o, slots);
  std::int64_t slot = 0;
  for (std::size_t p = 0; p < layers.size(); ++p) {
    out.stages.emplace_back();
    for (std::size_t s = 0; s < layers[p].size(); ++s) {
      HspmdSlots::Stage stage;
      for (int t = 0; t < tp; ++t, ++slot) {
        if (!unused.contains(slot)) stage.slots.push_back(slot);
      }
      if (stage.slots.empty()) {
        out.good = false;
        o.findings().error(
            o.where("unused_rank"),
            fmt::format("all ranks of stage {} of pipeline {} ({} to {}) are "
                        "unused; leave it one, or remove the stage",
                        s, p, slot - tp, slot - 1));
      }
      out.stages.back().push_back(std::move(stage));
    }
  }
  check_counts(o, slots, slots - static_cast<std::int64_t>(unused.size()),
               cluster);
  const auto mapping = read_mapping(o, slots, out.mapped);
  if (!out.good) return out;
  if (out.mapped) {
    map_given(o, out, mapping);
  } else if (identity_fits(out, cluster)) {
    map_identity(out);
  } else {
    map_by_node(o, out, cluster);
  }
  return out;
}

}  // namespace troupe::strategy
