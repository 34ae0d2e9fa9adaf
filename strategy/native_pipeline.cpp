// Pipelines and stages of the full native form.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "strategy/device_set.h"
#include "strategy/native_parts.h"
#include "strategy/ranges.h"
#include "strategy/short_form.h"

namespace troupe::strategy {
namespace {

constexpr std::array<std::pair<const char*, Recompute>, 3> kModes{
    {{"none", Recompute::none},
     {"selective", Recompute::selective},
     {"full", Recompute::full}}};

/// A stage as the file has it, before layers and free devices are known.
struct StageDraft {
  Stage stage;
  std::string own;              ///< its path in the file
  std::optional<int> count;     ///< layers, to follow the stage before
  std::vector<DeviceSet> sets;  ///< of its members, in order
  int stride = 0;
  bool readable = true;
};

struct PipelineDraft {
  Pipeline pipeline;  ///< without stages
  std::vector<StageDraft> stages;
  std::string own;
  int repeat = 1;
  bool has_stride = false;
};

int whole(const Json& value, Findings& findings, const std::string& where,
          Limits limits) {
  const auto number = whole_number(value);
  if (number && *number >= limits.least && *number <= limits.most) {
    return static_cast<int>(*number);
  }
  findings.error(where, fmt::format("expected a whole number from {} to {}",
                                    limits.least, limits.most));
  return static_cast<int>(limits.least);
}

LayerRange read_range(const Json& value, const std::string& where,
                      Findings& findings) {
  constexpr Limits kLayer{0, 1 << 20};
  if (!value.is_array() || value.size() != 2) {
    findings.error(where,
                   "expected a number of layers, or [first, one past last]");
    return {};
  }
  const LayerRange range{whole(value[0], findings, where + "/0", kLayer),
                         whole(value[1], findings, where + "/1", kLayer)};
  if (range.last < range.first) {
    findings.error(where, fmt::format("layers [{}, {}) run backwards",
                                      range.first, range.last));
  }
  return range;
}

void read_stage_layers(JsonObject& o, StageDraft& out) {
  const Json* layers = o.raw("layers");
  const Json* chunks = o.raw("chunks");
  Findings& findings = o.findings();
  if (layers && chunks) {
    findings.error(o.where("chunks"), "give layers or chunks, not both");
  } else if (layers && layers->is_number()) {
    out.count = whole(*layers, findings, o.where("layers"), {0, 1 << 20});
  } else if (layers) {
    out.stage.chunks = {read_range(*layers, o.where("layers"), findings)};
  } else if (chunks && chunks->is_array() && !chunks->empty()) {
    for (std::size_t i = 0; i < chunks->size(); ++i) {
      const std::string where = fmt::format("{}/{}", o.where("chunks"), i);
      out.stage.chunks.push_back(read_range((*chunks)[i], where, findings));
    }
  } else if (chunks) {
    findings.error(o.where("chunks"),
                   "expected a list of layer ranges [first, one past last]");
  }
}

/// "members": each context-parallel member with its own devices and share.
void read_members(JsonObject& o, StageDraft& out) {
  std::vector<JsonObject> members = o.objects("members");
  if (members.empty()) {
    o.findings().error(o.where("members"), "expected at least one member");
  }
  for (JsonObject& m : members) {
    Member member;
    member.share =
        m.real("share", {1e-9, 1}, 1.0 / static_cast<double>(members.size()));
    DeviceSet set;
    if (const Json* devices = m.raw("devices")) {
      set = parse_devices(*devices, m.where("devices"), m.findings());
    } else {
      m.findings().error(m.where("devices"), "missing; this key is required");
    }
    member.devices = set.devices;
    out.sets.push_back(std::move(set));
    out.stage.members.push_back(std::move(member));
    m.finish();
  }
}

std::vector<double> read_shares(JsonObject& o, int cp) {
  std::vector<double> shares(static_cast<std::size_t>(cp), 1.0 / cp);
  const Json* value = o.raw("shares");
  if (!value) return shares;
  if (!value->is_array() || value->size() != shares.size()) {
    o.findings().error(o.where("shares"),
                       fmt::format("expected a list of cp = {} numbers", cp));
    return shares;
  }
  for (std::size_t i = 0; i < shares.size(); ++i) {
    const Json& share = (*value)[i];
    if (share.is_number()) {
      shares[i] = share.get<double>();
    } else {
      o.findings().error(fmt::format("{}/{}", o.where("shares"), i),
                         "expected a number");
    }
  }
  return shares;
}

/// "devices" cut into cp members of tp consecutive devices.
void read_device_grid(JsonObject& o, StageDraft& out) {
  const int cp = o.small("cp", kDegree, 1);
  const std::vector<double> shares = read_shares(o, cp);
  DeviceSet set;
  const Json* devices = o.raw("devices");
  if (devices) set = parse_devices(*devices, o.where("devices"), o.findings());
  const auto count = static_cast<int>(set.devices.size());
  if (count == 0) {
    if (!devices) {
      o.findings().error(o.where("devices"),
                         "missing; a stage needs devices (or members)");
    } else if (set.chosen) {
      o.findings().error(o.where("devices"), "expected at least one device");
    }
    o.raw("tp");
    return;
  }
  const int tp = o.small("tp", kDegree, std::max(count / cp, 1));
  if (std::int64_t{tp} * cp != count) {
    o.findings().error(o.where("devices"),
                       fmt::format("{} devices; expected tp {} x cp {} = {}",
                                   count, tp, cp, std::int64_t{tp} * cp));
    return;
  }
  for (int c = 0; c < cp; ++c) {
    const auto first = set.devices.begin() + std::ptrdiff_t{c} * tp;
    out.stage.members.push_back(
        {{first, first + tp}, shares[static_cast<std::size_t>(c)]});
  }
  out.sets.push_back(std::move(set));
}

StageDraft read_stage(const NativeContext& context, JsonObject& o) {
  StageDraft out;
  out.own = own_path(context.draft.places, o.where());
  const std::size_t before = o.findings().all().size();
  if (o.has("members")) {
    read_members(o, out);
    for (const char* key : {"tp", "cp", "devices", "shares"}) {
      if (o.raw(key)) {
        o.findings().error(o.where(key), "members already say this");
      }
    }
  } else {
    read_device_grid(o, out);
  }
  read_stage_layers(o, out);
  out.stage.recompute = read_recompute(o);
  o.raw("device_stride");
  out.readable = o.findings().all().size() == before;
  o.finish();
  return out;
}

/// One number for all stages, or a list with one for each.
void read_strides(JsonObject& o, PipelineDraft& out) {
  const Json* value = o.raw("device_stride");
  out.has_stride = value != nullptr;
  if (!value) return;
  constexpr Limits kStride{0, 1 << 20};
  const std::string where = o.where("device_stride");
  if (value->is_array() && value->size() != out.stages.size()) {
    o.findings().error(where, fmt::format("{} strides for {} stages",
                                          value->size(), out.stages.size()));
    return;
  }
  for (std::size_t s = 0; s < out.stages.size(); ++s) {
    const Json& stride = value->is_array() ? (*value)[s] : *value;
    out.stages[s].stride = whole(stride, o.findings(), where, kStride);
  }
}

void read_micro_batches(JsonObject& o, const PhaseDefaults& defaults,
                        Pipeline& pipeline) {
  for (const std::int64_t length :
       o.integers("micro_batch_seq_lens", kSeqLen, true)) {
    pipeline.micro_batch_seq_lens.push_back(static_cast<int>(length));
  }
  const auto lengths = static_cast<int>(
      std::min<std::size_t>(pipeline.micro_batch_seq_lens.size(), 1 << 20));
  pipeline.micro_batches =
      o.small("micro_batches", kMicroBatches,
              lengths > 0 ? lengths : defaults.micro_batches.value_or(1));
  pipeline.micro_batch_size = o.small("micro_batch_size", kSequences,
                                      defaults.micro_batch_size.value_or(1));
  pipeline.seq_len = o.small("seq_len", {0, kSeqLen.most}, 0);
}

/// Layer ranges from counts, or an even split when no stage says anything.
void settle_layers(const NativeContext& context, PipelineDraft& draft) {
  std::size_t silent = 0;
  for (const StageDraft& s : draft.stages) {
    if (!s.count && s.stage.chunks.empty()) ++silent;
  }
  Findings& findings = context.draft.findings;
  const std::string prefix = context.draft.places.file() + ": ";
  if (silent == draft.stages.size() && context.model.layers > 0) {
    const std::vector<int> counts =
        even_split(context.model.layers, static_cast<int>(draft.stages.size()));
    for (std::size_t s = 0; s < counts.size(); ++s) {
      draft.stages[s].count = counts[s];
    }
  } else if (silent > 0 && silent < draft.stages.size()) {
    for (StageDraft& s : draft.stages) {
      if (s.count || !s.stage.chunks.empty() || !s.readable) continue;
      findings.error(prefix + s.own + "/layers",
                     "missing; give layers for all stages of a pipeline, or "
                     "for none (an even split)");
      s.readable = false;
    }
  }
  constexpr int kFar = 1 << 22;  // beyond any model; keeps the sum small
  int next = 0;
  for (StageDraft& s : draft.stages) {
    if (s.count) s.stage.chunks = {{next, std::min(next + *s.count, kFar)}};
    if (!s.stage.chunks.empty()) next = s.stage.chunks.back().last;
  }
}

PipelineDraft read_pipeline(const NativeContext& context, JsonObject& o,
                            const PhaseDefaults& defaults) {
  PipelineDraft out;
  out.own = own_path(context.draft.places, o.where());
  out.repeat = o.small("repeat", {1, 1 << 17}, 1);
  read_micro_batches(o, defaults, out.pipeline);
  for (JsonObject& stage : o.objects("stages")) {
    out.stages.push_back(read_stage(context, stage));
  }
  read_strides(o, out);
  settle_layers(context, out);
  const bool numbered = std::any_of(
      out.stages.begin(), out.stages.end(), [](const StageDraft& stage) {
        return std::any_of(stage.sets.begin(), stage.sets.end(),
                           [](const DeviceSet& set) { return set.chosen; });
      });
  if (out.repeat > 1 && numbered && !out.has_stride) {
    o.findings().error(o.where("device_stride"),
                       fmt::format("missing; repeat {} of numbered devices "
                                   "needs the distance between copies",
                                   out.repeat));
  }
  o.finish();
  return out;
}

/// The copy `k` of a stage; free devices stay invalid.
Stage copy_of(const StageDraft& draft, int k) {
  Stage stage = draft.stage;
  const std::int64_t shift = std::int64_t{draft.stride} * k;
  for (Member& member : stage.members) {
    for (DeviceId& device : member.devices) {
      if (!device) continue;
      device.v = static_cast<std::int32_t>(
          std::min<std::int64_t>(device.v + shift, 1 << 30));
    }
  }
  return stage;
}

/// Gives the stages of a phase that asked for "the next free" theirs.
void choose_devices(const NativeContext& context, Phase& phase,
                    const std::vector<const PipelineDraft*>& drafts) {
  DevicePool pool(context.cluster);
  if (context.cluster.devices.empty()) return;
  for (const DeviceId device : used_devices(phase)) pool.take(device);
  const std::string prefix = context.draft.places.file() + ": ";
  for (std::size_t p = 0; p < drafts.size(); ++p) {
    for (std::size_t s = 0; s < drafts[p]->stages.size(); ++s) {
      const StageDraft& draft = drafts[p]->stages[s];
      std::vector<DeviceId> chosen;
      for (const DeviceSet& set : draft.sets) {
        const auto next = set.chosen
                              ? set.devices
                              : pool.next(set.kind, set.devices.size(),
                                          prefix + draft.own + "/devices",
                                          context.draft.findings)
                                    .value_or(std::vector<DeviceId>{});
        if (next.size() != set.devices.size()) return;
        chosen.insert(chosen.end(), next.begin(), next.end());
      }
      auto it = chosen.begin();
      for (Member& member : phase.pipelines[p].stages[s].members) {
        for (DeviceId& device : member.devices) {
          if (!device) device = *it;
          ++it;
        }
      }
    }
  }
}

std::int64_t ranks_of(const PipelineDraft& draft) {
  std::int64_t ranks = 1;
  for (const StageDraft& s : draft.stages) {
    ranks += 1 + s.stage.device_count();
  }
  return ranks * draft.repeat;
}

/// `layers_known`: the model was read, so every stage has its layers.
void place_pipeline(Draft& draft, const PipelineDraft& from, bool layers_known,
                    Pipeline& pipeline, const std::string& part) {
  draft.places.set(part, from.own, Follow::rest);
  bool whole = layers_known;
  for (std::size_t s = 0; s < from.stages.size(); ++s) {
    if (from.stages[s].readable) continue;
    whole = false;
    draft.places.mark_unread(fmt::format("{}/stages/{}", part, s));
  }
  if (whole) {
    drop_empty_stages(draft, pipeline, part, from.own + "/stages");
  } else {
    draft.places.mark_unread(part + "/layers");
  }
  // Device lists are one text or list in the file.
  for (std::size_t s = 0; s < pipeline.stages.size(); ++s) {
    const std::string name = fmt::format("{}/stages/{}", part, s);
    const std::string own = own_path(draft.places, draft.places.where(name));
    draft.places.set(name + "/devices", own + "/devices", Follow::stop);
  }
}

}  // namespace

std::optional<RecomputeRule> read_recompute(JsonObject& o) {
  const Json* value = o.raw("recompute");
  if (!value) return {};
  RecomputeRule rule;
  if (value->is_string()) {
    rule.mode = o.choice<Recompute>("recompute", kModes);
    return rule;
  }
  JsonObject inner(*value, o.where("recompute"), o.findings());
  rule.mode = inner.choice<Recompute>("mode", kModes);
  if (const Json* layers = inner.raw("layers")) {
    const DeviceSet numbers =
        parse_devices(*layers, inner.where("layers"), inner.findings());
    for (const DeviceId n : numbers.devices) rule.layers.push_back(n.v);
    if (!numbers.chosen || rule.layers.empty()) {
      inner.findings().error(inner.where("layers"),
                             "expected layer numbers such as \"0-3,8\"; leave "
                             "layers out to mean all");
    }
  }
  inner.finish();
  return rule;
}

void read_pipelines(NativeContext& context, JsonObject& object,
                    const PhaseDefaults& defaults, const std::string& part,
                    Phase& phase) {
  std::vector<PipelineDraft> drafts;
  std::int64_t ranks = 0;
  Draft& draft = context.draft;
  for (JsonObject& o : object.objects("pipelines")) {
    drafts.push_back(read_pipeline(context, o, defaults));
    ranks += ranks_of(drafts.back());
  }
  if (ranks > 4 * kMostRanks) {
    draft.findings.error(object.where("pipelines"),
                         fmt::format("over {} ranks", kMostRanks));
    draft.places.mark_unread(part);
    return;
  }
  std::vector<const PipelineDraft*> origin;
  for (const PipelineDraft& from : drafts) {
    for (int k = 0; k < from.repeat; ++k) {
      Pipeline pipeline = from.pipeline;
      for (const StageDraft& stage : from.stages) {
        pipeline.stages.push_back(copy_of(stage, k));
      }
      phase.pipelines.push_back(std::move(pipeline));
      origin.push_back(&from);
    }
  }
  const std::size_t before = draft.findings.all().size();
  choose_devices(context, phase, origin);
  if (draft.findings.all().size() != before) draft.places.mark_unread(part);
  for (std::size_t p = 0; p < phase.pipelines.size(); ++p) {
    place_pipeline(draft, *origin[p], context.model.layers > 0,
                   phase.pipelines[p], fmt::format("{}/pipelines/{}", part, p));
  }
}

}  // namespace troupe::strategy
