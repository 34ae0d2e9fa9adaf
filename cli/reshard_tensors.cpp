#include "cli/reshard_tensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "base/file.h"
#include "base/text.h"
#include "cli/options.h"
#include "cli/say.h"
#include "clusters/read.h"
#include "models/read.h"
#include "strategy/load.h"

namespace troupe::cli {
namespace {

using strategy::TensorLayout;
using strategy::Use;

constexpr const char* kHint =
    "; both sides must be of one model and one kind (a ds_parallel_config "
    "names fused tensors)";

bool nests_ds_entries(const Json& json) {
  return std::ranges::any_of(json.items(), [](const auto& item) {
    const Json& value = item.value();
    return value.is_object() &&
           (value.contains("device_group_union") || nests_ds_entries(value));
  });
}

/// A phase by name or by number from 0.
Result<std::size_t> phase_of(const strategy::Strategy& s,
                             const std::string& wanted) {
  for (std::size_t p = 0; p < s.phases.size(); ++p) {
    if (s.phases[p].name == wanted || std::to_string(p) == wanted) return p;
  }
  std::vector<std::string> names;
  for (const strategy::Phase& phase : s.phases) names.push_back(phase.name);
  return fail(Fault::input, fmt::format("phase {} of {}: the phases are {}",
                                        excerpt(wanted), s.name, join(names)));
}

Result<TensorSide> of_strategy(const SwitchCommand& o, const std::string& given,
                               const std::string& phase, Use use) {
  StrategyOptions source;
  source.strategy = given;
  source.cluster = o.cluster;
  source.from = o.spelling;
  source.model = o.model;
  source.case_index = o.case_index;
  TRY(strategy::Plan plan, load(source));
  print_warnings(plan);
  TRY(const std::size_t index, phase_of(plan.strategy, phase));
  const strategy::Layouts layouts(plan.strategy, plan.strategy.phases[index],
                                  plan.model);
  TensorSide out;
  out.name = given;
  for (models::Parameter& p : models::parameter_list(plan.model)) {
    strategy::Annotation annotation = layouts.of(p, use);
    out.tensors.push_back(
        {std::move(p.name), std::move(p.shape), std::move(annotation)});
  }
  out.cluster = std::move(plan.cluster);
  return out;
}

Result<std::vector<TensorLayout>> of_ds_config(const SwitchCommand& o,
                                               const Json& json,
                                               const std::string& file,
                                               Use use) {
  if (use != Use::compute) {
    return fail(Fault::input,
                file +
                    ": a ds_parallel_config holds layouts for compute only; "
                    "use --use compute, or a strategy");
  }
  if (o.model.empty()) {
    return fail(Fault::input,
                file +
                    ": a ds_parallel_config holds no shapes; name the model "
                    "with --model");
  }
  TRY(const models::Model model, models::read_model(o.model));
  TRY(const strategy::DsConfig config, strategy::read_ds_config(json, file));
  auto tensors = strategy::tensor_layouts(config, model);
  if (tensors) return tensors;
  Error error = std::move(tensors.error());
  error.message = file + ": " + error.message;
  return fail(std::move(error));
}

}  // namespace

Result<SideKind> kind_of_side(const std::string& given) {
  const auto first = given.find_first_not_of(" \t\r\n");
  const bool text = first != std::string::npos && given[first] == '{';
  if (!text && !std::filesystem::exists(given)) return SideKind::strategy;
  Json json;
  if (text) {
    TRY(json, parse_json(given, "an annotation"));
  } else {
    const auto read = read_json(given);
    // Strategies of other systems need not be JSON.
    if (!read) return SideKind::strategy;
    json = *read;
  }
  if (!json.is_object()) return SideKind::strategy;
  if (strategy::holds_layouts(json)) return SideKind::layouts;
  if (json.contains("device_group_union")) return SideKind::tensor;
  if (nests_ds_entries(json)) return SideKind::ds_config;
  return json.contains("groups") ? SideKind::tensor : SideKind::strategy;
}

Result<TensorSide> tensors_of(const SwitchCommand& o, const std::string& given,
                              const std::string& phase,
                              const std::string& otherwise, Use use) {
  const std::string& wanted = phase.empty() ? otherwise : phase;
  TRY(const SideKind kind, kind_of_side(given));
  if (kind == SideKind::tensor) {
    return fail(Fault::input, excerpt(given) +
                                  ": the layout of one tensor; the other side "
                                  "is a whole model's");
  }
  if (kind == SideKind::strategy) return of_strategy(o, given, wanted, use);
  TRY(const Json json, read_json(given));
  TensorSide out;
  out.name = given;
  if (kind == SideKind::ds_config) {
    TRY(out.tensors, of_ds_config(o, json, given, use));
    return out;
  }
  // A file of one phase has it whatever the other side's phases are.
  const bool only = json["phases"].size() == 1 && phase.empty();
  TRY(out.tensors,
      strategy::read_tensor_layouts(json, given, only ? "0" : wanted, use));
  return out;
}

Result<std::vector<reshard::TensorChange>> changes_between(
    const TensorSide& from, const TensorSide& to, kernels::DType dtype) {
  std::map<std::string, const TensorLayout*> wanted;
  for (const TensorLayout& t : to.tensors) wanted[t.name] = &t;
  std::vector<reshard::TensorChange> out;
  for (const TensorLayout& t : from.tensors) {
    const auto it = wanted.find(t.name);
    if (it == wanted.end()) {
      return fail(Fault::input, fmt::format("{} has tensor {}, {} has not{}",
                                            from.name, t.name, to.name, kHint));
    }
    if (it->second->shape != t.shape) {
      return fail(Fault::input,
                  fmt::format("tensor {} has other sizes in {} than in {}",
                              t.name, from.name, to.name));
    }
    out.push_back(
        {t.name, t.annotation, it->second->annotation, t.shape, dtype});
    wanted.erase(it);
  }
  if (wanted.empty()) return out;
  return fail(Fault::input,
              fmt::format("{} has tensor {}, {} has not{}", to.name,
                          wanted.begin()->first, from.name, kHint));
}

Result<clusters::Cluster> nodes_for(clusters::DeviceId last) {
  return clusters::read_cluster(fmt::format(
      "8 x h100-sxm per node, 400 Gbit/s per GPU, {} nodes", last.v / 8 + 1));
}

Result<clusters::Cluster> cluster_of(
    const SwitchCommand& o, const TensorSide& from, const TensorSide& to,
    const std::vector<reshard::TensorChange>& changes) {
  clusters::DeviceId last{0};
  for (const reshard::TensorChange& change : changes) {
    for (const auto* a : {&change.source, &change.destination}) {
      for (const strategy::Subgroup& group : a->groups) {
        for (const auto d : group.devices) last = std::max(last, d);
      }
    }
  }
  // Before and after a loss the clusters differ: the larger has everyone.
  std::optional<clusters::Cluster> cluster = from.cluster;
  const bool larger = to.cluster && (!cluster || to.cluster->devices.size() >
                                                     cluster->devices.size());
  if (larger) cluster = to.cluster;
  if (!o.cluster.empty()) {
    TRY(cluster, clusters::read_cluster(o.cluster));
  }
  if (!cluster) return nodes_for(last);
  if (last.at() < cluster->devices.size()) return *cluster;
  return fail(Fault::input,
              fmt::format("device {} is not one of cluster {}'s {}", last.v,
                          cluster->name, cluster->devices.size()));
}

}  // namespace troupe::cli
