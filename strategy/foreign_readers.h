// One pair of functions per foreign format. Internal to this folder.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <vector>

#include "strategy/foreign.h"

namespace troupe::strategy {

struct ForeignContext {
  const Case& chosen;
  const models::Model& model;
  const clusters::Cluster& cluster;
  Draft& draft;

  /// The case's path within the file, "" for the whole.
  std::string own() const { return own_path(draft.places, chosen.where); }
};

void hspmd_setting(const Case& chosen, Setting& setting);
void read_hspmd(ForeignContext& context);
void hotspa_setting(const Case& chosen, Setting& setting);
void read_hotspa(ForeignContext& context);
void hydraulis_setting(const Case& chosen, Setting& setting);
void read_hydraulis(ForeignContext& context);
void hexiscale_setting(const Case& chosen, Setting& setting);
void read_hexiscale(ForeignContext& context);
void megatron_setting(const Case& chosen, Setting& setting);
void read_megatron(ForeignContext& context);

/// So many GPUs of one kind, in nodes of 8.
struct GpuGroup {
  std::string kind;
  std::int64_t count = 0;
};
/// "32*H20+16*H800", "32 A800"; empty when it is not such a text.
std::vector<GpuGroup> parse_groups(std::string_view text);
/// The shipped cluster of such groups, else a short form that assumes one
/// card of 400 Gbit/s per GPU (200 for A100 and A800) on its own rail.
std::string cluster_of(const std::vector<GpuGroup>& groups);
/// "32b" of `system` "hspmd" as "hspmd-32b"; a whole name stays.
std::string model_name(std::string_view system, const std::string& size);

/// A list of whole numbers at `where`; anything else is a finding.
std::vector<std::int64_t> whole_list(const Json& json, const std::string& where,
                                     Limits limits, Findings& findings);
/// A list of such lists.
std::vector<std::vector<std::int64_t>> whole_table(const Json& json,
                                                   const std::string& where,
                                                   Limits limits,
                                                   Findings& findings);
/// Marks the keys of a case that carry nothing for us as known.
void ignore(JsonObject& object, std::initializer_list<const char*> keys);

}  // namespace troupe::strategy
