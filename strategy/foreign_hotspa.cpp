// HotSPa: one (dp, tp, pp) for each bucket of document lengths; the step
// switches between them.
#include <algorithm>

#include "base/text.h"
#include "base/units.h"
#include "strategy/foreign_readers.h"
#include "strategy/short_form.h"

namespace troupe::strategy {
namespace {

/// The paper's runs take 512 documents a step; configurations that do not
/// say use that.
constexpr int kDefaultBatch = 512;
constexpr int kDefaultSeqLen = 4096;

/// One entry of "strategies".
struct Entry {
  ShortForm form;
  std::size_t bucket = 0;
  std::string own;
};

/// Descending bounds; n + 1 of them make n buckets.
std::vector<std::int64_t> read_bounds(JsonObject& o, int longest) {
  const Json* given = o.raw("bucket_bounds");
  if (!given) return {longest, 0};
  const std::string where = o.where("bucket_bounds");
  auto bounds = whole_list(*given, where, {0, kSeqLen.most}, o.findings());
  const bool falls =
      std::is_sorted(bounds.rbegin(), bounds.rend()) &&
      std::adjacent_find(bounds.begin(), bounds.end()) == bounds.end();
  if (bounds.size() < 2 || !falls) {
    o.findings().error(where,
                       "expected falling bounds such as [32768, 4096, 0]");
    return {longest, 0};
  }
  if (o.has("max_seq_len") && bounds.front() != longest) {
    o.findings().error(where, fmt::format("begins at {}; expected max_seq_len "
                                          "{}",
                                          bounds.front(), longest));
  }
  return bounds;
}

/// In execution order: the first entry takes the longest bucket, the k-th
/// after it takes the k-th shortest.
std::size_t usual_bucket(std::size_t index, std::size_t buckets) {
  return index == 0 ? 0 : buckets - std::min(index, buckets);
}

Entry read_entry(ForeignContext& context, JsonObject& o, std::size_t index,
                 std::size_t buckets) {
  Entry entry;
  entry.own = own_path(context.draft.places, o.where());
  entry.form.dp = o.small("dp", {1, 1 << 16});
  entry.form.tp = o.small("tp", {1, 4096});
  entry.form.pp = o.small("pp", {1, 1 << 14});
  entry.form.cp = o.small("cp", {1, 4096}, 1);
  entry.bucket = static_cast<std::size_t>(
      o.integer("bucket", {0, static_cast<std::int64_t>(buckets) - 1},
                static_cast<std::int64_t>(usual_bucket(index, buckets))));
  ignore(o, {"token_range", "note"});
  o.finish();
  const std::int64_t ranks = rank_count(entry.form);
  const auto devices =
      static_cast<std::int64_t>(context.cluster.devices.size());
  if (ranks > devices) {
    o.findings().error(o.where(),
                       fmt::format("dp {} x tp {} x pp {} = {} ranks, but "
                                   "cluster {} has {} devices",
                                   entry.form.dp, entry.form.tp, entry.form.pp,
                                   ranks, context.cluster.name, devices));
    context.draft.places.mark_unread("/phases");
  }
  if (entry.form.pp > context.model.layers) {
    o.findings().error(
        o.where("pp"),
        fmt::format("{} stages, but model {} has {} layers", entry.form.pp,
                    context.model.name, context.model.layers));
    context.draft.places.mark_unread("/phases");
  }
  return entry;
}

Phase phase_of(const Entry& entry, const std::vector<std::int64_t>& bounds,
               std::int64_t batch, int layers) {
  Phase phase;
  const std::int64_t high = bounds[entry.bucket];
  const std::int64_t low = bounds[entry.bucket + 1];
  phase.name = fmt::format("lengths over {} up to {}", low, high);
  phase.rule = {PhaseRule::Kind::seq_len, low, high, ""};
  ShortForm form = entry.form;
  // Every bucket is taken to hold an equal part of the step's documents.
  const auto buckets = static_cast<std::int64_t>(bounds.size()) - 1;
  const std::int64_t share = buckets * form.dp;
  form.micro_batches = static_cast<int>(ceil_div(batch, share));
  phase.pipelines = pipelines_of(form, layers);
  for (Pipeline& p : phase.pipelines) p.seq_len = static_cast<int>(high);
  return phase;
}

/// A lone {"dp", "tp", "pp"} is a configuration of one strategy.
std::vector<JsonObject> entries_of(ForeignContext& context, JsonObject& o) {
  if (o.has("strategies")) return o.objects("strategies");
  std::vector<JsonObject> out;
  out.emplace_back(context.chosen.json, context.chosen.where,
                   context.draft.findings);
  return out;
}

}  // namespace

void hotspa_setting(const Case& chosen, Setting& setting) {
  const Json& json = chosen.json;
  if (!json.is_object()) return;
  if (json.contains("model") && json["model"].is_string()) {
    setting.model = model_name("hotspa", json["model"].get<std::string>());
  } else {
    setting.model = "hotspa-7b";
    setting.findings.warning(chosen.where,
                             "names no model; hotspa-7b is assumed (choose "
                             "with --model)");
  }
  std::int64_t gpus = 8;
  if (json.contains("num_gpus")) {
    gpus = whole_number(json["num_gpus"]).value_or(8);
  }
  const std::string hardware =
      chosen.around.contains("hardware") &&
              chosen.around["hardware"].is_string()
          ? chosen.around["hardware"].get<std::string>()
          : "";
  const bool small = hardware.find("A100-40G") != std::string::npos;
  gpus = std::clamp<std::int64_t>(gpus, 1, kDegree.most);
  setting.cluster = cluster_of({{small ? "a100-sxm-40" : "a800", gpus}});
}

void read_hotspa(ForeignContext& context) {
  Draft& draft = context.draft;
  JsonObject o(context.chosen.json, context.chosen.where, draft.findings);
  ignore(o, {"combination", "model", "num_gpus", "steps", "epochs", "note"});
  const int longest = o.small("max_seq_len", kSeqLen, kDefaultSeqLen);
  const std::int64_t batch =
      o.integer("global_batch_size", kSequences, kDefaultBatch);
  const auto bounds = read_bounds(o, longest);
  Strategy& s = draft.strategy;
  s.source = "HotSPa strategy list";
  s.seq_len = static_cast<int>(std::max<std::int64_t>(bounds.front(), 1));
  std::vector<JsonObject> entries = entries_of(context, o);
  const std::size_t buckets = bounds.size() - 1;
  if (entries.size() != buckets) {
    draft.findings.error(o.where("strategies"),
                         fmt::format("{} strategies for {} buckets; expected "
                                     "one for each",
                                     entries.size(), buckets));
    draft.places.mark_unread("/phases");
  }
  bool replicas = false;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const Entry entry = read_entry(context, entries[i], i, buckets);
    if (draft.places.unread("/phases")) continue;
    replicas = replicas || entry.form.dp > 1;
    const std::string part = fmt::format("/phases/{}", i);
    draft.places.set(part, entry.own, Follow::stop);
    draft.places.set(part + "/pipelines", entry.own, Follow::leaf);
    s.phases.push_back(phase_of(entry, bounds, batch, context.model.layers));
  }
  s.zero = replicas ? Zero::one : Zero::none;
  // Its memory model counts 2 bytes of gradient beside 2 of weight.
  s.gradient_dtype = kernels::DType::bf16;
  if (context.chosen.json.is_object() &&
      context.chosen.json.contains("strategies")) {
    o.finish();
  }
}

}  // namespace troupe::strategy
