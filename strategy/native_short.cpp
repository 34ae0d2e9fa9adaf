// The short 3D/4D form of the native file.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "strategy/device_set.h"
#include "strategy/native_parts.h"
#include "strategy/short_form.h"

namespace troupe::strategy {
namespace {

constexpr std::array<const char*, 8> kShortKeys{
    "dp",     "tp", "pp", "cp", "interleave", "order", "layers_per_stage",
    "devices"};

RankOrder read_order(JsonObject& o) {
  const std::string text = o.text("order", to_string(kMegatronOrder));
  const auto order = parse_rank_order(text);
  if (!order) {
    o.findings().error(o.where("order"),
                       fmt::format("expected an order of tp, cp, dp and pp, "
                                   "fastest first, such as \"{}\", found "
                                   "\"{}\"",
                                   to_string(kMegatronOrder), text));
  }
  return order.value_or(kMegatronOrder);
}

void read_batch(JsonObject& o, const PhaseDefaults& defaults, ShortForm& form) {
  form.micro_batch_size = o.small("micro_batch_size", kSequences,
                                  defaults.micro_batch_size.value_or(1));
  const bool global = o.has("global_batch");
  const std::int64_t batch = o.integer("global_batch", kPositive, 0);
  form.micro_batches = o.small("micro_batches", kMicroBatches,
                               defaults.micro_batches.value_or(1));
  if (!global || batch < 1) return;
  const std::int64_t per_round = std::int64_t{form.dp} * form.micro_batch_size;
  if (o.has("micro_batches")) {
    if (per_round * form.micro_batches != batch) {
      o.findings().error(
          o.where("global_batch"),
          fmt::format("{} sequences, but dp {} x micro_batches {} x "
                      "micro_batch_size {} is {}; give only one of the two",
                      batch, form.dp, form.micro_batches, form.micro_batch_size,
                      per_round * form.micro_batches));
    }
  } else if (batch % per_round != 0 || batch / per_round > kMicroBatches.most) {
    o.findings().error(
        o.where("global_batch"),
        fmt::format("{} sequences are not a multiple of dp {} x "
                    "micro_batch_size {} (or too many micro-batches)",
                    batch, form.dp, form.micro_batch_size));
  } else {
    form.micro_batches = static_cast<int>(batch / per_round);
  }
}

void read_layers(JsonObject& o, const NativeContext& context, ShortForm& form) {
  const std::int64_t parts = std::int64_t{form.pp} * form.interleave;
  const int layers = context.model.layers;
  if (o.has("layers_per_stage")) {
    for (const std::int64_t n : o.integers("layers_per_stage", {0, 1 << 20})) {
      form.layers_per_stage.push_back(static_cast<int>(n));
    }
    const auto given = static_cast<std::int64_t>(form.layers_per_stage.size());
    if (given != parts) {
      o.findings().error(o.where("layers_per_stage"),
                         fmt::format("{} counts; expected pp {} x interleave "
                                     "{} = {}",
                                     given, form.pp, form.interleave, parts));
    }
    const bool empty = std::count(form.layers_per_stage.begin(),
                                  form.layers_per_stage.end(), 0) > 0;
    if (empty && form.interleave > 1) {
      o.findings().error(o.where("layers_per_stage"),
                         "an interleaved stage needs layers in every round");
    }
  } else if (layers > 0 && parts > layers) {
    o.findings().error(o.where("pp"),
                       fmt::format("pp {} x interleave {} = {} stages, but "
                                   "model {} has {} layers",
                                   form.pp, form.interleave, parts,
                                   context.model.name, layers));
  }
}

void read_devices(JsonObject& o, const NativeContext& context,
                  ShortForm& form) {
  const std::int64_t ranks = rank_count(form);
  const auto count = static_cast<std::int64_t>(context.cluster.devices.size());
  const std::string product =
      fmt::format("dp {} x tp {} x pp {} x cp {} = {} ranks", form.dp, form.tp,
                  form.pp, form.cp, ranks);
  if (ranks > kMostRanks) {
    o.findings().error(o.where("dp"),
                       fmt::format("{}; at most {}", product, kMostRanks));
    return;
  }
  if (const Json* value = o.raw("devices")) {
    const std::string where = o.where("devices");
    DeviceSet set = parse_devices(*value, where, o.findings());
    if (set.devices.empty()) return;
    if (!set.chosen && count > 0) {
      DevicePool pool(context.cluster);
      const auto found =
          pool.next(set.kind, set.devices.size(), where, o.findings());
      if (!found) return;
      set.devices = *found;
    }
    form.devices = std::move(set.devices);
    if (static_cast<std::int64_t>(form.devices.size()) != ranks) {
      o.findings().error(where, fmt::format("{} devices for {}",
                                            form.devices.size(), product));
    }
  } else if (count > 0 && ranks > count) {
    o.findings().error(o.where("dp"),
                       fmt::format("{}, but cluster {} has {} devices", product,
                                   context.cluster.name, count));
  }
}

}  // namespace

bool has_short_form(const JsonObject& object) {
  return std::any_of(kShortKeys.begin(), kShortKeys.end(),
                     [&](const char* key) { return object.has(key); });
}

void read_short_form(NativeContext& context, JsonObject& o,
                     const PhaseDefaults& defaults, const std::string& part,
                     Phase& phase) {
  Draft& draft = context.draft;
  const std::string own = own_path(draft.places, o.where());
  draft.places.set(part + "/pipelines", own, Follow::leaf);
  const std::size_t problems = draft.findings.all().size();
  ShortForm form;
  form.dp = o.small("dp", kDegree, 1);
  form.tp = o.small("tp", kDegree, 1);
  form.pp = o.small("pp", kDegree, 1);
  form.cp = o.small("cp", kDegree, 1);
  form.interleave = o.small("interleave", {1, 1 << 14}, 1);
  form.order = read_order(o);
  read_batch(o, defaults, form);
  read_layers(o, context, form);
  read_devices(o, context, form);
  if (draft.findings.all().size() != problems) {
    draft.places.mark_unread(part);
    return;
  }
  if (context.model.layers == 0 && form.layers_per_stage.empty()) return;
  draft.places.set(part + "/pipelines/devices", own + "/devices", Follow::stop);
  phase.pipelines = pipelines_of(form, context.model.layers);
  const std::string layers =
      form.layers_per_stage.empty() ? own + "/pp" : own + "/layers_per_stage";
  for (std::size_t p = 0; p < phase.pipelines.size(); ++p) {
    const std::string pipeline = fmt::format("{}/pipelines/{}", part, p);
    for (int s = 0; s < form.pp; ++s) {
      const std::string stage = fmt::format("{}/stages/{}", pipeline, s);
      draft.places.set(stage + "/layers", layers, Follow::stop);
      draft.places.set(stage + "/devices",
                       own + (form.devices.empty() ? "/dp" : "/devices"),
                       Follow::stop);
    }
    if (p == 0) {
      drop_empty_stages(draft, phase.pipelines[p], pipeline, "");
    } else {
      std::erase_if(phase.pipelines[p].stages,
                    [](const Stage& stage) { return stage.layers() == 0; });
    }
  }
}

}  // namespace troupe::strategy
