// HSPMD's packed lists: rank slots run pipeline by pipeline, stage by stage,
// `tp` to a stage; unused slots shrink a stage's tensor-parallel group.
#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "base/text.h"
#include "strategy/foreign_readers.h"
#include "strategy/hspmd_packed.h"
#include "strategy/hspmd_slots.h"
#include "strategy/short_form.h"

namespace troupe::strategy {
namespace {

void read_options(ForeignContext& context, JsonObject& o, bool alone) {
  Strategy& s = context.draft.strategy;
  s.zero = o.boolean("zero", true) && !alone ? Zero::one : Zero::none;
  // Its memory model counts 2 bytes of gradient beside 2 of weight.
  s.gradient_dtype = kernels::DType::bf16;
  s.overlap_gradient_sync = false;
  ignore(o, {"case", "cluster", "gpus", "model", "note", "notes", "comment",
             "file_name", "name", "hetero", "derived_pipelines",
             "derived_used_devices", "derived_unused_devices", "config",
             "provenance"});
}

/// Joins the pipelines of one DP group into one whose stages have a member
/// for each. `first` is the group's first pipeline.
Pipeline merged(const HspmdPacked& packed, const HspmdSlots& slots,
                std::size_t first, std::size_t cp) {
  Pipeline out;
  double total = 0;
  for (std::size_t c = 0; c < cp; ++c) {
    total += packed.seq_lens.empty()
                 ? 1.0
                 : static_cast<double>(packed.seq_lens[first + c]);
  }
  int next = 0;
  for (std::size_t s = 0; s < packed.layers[first].size(); ++s) {
    const auto count = static_cast<int>(packed.layers[first][s]);
    Stage stage;
    stage.chunks = {{next, next + count}};
    next += count;
    for (std::size_t c = 0; c < cp; ++c) {
      const double part = packed.seq_lens.empty()
                              ? 1.0
                              : static_cast<double>(packed.seq_lens[first + c]);
      stage.members.push_back(
          {slots.stages[first + c][s].devices, part / total});
    }
    out.stages.push_back(std::move(stage));
  }
  return out;
}

/// Names the parts of pipeline `index` after the packed fields.
void place(ForeignContext& context, const HspmdPacked& packed,
           const HspmdSlots& slots, std::size_t index, std::size_t first,
           std::size_t cp) {
  Places& places = context.draft.places;
  const std::string own = context.own();
  const std::string part = fmt::format("/phases/0/pipelines/{}", index);
  const auto stop = [&](const std::string& name, const std::string& field) {
    places.set(part + name, own + field, Follow::stop);
  };
  stop("", "");
  stop("/micro_batches", fmt::format("/micro_batch_num_list/{}", index));
  stop("/micro_batch_size", "/micro_batch_size");
  stop("/seq_len", packed.seq_lens.empty() ? "" : "/seq_len_list");
  std::size_t kept = 0;  // stages without layers are left out later
  for (std::size_t s = 0; s < packed.layers[first].size(); ++s) {
    if (packed.layers[first][s] == 0) continue;
    const std::string stage = fmt::format("/stages/{}", kept++);
    stop(stage, fmt::format("/layers_num_list/{}", first));
    stop(stage + "/share", "/seq_len_list");
    stop(stage + "/cp", "/cp_list");
    stop(stage + "/devices", "/rank_to_device_mapping");
    std::size_t device = 0;
    bool shrunk = false;
    for (std::size_t c = 0; c < cp; ++c) {
      const HspmdSlots::Stage& slot_stage = slots.stages[first + c][s];
      shrunk = shrunk ||
               slot_stage.slots.size() < static_cast<std::size_t>(packed.tp);
      for (const std::int64_t slot : slot_stage.slots) {
        stop(fmt::format("{}/devices/{}", stage, device++),
             slots.mapped ? fmt::format("/rank_to_device_mapping/{}", slot)
                          : std::string("/layers_num_list"));
      }
    }
    stop(stage + "/tp", shrunk ? "/unused_rank" : "/tp");
  }
}

void build(ForeignContext& context, const HspmdPacked& packed,
           const HspmdSlots& slots) {
  Draft& draft = context.draft;
  Phase phase;
  std::size_t first = 0;
  for (std::size_t g = 0; g < packed.cp_list.size(); ++g) {
    const auto cp = static_cast<std::size_t>(packed.cp_list[g]);
    for (std::size_t c = 1; c < cp; ++c) {
      if (packed.layers[first + c] == packed.layers[first]) continue;
      draft.findings.error(
          fmt::format("{}: {}/layers_num_list/{}", draft.places.file(),
                      context.own(), first + c),
          fmt::format("pipelines of one context-parallel group must have the "
                      "same layers in each stage; pipeline {} of DP group {} "
                      "differs from pipeline {}",
                      first + c, g, first));
      draft.places.mark_unread("/phases/0");
      return;
    }
    place(context, packed, slots, g, first, cp);
    Pipeline pipeline = merged(packed, slots, first, cp);
    pipeline.micro_batches = static_cast<int>(packed.micro_batches[g]);
    pipeline.micro_batch_size = packed.micro_batch_size;
    phase.pipelines.push_back(std::move(pipeline));
    first += cp;
  }
  draft.strategy.seq_len = packed.seq_len;
  draft.strategy.phases.push_back(std::move(phase));
}

/// "recompute_granularity": one of null, "selective", "full" per pipeline.
void read_recompute(ForeignContext& context, JsonObject& o,
                    const HspmdPacked& packed) {
  const Json* granularity = o.raw("recompute_granularity");
  const Json* layers = o.raw("recompute_layer_idxs_list");
  const Json* method = o.raw("recompute_method");
  o.raw("recompute_num_layers");
  if (method && !method->is_null()) {
    o.findings().warning(o.where("recompute_method"),
                         "not understood; all layers are recomputed. Name "
                         "them with recompute_layer_idxs_list");
  }
  if (absent(granularity) || !granularity->is_array()) return;
  auto& pipelines = context.draft.strategy.phases.front().pipelines;
  std::size_t first = 0;
  for (std::size_t g = 0; g < pipelines.size(); ++g) {
    if (first >= granularity->size()) return;
    const Json& word = (*granularity)[first];
    RecomputeRule rule;
    if (word == "full") rule.mode = Recompute::full;
    if (word == "selective") rule.mode = Recompute::selective;
    if (layers && layers->is_array() && first < layers->size()) {
      for (const Json& layer : (*layers)[first]) {
        rule.layers.push_back(
            static_cast<int>(whole_number(layer).value_or(-1)));
      }
      if (rule.layers.empty()) rule.mode = Recompute::none;
    }
    for (Stage& stage : pipelines[g].stages) {
      if (rule.mode != Recompute::none) stage.recompute = rule;
    }
    first += static_cast<std::size_t>(packed.cp_list[g]);
  }
}

/// Stages that hold nothing go, once everything has its place.
void drop_empty(ForeignContext& context) {
  if (context.draft.strategy.phases.empty()) return;
  auto& pipelines = context.draft.strategy.phases.front().pipelines;
  for (std::size_t p = 0; p < pipelines.size(); ++p) {
    drop_empty_stages(context.draft, pipelines[p],
                      fmt::format("/phases/0/pipelines/{}", p), "");
  }
}

void read_hetero(ForeignContext& context, JsonObject& o) {
  HspmdPacked packed;
  bool shaped = read_groups(o, packed);
  bool good = shaped;
  good = read_layers(context, o, packed, shaped) && good;
  if (shaped) read_lengths(o, packed);
  read_micro_batches(o, packed);
  HspmdSlots slots;
  if (shaped) {
    slots = read_slots(o, packed.layers, packed.tp, context.cluster);
  }
  read_options(context, o, packed.layers.size() == 1);
  ignore(o, {"cp", "pp", "seq_len_list", "global_seq_len", "unused_rank",
             "rank_to_device_mapping", "num_gpus", "rank_slots"});
  good = good && slots.good &&
         packed.micro_batches.size() == static_cast<std::size_t>(packed.dp);
  if (!good) {
    context.draft.places.mark_unread("/phases");
    ignore(o, {"recompute_granularity", "recompute_layer_idxs_list",
               "recompute_method", "recompute_num_layers"});
    return;
  }
  build(context, packed, slots);
  if (context.draft.strategy.phases.empty()) {
    context.draft.places.mark_unread("/phases");
    return;
  }
  read_recompute(context, o, packed);
  drop_empty(context);
}

/// dp, cp, tp and pp in place of lists: stage s is on the s-th part of the
/// GPUs, replicas inside, tensor parallelism innermost.
void read_homogeneous(ForeignContext& context, JsonObject& o) {
  ShortForm form;
  form.dp = o.small("dp", {1, 1 << 12});
  form.tp = o.small("tp", {1, 1 << 10});
  form.pp = o.small("pp", {1, 1 << 10});
  form.cp = o.small("cp", {1, 1 << 10}, 1);
  HspmdPacked packed;
  packed.dp = form.dp;
  packed.cp_list.assign(static_cast<std::size_t>(form.dp), form.cp);
  packed.layers.resize(static_cast<std::size_t>(form.dp));
  packed.micro_batch_size = o.small("micro_batch_size", kSequences, 1);
  packed.seq_len = o.small("global_seq_len", kSeqLen, kHspmdSeqLen);
  read_micro_batches(o, packed);
  o.small("num_layers", kHspmdLayers, 0);
  const std::int64_t ranks = rank_count(form);
  const std::int64_t gpus = o.integer("num_gpus", kPositive, ranks);
  read_options(context, o, ranks == std::int64_t{form.tp} * form.pp);
  ignore(o, {"cp_list", "layers_num_list", "seq_len_list", "unused_rank",
             "rank_to_device_mapping", "recompute_granularity",
             "recompute_layer_idxs_list", "rank_slots", "recompute_method",
             "recompute_num_layers"});
  if (gpus != ranks) {
    o.findings().error(
        o.where("num_gpus"),
        fmt::format("{}; expected dp x cp x tp x pp = {}", gpus, ranks));
  }
  if (ranks > kMostRanks || form.pp > context.model.layers) {
    o.findings().error(o.where("pp"),
                       fmt::format("{} ranks and pp {} do not fit a model of "
                                   "{} layers",
                                   ranks, form.pp, context.model.layers));
  }
  if (!o.findings().ok()) {
    context.draft.places.mark_unread("/phases");
    return;
  }
  context.draft.places.set("/phases/0/pipelines", context.own(), Follow::leaf);
  Strategy& s = context.draft.strategy;
  s.seq_len = packed.seq_len;
  s.phases.emplace_back();
  s.phases.back().pipelines = pipelines_of(form, context.model.layers);
  for (std::size_t g = 0; g < packed.micro_batches.size(); ++g) {
    Pipeline& pipeline = s.phases.back().pipelines[g];
    pipeline.micro_batches = static_cast<int>(packed.micro_batches[g]);
    pipeline.micro_batch_size = packed.micro_batch_size;
  }
}

bool homogeneous(const Json& json) {
  return !json.contains("layers_num_list") && json.contains("pp");
}

/// Layers that the case says or adds up to, 0 when unknown.
std::int64_t layers_said(const Json& json) {
  if (json.contains("num_layers")) {
    return whole_number(json["num_layers"]).value_or(0);
  }
  std::int64_t sum = 0;
  if (json.contains("layers_num_list") && json["layers_num_list"].is_array() &&
      !json["layers_num_list"].empty()) {
    for (const Json& n : json["layers_num_list"].front()) {
      sum += std::clamp<std::int64_t>(whole_number(n).value_or(0), 0, 1 << 14);
    }
  }
  return sum;
}

/// GPUs that the case says, else its rank slots; at least 8, so that a broken
/// case is read and its problems told.
std::int64_t gpus_said(const Json& json) {
  const auto number = [&](const char* key) {
    return json.contains(key) ? whole_number(json[key]).value_or(0) : 0;
  };
  std::int64_t stages = 0;
  if (json.contains("layers_num_list") && json["layers_num_list"].is_array()) {
    for (const Json& row : json["layers_num_list"]) {
      stages += static_cast<std::int64_t>(row.size());
    }
  }
  const std::int64_t tp = std::clamp<std::int64_t>(number("tp"), 1, 4096);
  const std::int64_t gpus = number("num_gpus") > 0
                                ? number("num_gpus")
                                : std::min(stages, kDegree.most) * tp;
  return std::clamp<std::int64_t>(gpus, 8, kDegree.most);
}

/// The cluster that a field tells, empty when it tells none.
std::string cluster_said(const Json& cluster) {
  if (cluster.is_string()) {
    const std::string text = cluster.get<std::string>();
    const auto groups = parse_groups(text);
    return groups.empty() ? text : cluster_of(groups);
  }
  if (!cluster.is_array()) return {};
  std::vector<GpuGroup> groups;
  for (const Json& group : cluster) {
    if (!group.is_object() || !group.contains("type") ||
        !group["type"].is_string() || !group.contains("count")) {
      return {};
    }
    const auto count = whole_number(group["count"]).value_or(0);
    const auto parsed = parse_groups(
        fmt::format("{} {}", count, group["type"].get<std::string>()));
    if (parsed.size() != 1) return {};
    groups.push_back(parsed.front());
  }
  return groups.empty() ? std::string() : cluster_of(groups);
}

}  // namespace

void hspmd_setting(const Case& chosen, Setting& setting) {
  const Json& json = chosen.json;
  if (!json.is_object()) return;
  if (json.contains("model") && json["model"].is_string()) {
    setting.model = model_name("hspmd", json["model"].get<std::string>());
  } else {
    const std::int64_t layers = layers_said(json);
    setting.model = layers == 80 ? "hspmd-70b" : "hspmd-32b";
    if (layers != 80 && layers != 60) {
      setting.findings.warning(chosen.where,
                               "names no model; hspmd-32b is assumed (choose "
                               "with --model)");
    }
  }
  for (const Json* source : {&json, &chosen.around}) {
    for (const char* key : {"cluster", "gpus"}) {
      if (!setting.cluster.is_null() || !source->contains(key)) continue;
      const std::string text = cluster_said((*source)[key]);
      if (!text.empty()) setting.cluster = text;
    }
  }
  if (!setting.cluster.is_null()) return;
  const std::int64_t gpus = gpus_said(json);
  setting.cluster = cluster_of({{"h20", gpus}});
  setting.findings.warning(chosen.where,
                           fmt::format("names no cluster; {} H20 in nodes of "
                                       "8 are assumed (choose with --cluster)",
                                       gpus));
}

void read_hspmd(ForeignContext& context) {
  JsonObject o(context.chosen.json, context.chosen.where,
               context.draft.findings);
  if (!context.chosen.json.is_object()) {
    context.draft.places.mark_unread("/phases");
    return;
  }
  context.draft.strategy.source = "HSPMD packed strategy";
  if (homogeneous(context.chosen.json)) {
    read_homogeneous(context, o);
  } else {
    read_hetero(context, o);
  }
  o.finish();
}

}  // namespace troupe::strategy
