#include "strategy/write.h"

#include <algorithm>

#include "strategy/native.h"
#include "strategy/ranges.h"

namespace troupe::strategy {
namespace {

const char* word_of(Recompute mode) {
  switch (mode) {
    case Recompute::none:
      return "none";
    case Recompute::selective:
      return "selective";
    case Recompute::full:
      return "full";
  }
  return "none";
}

const char* word_of(ScheduleKind kind) {
  switch (kind) {
    case ScheduleKind::one_f_one_b:
      return "1f1b";
    case ScheduleKind::gpipe:
      return "gpipe";
    case ScheduleKind::interleaved:
      return "interleaved";
    case ScheduleKind::custom:
      return "custom";
  }
  return "1f1b";
}

const char* word_of(Pointwise pointwise) {
  switch (pointwise) {
    case Pointwise::fused:
      return "fused";
    case Pointwise::eager:
      return "eager";
    case Pointwise::autocast:
      return "autocast";
  }
  return "fused";
}

Json recompute_json(const RecomputeRule& rule) {
  if (rule.layers.empty()) return word_of(rule.mode);
  return {{"mode", word_of(rule.mode)}, {"layers", format_ranges(rule.layers)}};
}

std::string devices_text(const std::vector<DeviceId>& devices) {
  std::vector<int> numbers;
  for (const DeviceId device : devices) numbers.push_back(device.v);
  return format_ranges(numbers);
}

/// True when "devices", "tp" and "cp" say the same as the members.
bool is_grid(const Stage& stage) {
  const auto cp = static_cast<double>(stage.members.size());
  return std::all_of(
      stage.members.begin(), stage.members.end(), [&](const Member& m) {
        return m.tp() == stage.members.front().tp() && m.share == 1.0 / cp;
      });
}

Json stage_json(const Stage& stage) {
  Json json = Json::object();
  if (is_grid(stage)) {
    std::vector<DeviceId> devices;
    for (const Member& m : stage.members) {
      devices.insert(devices.end(), m.devices.begin(), m.devices.end());
    }
    json["devices"] = devices_text(devices);
    if (!stage.members.empty()) json["tp"] = stage.members.front().tp();
    if (stage.members.size() > 1) json["cp"] = stage.members.size();
  } else {
    for (const Member& m : stage.members) {
      json["members"].push_back(
          {{"devices", devices_text(m.devices)}, {"share", m.share}});
    }
  }
  Json chunks = Json::array();
  for (const LayerRange& chunk : stage.chunks) {
    chunks.push_back(Json::array({chunk.first, chunk.last}));
  }
  if (chunks.size() == 1) {
    json["layers"] = chunks[0];
  } else {
    json["chunks"] = chunks;
  }
  if (stage.recompute) json["recompute"] = recompute_json(*stage.recompute);
  return json;
}

Json pipeline_json(const Pipeline& pipeline) {
  Json json{{"micro_batches", pipeline.micro_batches},
            {"micro_batch_size", pipeline.micro_batch_size},
            {"stages", Json::array()}};
  if (pipeline.seq_len > 0) json["seq_len"] = pipeline.seq_len;
  if (!pipeline.micro_batch_seq_lens.empty()) {
    json["micro_batch_seq_lens"] = pipeline.micro_batch_seq_lens;
  }
  for (const Stage& stage : pipeline.stages) {
    json["stages"].push_back(stage_json(stage));
  }
  return json;
}

Json rule_json(const PhaseRule& rule) {
  switch (rule.kind) {
    case PhaseRule::Kind::always:
      break;
    case PhaseRule::Kind::seq_len:
      return {{"seq_len", Json::array({rule.from, rule.to})}};
    case PhaseRule::Kind::steps:
      return {{"steps", Json::array({rule.from, rule.to})}};
    case PhaseRule::Kind::event:
      return {{"event", rule.event}};
  }
  return nullptr;
}

Json phase_json(const Phase& phase) {
  Json json{{"pipelines", Json::array()}};
  if (!phase.name.empty()) json["name"] = phase.name;
  if (const Json rule = rule_json(phase.rule); !rule.is_null()) {
    json["rule"] = rule;
  }
  for (const Pipeline& pipeline : phase.pipelines) {
    json["pipelines"].push_back(pipeline_json(pipeline));
  }
  return json;
}

/// A name or path, or the object that the text holds.
Json reference_json(const std::string& text) {
  if (text.empty() || text.front() != '{') return text;
  Json json = Json::parse(text, nullptr, false, true);
  return json.is_discarded() ? Json(text) : json;
}

}  // namespace

Json to_json(const Strategy& s) {
  Json json{{"format", kFormat},
            {"name", s.name},
            {"source", s.source},
            {"model", reference_json(s.model)},
            {"cluster", reference_json(s.cluster)},
            {"seq_len", s.seq_len},
            {"dtype", kernels::name_of(s.dtype)},
            {"gradient_dtype", kernels::name_of(s.gradient_dtype)},
            {"zero", static_cast<int>(s.zero)},
            {"sequence_parallel", s.sequence_parallel},
            {"flash_attention", s.flash_attention},
            {"attention_kernel", kernels::name_of(s.attention_kernel)},
            {"pointwise", word_of(s.pointwise)},
            {"overlap_gradient_sync", s.overlap_gradient_sync},
            {"overlap_hand_over", s.overlap_hand_over},
            {"hand_over", name_of(s.hand_over)},
            {"schedule", word_of(s.schedule)},
            {"recompute", recompute_json(s.recompute)},
            {"phases", Json::array()}};
  if (s.switch_memory.v > 0) json["switch_memory"] = s.switch_memory.v;
  if (!s.order_file.empty()) json["order_file"] = s.order_file;
  for (const Phase& phase : s.phases) {
    json["phases"].push_back(phase_json(phase));
  }
  return json;
}

}  // namespace troupe::strategy
