// HexiScale / FlashFlex: TP degree, layers and machine of every stage.
#include <algorithm>
#include <array>
#include <map>
#include <numeric>

#include "base/text.h"
#include "strategy/foreign_readers.h"

namespace troupe::strategy {
namespace {

constexpr int kSeqLenForced = 4096;  ///< its runtime knows no other

using Table = std::vector<std::vector<std::int64_t>>;

struct Plan {
  Table tp;                           ///< hetero_configs
  Table layers;                       ///< layer_partitions
  std::vector<std::int64_t> batches;  ///< sequences, by pipeline
  std::vector<std::int64_t> chunks;   ///< micro-batches, by pipeline
  std::int64_t accumulate = 1;
  bool good = true;
};

/// The first of several spellings that is there.
const Json* first_of(JsonObject& o, std::initializer_list<const char*> keys,
                     std::string& name) {
  const Json* out = nullptr;
  for (const char* key : keys) {
    const Json* value = o.raw(key);
    if (out || !value || value->is_null()) continue;
    out = value;
    name = key;
  }
  return out;
}

/// One value per pipeline: a number, or a list whose last value is repeated.
std::vector<std::int64_t> padded(JsonObject& o, const Json* value,
                                 const std::string& name,
                                 std::size_t pipelines) {
  if (!value) return {};
  const std::string where = o.where(name);
  const Json list = value->is_array() ? *value : Json::array({*value});
  auto out = whole_list(list, where, kSequences, o.findings());
  if (out.size() > pipelines) {
    o.findings().error(
        where,
        fmt::format("{} for {}", counted(std::ssize(out), "value"),
                    counted(static_cast<std::int64_t>(pipelines), "pipeline")));
  }
  if (out.empty()) {
    o.findings().error(where, "expected at least one value");
    out.push_back(1);
  }
  out.resize(pipelines, out.back());
  return out;
}

void read_batches(JsonObject& o, Plan& plan) {
  const std::size_t pipelines = plan.tp.size();
  std::string name;
  const Json* batch = first_of(
      o,
      {"batch", "batch_per_pipeline", "global_bsz_size", "global_batch_size"},
      name);
  const bool given = batch != nullptr;
  plan.batches = padded(o, batch, name, pipelines);
  const std::string batch_name = name;
  const Json* chunks = first_of(o,
                                {"micro_batches", "micro_batches_per_pipeline",
                                 "chunks", "micro_batch_num"},
                                name);
  plan.chunks = padded(o, chunks, name, pipelines);
  plan.accumulate = o.integer("accum_iter", kSequences, 1);
  const std::int64_t size = o.integer("micro_batch", kSequences, 1);
  if (!given) {
    plan.batches.assign(pipelines, size);
    if (!plan.chunks.empty()) {
      for (std::size_t p = 0; p < pipelines; ++p) {
        plan.batches[p] = plan.chunks[p] * size;
      }
    }
    o.findings().warning(o.where("global_bsz_size"),
                         "missing; micro-batches of one sequence are assumed");
  }
  if (plan.chunks.empty()) {
    for (const std::int64_t b : plan.batches) {
      plan.chunks.push_back(std::max<std::int64_t>(b / size, 1));
    }
  }
  for (std::size_t p = 0; p < pipelines; ++p) {
    if (plan.chunks[p] < 1) {
      o.findings().error(
          o.where(name),
          fmt::format("pipeline {} has {}; give "
                      "it at least one",
                      p, counted(plan.chunks[p], "micro-batch")));
      plan.chunks[p] = 1;
      continue;
    }
    if (plan.batches[p] % plan.chunks[p] == 0) continue;
    o.findings().error(
        o.where(batch_name),
        fmt::format("{} sequences of pipeline {} do not divide into {} equal "
                    "micro-batches",
                    plan.batches[p], p, plan.chunks[p]));
  }
}

/// Both tables must have the same shape.
bool same_shape(JsonObject& o, const Table& a, const Table& b,
                const char* name) {
  bool same = a.size() == b.size();
  for (std::size_t p = 0; same && p < a.size(); ++p) {
    if (a[p].size() == b[p].size()) continue;
    o.findings().error(fmt::format("{}/{}", o.where(name), p),
                       fmt::format("{} stages; hetero_configs has {}",
                                   b[p].size(), a[p].size()));
    return false;
  }
  if (!same) {
    o.findings().error(
        o.where(name),
        fmt::format("{} pipelines; hetero_configs has {}", b.size(), a.size()));
  }
  return same;
}

void read_tables(JsonObject& o, Plan& plan) {
  const std::size_t before = o.findings().all().size();
  for (const auto& [key, table] :
       {std::pair{"hetero_configs", &plan.tp},
        std::pair{"layer_partitions", &plan.layers}}) {
    const Json* value = o.raw(key);
    if (!value) {
      o.findings().error(o.where(key), "missing; this key is required");
      continue;
    }
    const Limits limits =
        table == &plan.tp ? Limits{1, 4096} : Limits{0, 1 << 14};
    *table = whole_table(*value, o.where(key), limits, o.findings());
  }
  plan.good = o.findings().all().size() == before &&
              same_shape(o, plan.tp, plan.layers, "layer_partitions");
  if (!plan.good) return;
  std::int64_t ranks = 0;
  for (const auto& row : plan.tp) {
    for (const std::int64_t tp : row) ranks += tp;
  }
  if (ranks > kMostRanks) {
    o.findings().error(o.where("hetero_configs"),
                       fmt::format("{} ranks; at most {}", ranks, kMostRanks));
    plan.good = false;
  }
}

void check_layers(JsonObject& o, const Plan& plan, int model_layers) {
  const std::int64_t total = o.integer("layers", kPositive, model_layers);
  const std::int64_t other = o.integer("total_layer_num", kPositive, total);
  for (std::size_t p = 0; p < plan.layers.size(); ++p) {
    const std::int64_t sum = std::accumulate(
        plan.layers[p].begin(), plan.layers[p].end(), std::int64_t{0});
    if (sum == total && total == other) continue;
    o.findings().error(fmt::format("{}/{}", o.where("layer_partitions"), p),
                       fmt::format("{} layers; expected {} (name the model "
                                   "with --model)",
                                   sum, std::min(total, other)));
  }
}

using Grid = std::vector<std::vector<std::vector<std::int64_t>>>;

/// A 3-D list shaped like the ranks of the plan.
bool read_grid(JsonObject& o, const char* key, const Json& value,
               const Plan& plan, Grid& out) {
  const std::string where = o.where(key);
  const std::size_t before = o.findings().all().size();
  if (!value.is_array() || value.size() != plan.tp.size()) {
    o.findings().error(where, fmt::format("expected one list for each of {} "
                                          "pipelines",
                                          plan.tp.size()));
    return false;
  }
  for (std::size_t p = 0; p < plan.tp.size(); ++p) {
    const std::string at = fmt::format("{}/{}", where, p);
    out.push_back(whole_table(value[p], at, {0, 1 << 20}, o.findings()));
    bool fits = out[p].size() == plan.tp[p].size();
    for (std::size_t s = 0; fits && s < out[p].size(); ++s) {
      fits = static_cast<std::int64_t>(out[p][s].size()) == plan.tp[p][s];
    }
    if (!fits) {
      o.findings().error(at,
                         "has not one number for each rank of "
                         "hetero_configs");
    }
  }
  return o.findings().all().size() == before;
}

/// Ranks by stage: in order, or as pp_layouts says.
Grid read_ranks(JsonObject& o, Plan& plan) {
  Grid ranks;
  if (const Json* value = o.raw("pp_layouts"); value && !value->is_null()) {
    plan.good = read_grid(o, "pp_layouts", *value, plan, ranks) && plan.good;
    for (auto& pipeline : ranks) {
      for (auto& stage : pipeline) std::sort(stage.begin(), stage.end());
    }
    return ranks;
  }
  std::int64_t next = 0;
  for (const auto& row : plan.tp) {
    ranks.emplace_back();
    for (const std::int64_t tp : row) {
      std::vector<std::int64_t> stage(static_cast<std::size_t>(tp));
      std::iota(stage.begin(), stage.end(), next);
      next += tp;
      ranks.back().push_back(std::move(stage));
    }
  }
  return ranks;
}

/// The k-th rank on a machine has its k-th GPU.
Grid devices_by_machine(ForeignContext& context, JsonObject& o,
                        const Grid& machines, const Grid& ranks, Plan& plan) {
  struct Seat {
    std::size_t p, s, m;
  };
  std::map<std::int64_t, Seat> by_rank;
  for (std::size_t p = 0; p < ranks.size(); ++p) {
    for (std::size_t s = 0; s < ranks[p].size(); ++s) {
      for (std::size_t m = 0; m < ranks[p][s].size(); ++m) {
        if (by_rank.try_emplace(ranks[p][s][m], Seat{p, s, m}).second) continue;
        o.findings().error(
            fmt::format("{}/{}/{}", o.where("pp_layouts"), p, s),
            fmt::format("rank {} is used twice", ranks[p][s][m]));
        plan.good = false;
      }
    }
  }
  Grid out = ranks;
  std::map<std::int64_t, std::size_t> taken;
  const auto& nodes = context.cluster.nodes;
  for (const auto& [rank, seat] : by_rank) {
    const std::int64_t machine = machines[seat.p][seat.s][seat.m];
    const std::size_t gpu = taken[machine]++;
    const auto n = static_cast<std::size_t>(machine);
    if (n < nodes.size() && gpu < nodes[n].devices.size()) {
      out[seat.p][seat.s][seat.m] = nodes[n].devices[gpu].v;
      continue;
    }
    o.findings().error(
        fmt::format("{}/{}/{}/{}", o.where("devices_id"), seat.p, seat.s,
                    seat.m),
        fmt::format("machine {} has no GPU {}; cluster {} has {} machines{}",
                    machine, gpu, context.cluster.name, nodes.size(),
                    n < nodes.size() ? fmt::format(", this one with {} GPUs",
                                                   nodes[n].devices.size())
                                     : std::string()));
    plan.good = false;
    return out;
  }
  return out;
}

Grid read_devices(ForeignContext& context, JsonObject& o, Plan& plan,
                  std::string& field) {
  const Json* index = o.raw("device_index");
  const Json* machines = o.raw("devices_id");
  const Grid ranks = read_ranks(o, plan);
  Grid grid;
  field = "hetero_configs";
  if (!plan.good) return grid;
  if (index && !index->is_null()) {
    field = "device_index";
    plan.good = read_grid(o, "device_index", *index, plan, grid);
    return grid;
  }
  if (!machines || machines->is_null()) return ranks;
  field = "devices_id";
  plan.good = read_grid(o, "devices_id", *machines, plan, grid);
  if (!plan.good) return grid;
  return devices_by_machine(context, o, grid, ranks, plan);
}

void read_options(JsonObject& o, Strategy& s) {
  constexpr std::array<std::pair<const char*, Zero>, 3> kZero{
      {{"ddp", Zero::none}, {"zero2", Zero::two}, {"zero3", Zero::three}}};
  constexpr std::array<std::pair<const char*, ScheduleKind>, 4> kPipelines{
      {{"Gpipe", ScheduleKind::gpipe},
       {"GPipe", ScheduleKind::gpipe},
       {"gpipe", ScheduleKind::gpipe},
       {"1F1B", ScheduleKind::one_f_one_b}}};
  constexpr std::array<std::pair<const char*, kernels::DType>, 3> kTypes{
      {{"fp16", kernels::DType::fp16},
       {"bf16", kernels::DType::bf16},
       {"fp32", kernels::DType::fp32}}};
  s.zero = o.choice<Zero>("default_dp_type", kZero, Zero::none);
  s.schedule =
      o.choice<ScheduleKind>("pipeline_type", kPipelines, ScheduleKind::gpipe);
  s.dtype =
      o.choice<kernels::DType>("mixed_precision", kTypes, kernels::DType::fp16);
  s.sequence_parallel = o.boolean("seq_parallel", false);
  if (o.boolean("checkpoint_all", true)) s.recompute.mode = Recompute::full;
  s.seq_len = kSeqLenForced;
  s.source = "HexiScale strategy";
  ignore(o, {"name", "model", "model_size", "inter_bw_GBps", "cluster", "note",
             "run_iter", "checkpoint_layers", "recompute_stage_output",
             "optimizer_type", "learning_rate"});
}

void build(ForeignContext& context, const Plan& plan, const Grid& devices,
           const std::string& field) {
  Draft& draft = context.draft;
  const std::string own = context.own();
  Phase& phase = draft.strategy.phases.emplace_back();
  for (std::size_t p = 0; p < plan.tp.size(); ++p) {
    const std::string part = fmt::format("/phases/0/pipelines/{}", p);
    draft.places.set(part, fmt::format("{}/hetero_configs/{}", own, p),
                     Follow::stop);
    Pipeline pipeline;
    pipeline.micro_batches = static_cast<int>(std::min<std::int64_t>(
        plan.chunks[p] * plan.accumulate, kMicroBatches.most));
    pipeline.micro_batch_size =
        static_cast<int>(plan.batches[p] / plan.chunks[p]);
    int next = 0;
    std::size_t kept = 0;
    for (std::size_t s = 0; s < plan.tp[p].size(); ++s) {
      const auto count = static_cast<int>(plan.layers[p][s]);
      Stage stage;
      stage.chunks = {{next, next + count}};
      next += count;
      Member member;
      for (const std::int64_t d : devices[p][s]) {
        member.devices.push_back(DeviceId{static_cast<std::int32_t>(d)});
      }
      stage.members.push_back(std::move(member));
      pipeline.stages.push_back(std::move(stage));
      const std::string name =
          fmt::format("{}/stages/{}", part, count > 0 ? kept++ : s);
      if (count == 0) continue;
      const auto stop = [&](const char* leaf, std::string_view list) {
        draft.places.set(name + leaf,
                         fmt::format("{}/{}/{}/{}", own, list, p, s),
                         Follow::stop);
      };
      stop("", "hetero_configs");
      stop("/layers", "layer_partitions");
      stop("/devices", field);
    }
    drop_empty_stages(draft, pipeline, part, "");
    phase.pipelines.push_back(std::move(pipeline));
  }
}

std::int64_t first_row(const Json& json, const char* key) {
  std::int64_t sum = 0;
  if (!json.contains(key) || !json[key].is_array() || json[key].empty()) {
    return sum;
  }
  for (const Json& n : json[key].front()) {
    sum += std::clamp<std::int64_t>(whole_number(n).value_or(0), 0, 1 << 14);
  }
  return sum;
}

/// The largest number in nested lists, -1 when there is none.
std::int64_t largest(const Json& json, int depth = 0) {
  if (!json.is_array() || depth > 3) return whole_number(json).value_or(-1);
  std::int64_t out = -1;
  for (const Json& inner : json) out = std::max(out, largest(inner, depth + 1));
  return out;
}

}  // namespace

void hexiscale_setting(const Case& chosen, Setting& setting) {
  const Json& json = chosen.json;
  if (!json.is_object()) return;
  const std::int64_t layers = first_row(json, "layer_partitions");
  for (const char* key : {"model", "model_size"}) {
    if (json.contains(key) && json[key].is_string()) setting.model = json[key];
  }
  if (setting.model.is_null()) {
    const std::map<std::int64_t, const char*> usual{{32, "llama-7b"},
                                                    {40, "llama-13b"},
                                                    {60, "llama-30b"},
                                                    {80, "llama2-70b"}};
    const auto it = usual.find(layers);
    if (it != usual.end()) setting.model = it->second;
  }
  std::int64_t nodes = 1;
  std::int64_t ranks = 0;
  if (json.contains("hetero_configs") && json["hetero_configs"].is_array()) {
    for (const Json& row : json["hetero_configs"]) {
      for (const Json& tp : row) {
        ranks +=
            std::clamp<std::int64_t>(whole_number(tp).value_or(0), 0, 4096);
      }
    }
  }
  nodes = (ranks + 7) / 8;
  for (const auto& [key, per] :
       {std::pair{"devices_id", 1}, std::pair{"device_index", 8}}) {
    if (json.contains(key)) {
      nodes = std::max(nodes, largest(json[key]) / per + 1);
    }
  }
  nodes = std::clamp<std::int64_t>(nodes, 1, kDegree.most / 8);
  if (json.contains("cluster") && json["cluster"].is_string()) {
    // The repository's own cluster has a name only in its documents.
    const std::string name = json["cluster"].get<std::string>();
    setting.cluster =
        name.starts_with("repo-default") ? "hexiscale-case-study" : name;
    return;
  }
  setting.cluster = cluster_of({{"a100-sxm-80", nodes * 8}});
  setting.findings.warning(chosen.where,
                           fmt::format("names no machines; {} nodes of 8 "
                                       "A100-80G are assumed (choose with "
                                       "--cluster)",
                                       nodes));
}

void read_hexiscale(ForeignContext& context) {
  Draft& draft = context.draft;
  JsonObject o(context.chosen.json, context.chosen.where, draft.findings);
  Plan plan;
  read_tables(o, plan);
  read_options(o, draft.strategy);
  if (!plan.good) {
    draft.places.mark_unread("/phases");
    return;
  }
  check_layers(o, plan, context.model.layers);
  read_batches(o, plan);
  std::string field;
  const Grid devices = read_devices(context, o, plan, field);
  o.finish();
  if (!plan.good || !draft.findings.ok()) {
    draft.places.mark_unread("/phases");
    return;
  }
  build(context, plan, devices, field);
}

}  // namespace troupe::strategy
