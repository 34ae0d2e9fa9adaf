#include "strategy/native.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>
#include <tuple>

#include "base/text.h"
#include "strategy/native_parts.h"

namespace troupe::strategy {
namespace {

constexpr std::array<std::pair<const char*, kernels::AttentionKernel>, 3>
    kAttentionKernels{{{"tuned", kernels::AttentionKernel::tuned},
                       {"flash1", kernels::AttentionKernel::flash1},
                       {"flash2", kernels::AttentionKernel::flash2}}};

constexpr std::array<std::pair<const char*, Pointwise>, 3> kPointwise{
    {{"fused", Pointwise::fused},
     {"eager", Pointwise::eager},
     {"autocast", Pointwise::autocast}}};

constexpr std::array<std::pair<const char*, ScheduleKind>, 4> kSchedules{
    {{"1f1b", ScheduleKind::one_f_one_b},
     {"gpipe", ScheduleKind::gpipe},
     {"interleaved", ScheduleKind::interleaved},
     {"custom", ScheduleKind::custom}}};

constexpr std::array<std::pair<const char*, HandOver>, 4> kHandOvers{
    {{"cheapest", HandOver::cheapest},
     {"batched", HandOver::batched},
     {"leader", HandOver::leader},
     {"scatter", HandOver::scatter}}};

constexpr std::size_t kMostPhases = 4096;

kernels::DType read_dtype(JsonObject& o, std::string_view key,
                          kernels::DType fallback) {
  const std::string name = o.text(key, std::string(kernels::name_of(fallback)));
  const auto type = kernels::parse_dtype(name);
  const bool real = type && *type != kernels::DType::int32 &&
                    *type != kernels::DType::int64 &&
                    *type != kernels::DType::fp64;
  if (!real) {
    o.findings().error(o.where(key),
                       fmt::format("expected one of fp32, tf32, bf16, fp16, "
                                   "fp8, found \"{}\"",
                                   excerpt(name)));
  }
  return real ? *type : fallback;
}

/// A name or path, or the whole object as text.
std::string read_reference(JsonObject& o, std::string_view key) {
  const Json* value = o.raw(key);
  if (!value) return {};
  if (value->is_object()) return to_text(*value);
  return o.text(key);
}

std::pair<std::int64_t, std::int64_t> read_bounds(JsonObject& o,
                                                  std::string_view key) {
  const auto bounds = o.integers(key, kNotNegative);
  if (bounds.size() == 2) return {bounds[0], bounds[1]};
  o.findings().error(o.where(key), "expected [from, to]");
  return {0, 1};
}

PhaseRule read_rule(JsonObject& o) {
  PhaseRule rule;
  auto inner = o.object("rule", true);
  if (!inner) return rule;
  const int given =
      inner->has("seq_len") + inner->has("steps") + inner->has("event");
  if (inner->has("seq_len")) {
    rule.kind = PhaseRule::Kind::seq_len;
    std::tie(rule.from, rule.to) = read_bounds(*inner, "seq_len");
  } else if (inner->has("steps")) {
    rule.kind = PhaseRule::Kind::steps;
    std::tie(rule.from, rule.to) = read_bounds(*inner, "steps");
  } else if (inner->has("event")) {
    rule.kind = PhaseRule::Kind::event;
    rule.event = inner->text("event");
  }
  for (const char* key : {"seq_len", "steps", "event"}) inner->raw(key);
  inner->finish();
  if (given != 1) {
    o.findings().error(o.where("rule"),
                       "expected one of \"seq_len\": [over, up to], "
                       "\"steps\": [from, before], \"event\": \"name\"");
  }
  return rule;
}

/// In the full form the batch is a check; the short form computes with it.
void check_batch(JsonObject& o, const Phase& phase) {
  const std::int64_t batch = o.integer("global_batch", kPositive, 0);
  if (batch < 1 || phase.pipelines.empty()) return;
  std::int64_t sum = 0;
  for (const Pipeline& p : phase.pipelines) {
    sum += std::int64_t{p.micro_batches} * p.micro_batch_size;
  }
  if (sum != batch) {
    o.findings().error(o.where("global_batch"),
                       fmt::format("{} sequences, but the pipelines' "
                                   "micro-batches add up to {}",
                                   batch, sum));
  }
}

/// The pipelines of one phase, in either form.
void read_layout(NativeContext& context, JsonObject& o,
                 const PhaseDefaults& outer, const std::string& part,
                 Phase& phase) {
  PhaseDefaults defaults = outer;
  if (o.has("micro_batch_size")) {
    defaults.micro_batch_size = o.small("micro_batch_size", kSequences, 1);
  }
  if (o.has("micro_batches")) {
    defaults.micro_batches = o.small("micro_batches", kMicroBatches, 1);
  }
  context.draft.places.set(part, own_path(context.draft.places, o.where()),
                           Follow::rest);
  if (o.has("pipelines") && has_short_form(o)) {
    o.findings().error(o.where("pipelines"),
                       "give pipelines, or dp, tp, pp and cp, not both");
    context.draft.places.mark_unread(part);
  } else if (o.has("pipelines")) {
    read_pipelines(context, o, defaults, part, phase);
    check_batch(o, phase);
  } else if (has_short_form(o)) {
    read_short_form(context, o, defaults, part, phase);
  } else {
    o.findings().error(o.where("pipelines"),
                       "missing; describe pipelines, or give dp, tp, pp");
    context.draft.places.mark_unread(part);
  }
}

void read_phases(NativeContext& context, JsonObject& o,
                 const PhaseDefaults& defaults) {
  std::vector<JsonObject> phases = o.objects("phases");
  if (phases.size() > kMostPhases) {
    o.findings().error(o.where("phases"),
                       fmt::format("over {} phases", kMostPhases));
    phases.clear();
    context.draft.places.mark_unread("/phases");
  }
  for (const char* key : {"dp", "tp", "pp", "cp", "pipelines", "devices"}) {
    if (o.has(key)) {
      o.findings().error(o.where(key), "belongs into each of the phases");
      o.raw(key);
    }
  }
  for (std::size_t i = 0; i < phases.size(); ++i) {
    JsonObject& inner = phases[i];
    Phase phase;
    phase.name = inner.text("name", "");
    phase.rule = read_rule(inner);
    const int seq_len = inner.small("seq_len", {0, kSeqLen.most}, 0);
    read_layout(context, inner, defaults, fmt::format("/phases/{}", i), phase);
    for (Pipeline& p : phase.pipelines) {
      if (p.seq_len == 0) p.seq_len = seq_len;
    }
    inner.finish();
    context.draft.strategy.phases.push_back(std::move(phase));
  }
}

void read_options(JsonObject& o, Strategy& s) {
  s.name = o.text("name", "");
  s.source = o.text("source", "");
  s.model = read_reference(o, "model");
  s.cluster = read_reference(o, "cluster");
  s.seq_len = o.small("seq_len", {0, kSeqLen.most}, 0);
  s.dtype = read_dtype(o, "dtype", s.dtype);
  s.gradient_dtype = read_dtype(o, "gradient_dtype", s.gradient_dtype);
  s.zero = static_cast<Zero>(o.small("zero", {0, 3}, 0));
  s.sequence_parallel = o.boolean("sequence_parallel", s.sequence_parallel);
  s.flash_attention = o.boolean("flash_attention", s.flash_attention);
  s.attention_kernel = o.choice<kernels::AttentionKernel>(
      "attention_kernel", kAttentionKernels, s.attention_kernel);
  s.pointwise = o.choice<Pointwise>("pointwise", kPointwise, s.pointwise);
  s.overlap_gradient_sync =
      o.boolean("overlap_gradient_sync", s.overlap_gradient_sync);
  s.overlap_hand_over = o.boolean("overlap_hand_over", s.overlap_hand_over);
  s.hand_over = o.choice<HandOver>("hand_over", kHandOvers, s.hand_over);
  s.switch_memory = {o.integer("switch_memory", {0, std::int64_t{1} << 50}, 0)};
  s.order_file = o.text("order_file", "");
  s.recompute = read_recompute(o).value_or(RecomputeRule{});
  o.raw("notes");
}

/// Without a word about it, several runs of layers per stage mean
/// interleaving.
void settle_schedule(JsonObject& o, Strategy& s) {
  bool chunked = false;
  for (const Phase& phase : s.phases) {
    for (const Pipeline& pipeline : phase.pipelines) {
      for (const Stage& stage : pipeline.stages) {
        chunked = chunked || stage.chunks.size() > 1;
      }
    }
  }
  s.schedule = o.choice<ScheduleKind>(
      "schedule", kSchedules,
      chunked ? ScheduleKind::interleaved : ScheduleKind::one_f_one_b);
}

/// A key that two readers look at is reported once.
Findings distinct(const Findings& all) {
  Findings out;
  std::set<std::pair<std::string, std::string>> seen;
  for (const Finding& f : all.all()) {
    if (!seen.insert({f.where, f.message}).second) continue;
    if (f.severity == Severity::error) {
      out.error(f.where, f.message);
    } else {
      out.warning(f.where, f.message);
    }
  }
  return out;
}

}  // namespace

Draft read_native(const Json& json, const std::string& file,
                  const models::Model& model,
                  const clusters::Cluster& cluster) {
  Draft draft;
  draft.places = Places(file);
  NativeContext context{model, cluster, draft};
  JsonObject o(json, file, draft.findings);
  const std::string format = o.text("format");
  if (!format.empty() && format != kFormat) {
    draft.findings.error(
        o.where("format"),
        fmt::format("expected \"{}\", found \"{}\"", kFormat, excerpt(format)));
  }
  draft.places.set("", "", Follow::rest);
  Strategy& s = draft.strategy;
  read_options(o, s);
  if (s.seq_len == 0) s.seq_len = model.seq_len;
  PhaseDefaults defaults;
  if (o.has("micro_batches")) {
    defaults.micro_batches = o.small("micro_batches", kMicroBatches, 1);
  }
  if (o.has("micro_batch_size")) {
    defaults.micro_batch_size = o.small("micro_batch_size", kSequences, 1);
  }
  if (o.has("phases")) {
    read_phases(context, o, defaults);
  } else {
    s.phases.emplace_back();
    read_layout(context, o, defaults, "/phases/0", s.phases.back());
  }
  settle_schedule(o, s);
  o.finish();
  draft.findings = distinct(draft.findings);
  return draft;
}

}  // namespace troupe::strategy
