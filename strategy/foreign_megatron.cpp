// Megatron-LM: the grid from its arguments; ranks tp, cp, dp, pp from fast to
// slow.
#include <algorithm>
#include <array>

#include "base/text.h"
#include "models/read.h"
#include "strategy/foreign_readers.h"
#include "strategy/short_form.h"

namespace troupe::strategy {
namespace {

/// Arguments that change what is computed in a way a strategy cannot say.
constexpr std::array<const char*, 6> kRefused{
    "pipeline-model-parallel-layout",      "num-experts",
    "hierarchical-context-parallel-sizes", "encoder-num-layers",
    "pipeline-model-parallel-split-rank",  "mtp-num-layers"};

/// Arguments that are read here; anything spelt nearly so is a slip.
const std::vector<std::string> kKnown{"tensor-model-parallel-size",
                                      "pipeline-model-parallel-size",
                                      "context-parallel-size",
                                      "expert-model-parallel-size",
                                      "num-layers-per-virtual-pipeline-stage",
                                      "num-virtual-stages-per-pipeline-rank",
                                      "micro-batch-size",
                                      "global-batch-size",
                                      "world-size",
                                      "nnodes",
                                      "nproc-per-node",
                                      "seq-length",
                                      "sequence-parallel",
                                      "recompute-granularity",
                                      "recompute-method",
                                      "recompute-num-layers",
                                      "recompute-activations",
                                      "recompute-modules",
                                      "use-distributed-optimizer",
                                      "data-parallel-sharding-strategy",
                                      "overlap-grad-reduce",
                                      "no-overlap-p2p-communication",
                                      "bf16",
                                      "fp16",
                                      "accumulate-allreduce-grads-in-fp32",
                                      "use-tp-pp-dp-mapping",
                                      "decoder-first-pipeline-num-layers",
                                      "decoder-last-pipeline-num-layers",
                                      "account-for-embedding-in-pipeline-split",
                                      "account-for-loss-in-pipeline-split",
                                      "num-layers",
                                      "hidden-size",
                                      "num-attention-heads",
                                      "ffn-hidden-size",
                                      "swiglu",
                                      "kv-channels",
                                      "group-query-attention",
                                      "num-query-groups",
                                      "normalization",
                                      "position-embedding-type",
                                      "use-rotary-position-embeddings",
                                      "max-position-embeddings",
                                      "vocab-size",
                                      "padded-vocab-size",
                                      "untie-embeddings-and-output-weights",
                                      "disable-bias-linear",
                                      "add-qkv-bias",
                                      "model",
                                      "cluster"};

/// "seq_length" of JSON files is "seq-length"; texts that are numbers too.
Json with_dashes(const Json& json) {
  Json out = Json::object();
  if (!json.is_object()) return out;
  for (const auto& [key, value] : json.items()) {
    std::string name = key;
    while (!name.empty() && name.front() == '-') name.erase(0, 1);
    for (char& c : name) c = c == '_' ? '-' : c;
    out[name] = value;
  }
  return out;
}

bool flag(JsonObject& o, const char* key) {
  const Json* value = o.raw(key);
  return value && !(value->is_boolean() && !value->get<bool>());
}

std::int64_t world_size(const Json& json) {
  const auto number = [&](const char* key) {
    return json.contains(key) ? whole_number(json[key]).value_or(0) : 0;
  };
  const std::int64_t world = number("world-size");
  if (world > 0) return std::min(world, kPositive.most);
  const std::int64_t per_node = number("nproc-per-node");
  const std::int64_t nodes = std::max<std::int64_t>(number("nnodes"), 1);
  if (per_node < 1 || per_node > 1024 || nodes > kDegree.most) return 0;
  return nodes * per_node;
}

/// Layers of the virtual stages from --decoder-first/-last and the
/// --account-for flags; empty: even.
std::vector<int> uneven_layers(JsonObject& o, const ShortForm& form,
                               int layers) {
  constexpr Limits kCount{0, 1 << 14};
  const bool first_given = o.has("decoder-first-pipeline-num-layers");
  const bool last_given = o.has("decoder-last-pipeline-num-layers");
  const int first = o.small("decoder-first-pipeline-num-layers", kCount, 0);
  const int last = o.small("decoder-last-pipeline-num-layers", kCount, 0);
  const int embedding = flag(o, "account-for-embedding-in-pipeline-split");
  const int loss = flag(o, "account-for-loss-in-pipeline-split");
  const int v = form.interleave;
  const int stages = form.pp * v;
  std::vector<int> out;
  if (embedding + loss > 0) {
    const int total = layers + embedding + loss;
    if (total % stages != 0 || total / stages < 2) {
      o.findings().error(o.where("num-layers"),
                         fmt::format("{} layers with embedding and loss are "
                                     "not a multiple of {} stages",
                                     total, stages));
      return out;
    }
    out.assign(static_cast<std::size_t>(stages), total / stages);
    out.front() -= embedding;
    out.back() -= loss;
    return out;
  }
  if (!first_given && !last_given) return out;
  const int middle = form.pp - first_given - last_given;
  const int rest = layers - first - last;
  const bool whole =
      first % v == 0 && last % v == 0 &&
      (middle > 0 ? rest >= 0 && rest % (middle * v) == 0 : rest == 0);
  if (!whole || middle < 0) {
    o.findings().error(
        o.where("decoder-first-pipeline-num-layers"),
        fmt::format("{} layers less {} and {} do not divide over the {} other "
                    "stages (x {} virtual)",
                    layers, first, last, middle, v));
    return out;
  }
  for (int k = 0; k < v; ++k) {
    for (int s = 0; s < form.pp; ++s) {
      const bool at_first = first_given && s == 0;
      const bool at_last = last_given && s == form.pp - 1;
      const int count = at_first ? first : at_last ? last : rest / middle;
      out.push_back(count / v);
    }
  }
  return out;
}

void read_interleave(JsonObject& o, ShortForm& form, int layers) {
  const int per =
      o.small("num-layers-per-virtual-pipeline-stage", {0, 1 << 14}, 0);
  form.interleave =
      o.small("num-virtual-stages-per-pipeline-rank", {1, 1 << 14}, 1);
  if (per == 0) return;
  if (layers % (form.pp * per) != 0) {
    o.findings().error(o.where("num-layers-per-virtual-pipeline-stage"),
                       fmt::format("{}: {} layers are not a multiple of pp {} "
                                   "x {}",
                                   per, layers, form.pp, per));
    return;
  }
  form.interleave = layers / form.pp / per;
}

void read_batch(JsonObject& o, ShortForm& form) {
  form.micro_batch_size = o.small("micro-batch-size", kSequences, 1);
  const std::int64_t round = std::int64_t{form.dp} * form.micro_batch_size;
  const std::int64_t batch = o.integer("global-batch-size", kPositive, round);
  if (batch % round != 0 || batch / round > kMicroBatches.most) {
    o.findings().error(o.where("global-batch-size"),
                       fmt::format("{} is not a multiple of dp {} x "
                                   "micro-batch-size {} (or too large)",
                                   batch, form.dp, form.micro_batch_size));
    return;
  }
  form.micro_batches = static_cast<int>(batch / round);
}

/// Layers that recompute with method "block": the first n of each run.
std::vector<int> block_layers(const Strategy& s, int n) {
  std::vector<int> out;
  for (const Stage& stage : s.phases.front().pipelines.front().stages) {
    for (const LayerRange& chunk : stage.chunks) {
      for (int l = chunk.first; l < std::min(chunk.first + n, chunk.last);
           ++l) {
        out.push_back(l);
      }
    }
  }
  return out;
}

void read_recompute(JsonObject& o, Strategy& s) {
  constexpr std::array<std::pair<const char*, Recompute>, 3> kWords{
      {{"none", Recompute::none},
       {"selective", Recompute::selective},
       {"full", Recompute::full}}};
  RecomputeRule rule;
  const bool old_flag = flag(o, "recompute-activations");
  rule.mode =
      o.choice<Recompute>("recompute-granularity", kWords,
                          old_flag ? Recompute::selective : Recompute::none);
  const std::string method = o.text("recompute-method", "uniform");
  const int layers = o.small("recompute-num-layers", {0, 1 << 14}, 1);
  o.raw("recompute-modules");
  if (rule.mode != Recompute::full) {
    s.recompute = rule;
    return;
  }
  if (method == "block") {
    rule.layers = block_layers(s, layers);
    if (rule.layers.empty()) rule.mode = Recompute::none;
  } else if (method != "uniform") {
    o.findings().error(
        o.where("recompute-method"),
        fmt::format("expected uniform or block, found {}", excerpt(method)));
  } else if (layers > 1) {
    o.findings().warning(o.where("recompute-num-layers"),
                         fmt::format("every layer is recomputed by itself, "
                                     "not in groups of {}",
                                     layers));
  }
  s.recompute = rule;
}

void read_options(JsonObject& o, const ShortForm& form, Strategy& s) {
  using kernels::DType;
  s.dtype = flag(o, "bf16")   ? DType::bf16
            : flag(o, "fp16") ? DType::fp16
                              : DType::fp32;
  o.raw("fp16");
  o.raw("accumulate-allreduce-grads-in-fp32");
  s.zero = flag(o, "use-distributed-optimizer") ? Zero::one : Zero::none;
  const std::string sharding =
      o.text("data-parallel-sharding-strategy", "no_shard");
  if (sharding == "optim") s.zero = Zero::one;
  if (sharding == "optim_grads") s.zero = Zero::two;
  if (sharding == "optim_grads_params") s.zero = Zero::three;
  s.sequence_parallel = flag(o, "sequence-parallel");
  s.overlap_gradient_sync = flag(o, "overlap-grad-reduce");
  // Only the interleaved schedule overlaps its transfers in Megatron-LM.
  s.overlap_hand_over =
      form.interleave > 1 && !flag(o, "no-overlap-p2p-communication");
  s.schedule = form.interleave > 1 ? ScheduleKind::interleaved
                                   : ScheduleKind::one_f_one_b;
}

void refuse(JsonObject& o, const Json& json) {
  for (const char* key : kRefused) {
    const Json* value = o.raw(key);
    if (!value || *value == 0) continue;
    o.findings().error(o.where(key), "not supported; a strategy cannot say it");
  }
  if (o.small("expert-model-parallel-size", kDegree, 1) > 1) {
    o.findings().error(o.where("expert-model-parallel-size"),
                       "expert parallelism is not supported");
  }
  // Everything else is about training, not about the strategy.
  for (const auto& [key, value] : json.items()) {
    if (std::find(kKnown.begin(), kKnown.end(), key) != kKnown.end()) continue;
    const std::string hint = did_you_mean(key, kKnown);
    if (hint.empty()) continue;
    o.findings().warning(o.where(excerpt(key)),
                         fmt::format("unknown, passed over{}", hint));
  }
}

/// The size of the grid; dp is what is left of the world.
ShortForm read_grid(ForeignContext& context, JsonObject& o, const Json& json) {
  ShortForm form;
  form.tp = o.small("tensor-model-parallel-size", kDegree, 1);
  form.pp = o.small("pipeline-model-parallel-size", kDegree, 1);
  form.cp = o.small("context-parallel-size", kDegree, 1);
  std::int64_t world = world_size(json);
  if (world == 0) {
    world = static_cast<std::int64_t>(context.cluster.devices.size());
  }
  const std::int64_t group =
      std::int64_t{form.tp} * form.pp * std::min(form.cp, 1 << 14);
  if (world < 1 || world % group != 0 || world > kMostRanks) {
    o.findings().error(
        o.where("world-size"),
        fmt::format("{} ranks are not a multiple of tp {} x pp "
                    "{} x cp {} = {} (or over {})",
                    world, form.tp, form.pp, form.cp, group, kMostRanks));
    return form;
  }
  form.dp = static_cast<int>(world / group);
  if (flag(o, "use-tp-pp-dp-mapping")) {
    form.order = {Axis::tp, Axis::cp, Axis::pp, Axis::dp};
  }
  return form;
}

void place(ForeignContext& context) {
  Places& places = context.draft.places;
  const std::string own = context.own();
  places.set("/phases/0", own, Follow::stop);
  for (const auto& [field, argument] :
       {std::pair{"tp", "tensor-model-parallel-size"},
        std::pair{"cp", "context-parallel-size"},
        std::pair{"layers", "pipeline-model-parallel-size"},
        std::pair{"micro_batches", "global-batch-size"},
        std::pair{"micro_batch_size", "micro-batch-size"},
        std::pair{"seq_len", "seq-length"},
        std::pair{"devices", "world-size"}}) {
    places.set_leaf(field, fmt::format("{}/{}", own, argument));
  }
}

/// A model of ours from the arguments that describe it; null when they do
/// not.
Json model_of(const Json& a) {
  const auto number = [&](const char* key, std::int64_t otherwise) {
    return a.contains(key) ? whole_number(a[key]).value_or(otherwise)
                           : otherwise;
  };
  const auto on = [&](const char* key) {
    return a.contains(key) && a[key] != false;
  };
  const std::int64_t hidden = number("hidden-size", 0);
  const std::int64_t heads = number("num-attention-heads", 0);
  if (hidden < 1 || heads < 1 || number("num-layers", 0) < 1) return nullptr;
  const bool gated = on("swiglu");
  Json m{{"format", "troupe.model/1"},
         {"name", "megatron-arguments"},
         {"source", "Megatron-LM arguments"},
         {"layers", number("num-layers", 0)},
         {"hidden", hidden},
         {"heads", heads},
         // Its defaults: 4 x hidden, two thirds of it with a gate rounded to
         // 64; the GPT-2 vocabulary padded to 128.
         {"ffn", number("ffn-hidden-size",
                        gated ? hidden * 4 * 2 / 3 / 64 * 64 : 4 * hidden)},
         {"vocab", number("padded-vocab-size", number("vocab-size", 50304))},
         {"seq_len", number("seq-length", 2048)},
         {"activation", gated ? "swiglu" : "gelu_tanh"},
         {"tied_embeddings", !on("untie-embeddings-and-output-weights")}};
  const bool bias = !on("disable-bias-linear");
  m["qkv_bias"] = bias || on("add-qkv-bias");
  m["attention_out_bias"] = bias;
  m["mlp_bias"] = bias;
  m["norm"] = a.contains("normalization") && a["normalization"] == "RMSNorm"
                  ? "rms"
                  : "layer";
  if (on("group-query-attention")) {
    m["kv_heads"] = number("num-query-groups", heads);
  }
  if (a.contains("kv-channels")) m["head_dim"] = a["kv-channels"];
  const bool rotary = on("use-rotary-position-embeddings") ||
                      (a.contains("position-embedding-type") &&
                       a["position-embedding-type"] != "learned_absolute");
  m["positions"] = rotary ? "rotary" : "learned";
  if (!rotary) {
    m["max_positions"] =
        number("max-position-embeddings", number("seq-length", 2048));
  }
  return m;
}

}  // namespace

void megatron_setting(const Case& chosen, Setting& setting) {
  const Json a = with_dashes(chosen.json);
  setting.model = a.contains("model") ? a["model"] : model_of(a);
  if (a.contains("cluster")) {
    setting.cluster = a["cluster"];
    return;
  }
  const std::int64_t world = world_size(a);
  if (world < 1 || world > kDegree.most) return;
  setting.cluster = cluster_of({{"h100", world}});
  setting.findings.warning(chosen.where,
                           fmt::format("names no machines; {} H100 in nodes "
                                       "of 8 are assumed (choose with "
                                       "--cluster)",
                                       world));
}

void read_megatron(ForeignContext& context) {
  Draft& draft = context.draft;
  const Json json = with_dashes(context.chosen.json);
  JsonObject o(json, context.chosen.where, draft.findings);
  ShortForm form = read_grid(context, o, json);
  const int layers = context.model.layers;
  const int said = o.small("num-layers", kPositive, layers);
  if (said != layers) {
    draft.findings.error(
        o.where("num-layers"),
        fmt::format("{}; model {} has {}", said, context.model.name, layers));
  }
  if (form.pp > layers) {
    draft.findings.error(o.where("pipeline-model-parallel-size"),
                         fmt::format("{} stages, but model {} has {} layers",
                                     form.pp, context.model.name, layers));
  }
  if (draft.findings.ok()) {
    read_interleave(o, form, layers);
    form.layers_per_stage = uneven_layers(o, form, layers);
    read_batch(o, form);
  }
  if (form.layers_per_stage.empty() &&
      layers % (std::int64_t{form.pp} * form.interleave) != 0) {
    draft.findings.error(o.where("num-layers"),
                         fmt::format("{} layers are not a multiple of pp {} "
                                     "(x {} virtual); give "
                                     "--decoder-first-pipeline-num-layers",
                                     layers, form.pp, form.interleave));
  }
  Strategy& s = draft.strategy;
  s.source = "Megatron-LM arguments";
  s.seq_len = o.small("seq-length", kSeqLen, context.model.seq_len);
  read_options(o, form, s);
  place(context);
  if (draft.findings.ok()) {
    s.phases.emplace_back();
    s.phases.back().pipelines = pipelines_of(form, layers);
    read_recompute(o, s);
  } else {
    draft.places.mark_unread("/phases");
  }
  refuse(o, json);
}

}  // namespace troupe::strategy
