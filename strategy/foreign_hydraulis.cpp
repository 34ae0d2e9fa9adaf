// Hydraulis: each strategy is a list of (cp, tp, pp) pipelines; a dispatcher
// chooses among them every step. Placement as in its runtime.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/text.h"
#include "strategy/foreign_readers.h"
#include "strategy/placement.h"
#include "strategy/short_form.h"

namespace troupe::strategy {
namespace {

/// Its scripts plan 200 000 tokens a step for the 32b model; a micro-batch is
/// taken to be one row of 4096 of them.
constexpr std::int64_t kDefaultTokens = 200'000;
constexpr int kDefaultSeqLen = 4096;
constexpr std::int64_t kMostPipelines = 1 << 16;

struct Scheme {
  std::int64_t cp = 1;
  std::int64_t tp = 1;
  std::int64_t pp = 1;
  std::int64_t gpus() const { return cp * tp * pp; }
};

/// Which numbers the tuples hold.
enum class Tuple : std::uint8_t { by_length, tp_pp_count, cp_tp_pp_count };

struct Listing {
  const Json* strategies = nullptr;  ///< list of lists, or of objects
  std::string where;
  Tuple tuple = Tuple::by_length;
};

Tuple tuple_of(const Case& chosen) {
  for (const Json* json : {&chosen.json, &chosen.around}) {
    if (!json->is_object() || !json->contains("pipeline_tuple")) continue;
    const Json& text = (*json)["pipeline_tuple"];
    if (!text.is_string()) continue;
    return text.get<std::string>().find("cp") != std::string::npos
               ? Tuple::cp_tp_pp_count
               : Tuple::tp_pp_count;
  }
  return Tuple::tp_pp_count;
}

Listing find_strategies(const Case& chosen) {
  Listing out;
  out.where = chosen.where;
  if (chosen.json.is_array()) {
    out.strategies = &chosen.json;
    return out;
  }
  if (!chosen.json.is_object()) return out;
  for (const char* key : {"strategies", "active"}) {
    if (!chosen.json.contains(key)) continue;
    out.strategies = &chosen.json[key];
    out.tuple = tuple_of(chosen);
  }
  for (const char* key : {"MULTI_CP_TP_PP_LIST", "multi_cp_tp_pp_list",
                          "multi_tp_pp_list", "pipelines_tp_pp"}) {
    if (out.strategies || !chosen.json.contains(key)) continue;
    out.strategies = &chosen.json[key];
    out.where += chosen.where.find(": /") == std::string::npos ? ": /" : "/";
    out.where += key;
  }
  return out;
}

/// Adds one tuple, `count` times.
void add_tuple(const Json& json, Tuple tuple, const std::string& where,
               Findings& findings, std::vector<Scheme>& out) {
  const std::size_t before = findings.all().size();
  const auto n = whole_list(json, where, {1, 1 << 16}, findings);
  if (findings.all().size() != before) return;
  std::int64_t count = 1;
  Scheme scheme;
  if (tuple == Tuple::cp_tp_pp_count && n.size() == 4) {
    scheme = {n[0], n[1], n[2]};
    count = n[3];
  } else if (tuple == Tuple::tp_pp_count && n.size() == 3) {
    scheme = {1, n[0], n[1]};
    count = n[2];
  } else if (tuple == Tuple::by_length && n.size() == 3) {
    scheme = {n[0], n[1], n[2]};
  } else if (tuple == Tuple::by_length && n.size() == 2) {
    scheme = {1, n[0], n[1]};
  } else {
    findings.error(
        where, tuple == Tuple::by_length ? "expected (cp, tp, pp) or (tp, pp)"
               : tuple == Tuple::tp_pp_count ? "expected [tp, pp, count]"
                                             : "expected [cp, tp, pp, count]");
    return;
  }
  if (static_cast<std::int64_t>(out.size()) + count > kMostPipelines) {
    findings.error(where, fmt::format("over {} pipelines", kMostPipelines));
    return;
  }
  out.insert(out.end(), static_cast<std::size_t>(count), scheme);
}

/// One strategy: a list of tuples, or an object that holds it.
std::vector<Scheme> read_schemes(const Json& json, Tuple tuple,
                                 const std::string& where, Findings& findings) {
  std::vector<Scheme> out;
  const Json* list = &json;
  std::string at = where;
  if (json.is_object() && json.contains("pipelines")) {
    list = &json["pipelines"];
    at += "/pipelines";
  } else if (json.is_object() && json.contains("pipelines_tp_pp")) {
    list = &json["pipelines_tp_pp"];
    at += "/pipelines_tp_pp";
    tuple = Tuple::by_length;
  }
  if (!list->is_array() || list->empty()) {
    findings.error(at, "expected a list of pipelines such as (cp, tp, pp)");
    return out;
  }
  for (std::size_t i = 0; i < list->size(); ++i) {
    add_tuple((*list)[i], tuple, fmt::format("{}/{}", at, i), findings, out);
  }
  return out;
}

Stage stage_of(const Scheme& scheme, const std::vector<DeviceId>& devices) {
  Stage stage;
  for (std::int64_t c = 0; c < scheme.cp; ++c) {
    const auto first = devices.begin() + c * scheme.tp;
    stage.members.push_back(
        {{first, first + scheme.tp}, 1.0 / static_cast<double>(scheme.cp)});
  }
  return stage;
}

/// Devices of every pipeline; when the given order leaves gaps that are too
/// small, the largest groups are placed first.
std::optional<std::vector<std::vector<std::vector<DeviceId>>>> place_all(
    const std::vector<Scheme>& schemes, const clusters::Cluster& cluster) {
  std::vector<std::size_t> order(schemes.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  for (const bool sorted : {false, true}) {
    if (sorted) {
      std::stable_sort(order.begin(), order.end(),
                       [&](std::size_t a, std::size_t b) {
                         return schemes[a].cp * schemes[a].tp >
                                schemes[b].cp * schemes[b].tp;
                       });
    }
    NodeFiller filler(cluster);
    std::vector<std::vector<std::vector<DeviceId>>> out(schemes.size());
    bool fits = true;
    for (const std::size_t i : order) {
      auto placed = filler.place_pipeline(
          static_cast<int>(schemes[i].pp),
          static_cast<int>(schemes[i].cp * schemes[i].tp));
      fits = fits && placed.has_value();
      if (!fits) break;
      out[i] = *std::move(placed);
    }
    if (fits) return out;
  }
  return {};
}

/// The token budget shared over pipelines by their GPUs, in rows.
int micro_batches_of(const Scheme& scheme, std::int64_t gpus,
                     std::int64_t tokens, int seq_len) {
  const double share =
      static_cast<double>(scheme.gpus()) / static_cast<double>(gpus);
  const double rows = static_cast<double>(tokens) * share / seq_len;
  return static_cast<int>(
      std::clamp<double>(std::round(rows), 1, kMicroBatches.most));
}

bool fits(ForeignContext& context, const std::vector<Scheme>& schemes,
          const std::string& where) {
  std::int64_t gpus = 0;
  Findings& findings = context.draft.findings;
  for (const Scheme& scheme : schemes) {
    gpus += std::min<std::int64_t>(scheme.gpus(), kMostRanks + 1);
    if (scheme.pp <= context.model.layers) continue;
    findings.error(where, fmt::format("a pipeline of {} stages, but model {} "
                                      "has {} layers",
                                      scheme.pp, context.model.name,
                                      context.model.layers));
    return false;
  }
  const auto devices =
      static_cast<std::int64_t>(context.cluster.devices.size());
  if (gpus <= devices) return true;
  findings.error(where, fmt::format("the pipelines take {} GPUs; cluster {} "
                                    "has {}",
                                    gpus, context.cluster.name, devices));
  return false;
}

void add_phase(ForeignContext& context, const std::vector<Scheme>& schemes,
               std::int64_t tokens, int seq_len, const std::string& where) {
  Draft& draft = context.draft;
  const std::size_t index = draft.strategy.phases.size();
  const std::string part = fmt::format("/phases/{}", index);
  draft.places.set(part, own_path(draft.places, where), Follow::stop);
  Phase& phase = draft.strategy.phases.emplace_back();
  phase.name = fmt::format("strategy {}", index);
  const auto placed = fits(context, schemes, where)
                          ? place_all(schemes, context.cluster)
                          : std::nullopt;
  if (!placed) {
    if (draft.findings.ok()) {
      draft.findings.error(where,
                           fmt::format("the pipelines do not fit the nodes of "
                                       "cluster {}",
                                       context.cluster.name));
    }
    draft.places.mark_unread(part);
    return;
  }
  std::int64_t gpus = 0;
  for (const Scheme& scheme : schemes) gpus += scheme.gpus();
  for (std::size_t p = 0; p < schemes.size(); ++p) {
    Pipeline pipeline;
    pipeline.micro_batches =
        micro_batches_of(schemes[p], gpus, tokens, seq_len);
    const std::vector<int> counts =
        even_split(context.model.layers, static_cast<int>(schemes[p].pp));
    int next = 0;
    for (std::size_t s = 0; s < counts.size(); ++s) {
      Stage stage = stage_of(schemes[p], (*placed)[p][s]);
      stage.chunks = {{next, next + counts[s]}};
      next += counts[s];
      pipeline.stages.push_back(std::move(stage));
    }
    phase.pipelines.push_back(std::move(pipeline));
  }
}

std::int64_t number_in(const Case& chosen, const char* key,
                       std::int64_t otherwise) {
  for (const Json* json : {&chosen.json, &chosen.around}) {
    if (!json->is_object() || !json->contains(key)) continue;
    const auto number = whole_number((*json)[key]);
    if (number && *number > 0) return std::min(*number, kPositive.most);
  }
  return otherwise;
}

/// GPUs that the largest of the strategies takes.
std::int64_t gpus_of(const Case& chosen) {
  std::int64_t out = number_in(chosen, "num_gpus", 0);
  const Listing listing = find_strategies(chosen);
  if (!listing.strategies || !listing.strategies->is_array()) return out;
  for (const Json& json : *listing.strategies) {
    Findings ignored;
    std::int64_t gpus = 0;
    for (const Scheme& s : read_schemes(json, listing.tuple, "", ignored)) {
      gpus += std::min(s.gpus(), kDegree.most);
    }
    out = std::max(out, gpus);
  }
  return std::min(out, kDegree.most);
}

}  // namespace

void hydraulis_setting(const Case& chosen, Setting& setting) {
  std::string model;
  for (const Json* json : {&chosen.json, &chosen.around}) {
    for (const char* key : {"model", "model_default"}) {
      if (!model.empty() || !json->is_object() || !json->contains(key)) {
        continue;
      }
      if ((*json)[key].is_string()) model = (*json)[key].get<std::string>();
    }
  }
  if (model.empty()) {
    model = "32b";
    setting.findings.warning(chosen.where,
                             "names no model; hydraulis-32b is assumed "
                             "(choose with --model)");
  }
  setting.model = model_name("hydraulis", model);
  const std::int64_t gpus = gpus_of(chosen);
  // A list that cannot be read gets a node, so that reading it says why.
  setting.cluster =
      cluster_of({{"a800", std::max<std::int64_t>((gpus + 7) / 8, 1) * 8}});
}

void read_hydraulis(ForeignContext& context) {
  Draft& draft = context.draft;
  const Listing listing = find_strategies(context.chosen);
  Strategy& s = draft.strategy;
  s.source = "Hydraulis strategy list";
  s.seq_len = static_cast<int>(std::min<std::int64_t>(
      number_in(context.chosen, "seq_len", kDefaultSeqLen), kSeqLen.most));
  std::int64_t tokens = kDefaultTokens;
  for (const char* key : {"global_token_num_readme", "global_token_num"}) {
    tokens = number_in(context.chosen, key, tokens);
  }
  if (!listing.strategies || !listing.strategies->is_array() ||
      listing.strategies->empty()) {
    draft.findings.error(listing.where,
                         "expected strategies: lists of (cp, tp, pp)");
    draft.places.mark_unread("/phases");
    return;
  }
  const bool inner = context.chosen.json.is_object() &&
                     context.chosen.json.contains("strategies");
  const bool active =
      context.chosen.json.is_object() && context.chosen.json.contains("active");
  const std::string joint =
      listing.where.find(": /") == std::string::npos ? ": " : "";
  const std::string base = listing.where + joint +
                           (active  ? "/active"
                            : inner ? "/strategies"
                                    : "");
  bool replicas = false;
  for (std::size_t i = 0; i < listing.strategies->size(); ++i) {
    const std::string where = fmt::format("{}/{}", base, i);
    const auto schemes = read_schemes((*listing.strategies)[i], listing.tuple,
                                      where, draft.findings);
    replicas = replicas || schemes.size() > 1;
    if (!schemes.empty()) add_phase(context, schemes, tokens, s.seq_len, where);
  }
  if (s.phases.empty()) draft.places.mark_unread("/phases");
  s.zero = replicas ? Zero::one : Zero::none;
  // Its memory model counts 2 bytes of gradient beside 2 of weight.
  s.gradient_dtype = kernels::DType::bf16;
}

}  // namespace troupe::strategy
