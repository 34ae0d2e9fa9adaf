#include "runs/hotspa.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/findings.h"
#include "schedule/lower.h"
#include "schedule/memory.h"
#include "strategy/short_form.h"
#include "strategy/validate.h"

namespace troupe::runs {
namespace {

constexpr Limits kDegree{1, 4096};
constexpr Limits kLength{0, std::int64_t{1} << 24};
constexpr RealLimits kMean{1, 1e7};
constexpr RealLimits kSigma{0.01, 5};

LengthLaw read_law(JsonObject& o) {
  LengthLaw law;
  law.name = o.text("name");
  law.mean = o.real("mean", kMean);
  law.sigma = o.real("sigma", kSigma);
  law.least = o.integer("least", {1, 1024}, 1);
  o.raw("source");
  o.finish();
  return law;
}

void check_bounds(const JsonObject& o,
                  const std::vector<std::int64_t>& bounds) {
  const bool falls =
      std::is_sorted(bounds.rbegin(), bounds.rend()) &&
      std::adjacent_find(bounds.begin(), bounds.end()) == bounds.end();
  if (bounds.size() >= 2 && falls && bounds.back() == 0) return;
  o.findings().error(o.where("bounds"),
                     "expected falling bounds that end in 0, such as "
                     "[32768, 4096, 0]");
}

/// [[1, 4, 2], ...].
std::vector<Grid> read_grids(JsonObject& o) {
  std::vector<Grid> out;
  const Json* list = o.raw("strategies");
  const auto wrong = [&] {
    o.findings().error(o.where("strategies"),
                       "expected a list of [dp, tp, pp], each 1 to 4096");
    return std::vector<Grid>{};
  };
  if (!list || !list->is_array() || list->empty()) return wrong();
  for (const Json& one : *list) {
    if (!one.is_array() || one.size() != 3) return wrong();
    std::array<int, 3> degrees{};
    for (std::size_t i = 0; i < 3; ++i) {
      const auto number = whole_number(one[i]);
      if (!number || *number < kDegree.least || *number > kDegree.most) {
        return wrong();
      }
      degrees[i] = static_cast<int>(*number);
    }
    out.push_back({degrees[0], degrees[1], degrees[2]});
  }
  return out;
}

void check_counts(const JsonObject& o, const HotConfiguration& c) {
  if (c.strategies.size() + 1 == c.bounds.size()) return;
  o.findings().error(
      o.where("strategies"),
      fmt::format("{} strategies for {} buckets; expected one "
                  "for each",
                  c.strategies.size(), static_cast<int>(c.bounds.size()) - 1));
}

HotConfiguration read_configuration(JsonObject& o) {
  HotConfiguration c;
  c.combination = o.text("combination", "");
  c.model = o.text("model");
  c.cluster = o.text("cluster");
  c.bounds = o.integers("bounds", kLength);
  c.strategies = read_grids(o);
  check_bounds(o, c.bounds);
  check_counts(o, c);
  o.finish();
  return c;
}

/// As HotSPa's scripts say it; {"dp", "tp", "pp", "bucket"} for each.
HotConfiguration read_foreign(JsonObject& o, bool small) {
  HotConfiguration c;
  c.combination = o.text("combination", "");
  c.model = "hotspa-" + o.text("model");
  c.cluster = fmt::format("{}-{}", small ? "a100-40" : "a800",
                          o.small("num_gpus", kDegree));
  c.bounds = o.integers("bucket_bounds", kLength);
  for (const char* known : {"max_seq_len", "global_batch_size", "steps"}) {
    o.raw(known);
  }
  for (JsonObject& one : o.objects("strategies")) {
    c.strategies.push_back({one.small("dp", kDegree), one.small("tp", kDegree),
                            one.small("pp", kDegree)});
    for (const char* known : {"bucket", "token_range"}) one.raw(known);
    one.finish();
  }
  check_bounds(o, c.bounds);
  check_counts(o, c);
  o.finish();
  return c;
}

strategy::Phase phase_of(const Grid& grid, int layers) {
  strategy::ShortForm form;
  form.dp = grid.dp;
  form.tp = grid.tp;
  form.pp = grid.pp;
  strategy::Phase phase;
  phase.pipelines = strategy::pipelines_of(form, layers);
  return phase;
}

Result<void> check_grid(const Grid& grid, const models::Model& model,
                        const clusters::Cluster& cluster) {
  const std::int64_t devices =
      std::int64_t{grid.dp} * grid.tp * std::int64_t{grid.pp};
  if (devices <= std::ssize(cluster.devices) && grid.pp <= model.layers) {
    return {};
  }
  return fail(Fault::input,
              fmt::format("{}: {} devices and {} stages, but cluster {} has {} "
                          "devices and model {} {} layers",
                          to_string(grid), devices, grid.pp, cluster.name,
                          cluster.devices.size(), model.name, model.layers));
}

/// A plan with the options that HotSPa's runs have.
strategy::Plan empty_plan(const models::Model& model,
                          const clusters::Cluster& cluster,
                          std::int64_t longest) {
  strategy::Plan plan;
  plan.model = model;
  plan.cluster = cluster;
  plan.strategy.name = "hotspa";
  plan.strategy.model = model.name;
  plan.strategy.cluster = cluster.name;
  plan.strategy.seq_len = static_cast<int>(longest);
  plan.strategy.gradient_dtype = kernels::DType::bf16;
  return plan;
}

Result<void> check_plan(const strategy::Plan& plan) {
  const Findings findings =
      strategy::validate(plan.strategy, plan.model, plan.cluster);
  if (!findings.ok()) return fail(findings.to_error());
  return {};
}

/// Grids of all devices that heads, FFN and layers divide by.
std::vector<Grid> static_grids(const models::Model& model, int devices) {
  std::vector<Grid> out;
  for (int tp = 1; tp <= 16; tp *= 2) {
    if (model.heads % tp != 0 || model.ffn % tp != 0) continue;
    for (int pp = 1; pp <= 8; pp *= 2) {
      if (pp > model.layers || devices % (tp * pp) != 0) continue;
      out.push_back({devices / (tp * pp), tp, pp});
    }
  }
  return out;
}

Result<StaticStep> static_step(const Grid& grid, const BucketRows& rows,
                               const HotSetting& setting) {
  strategy::Plan plan = empty_plan(setting.model, setting.cluster, rows.high);
  plan.strategy.phases.push_back(phase_of(grid, setting.model.layers));
  plan.strategy.zero = grid.dp > 1 ? strategy::Zero::one : strategy::Zero::none;
  deal_rows(plan.strategy.phases[0], rows.rows, rows.high);
  TRY_DO(check_plan(plan));
  std::vector<schedule::Schedule> schedules(1);
  TRY(schedules[0], schedule::lower(plan.strategy, plan.strategy.phases[0],
                                    plan.model, plan.cluster));
  const std::size_t only = 0;
  TRY(const StepTimes times, perform_step(plan, {&only, 1}, schedules,
                                          setting.costs, setting.options));
  return StaticStep{grid, times.step, times.mfu,
                    times.phases[0].memory + setting.reserve,
                    (times.over_memory + setting.reserve).v <= 0};
}

/// The same rows under every grid.
Result<std::vector<StaticStep>> all_statics(const BucketRows& rows,
                                            const HotSetting& setting) {
  std::vector<StaticStep> out;
  const auto devices = static_cast<int>(setting.cluster.devices.size());
  for (const Grid& grid : static_grids(setting.model, devices)) {
    TRY(const StaticStep step, static_step(grid, rows, setting));
    out.push_back(step);
  }
  return out;
}

/// The place of the fastest that fits, or -1.
int fastest(const std::vector<StaticStep>& list) {
  int best = -1;
  for (std::size_t i = 0; i < list.size(); ++i) {
    const bool better =
        list[i].fits &&
        (best < 0 || list[i].step < list[static_cast<std::size_t>(best)].step);
    if (better) best = static_cast<int>(i);
  }
  return best;
}

}  // namespace

std::string to_string(const Grid& grid) {
  return fmt::format("dp{} tp{} pp{}", grid.dp, grid.tp, grid.pp);
}

Result<HotExperiments> read_hotspa(const Json& json, const std::string& name,
                                   const std::vector<LengthLaw>& corpora) {
  Findings findings;
  JsonObject o(json, name, findings);
  HotExperiments out;
  if (o.has("configs")) {
    out.source = "HotSPa configurations of " + name;
    // The artifact's other machine.
    const bool small =
        o.text("hardware", "").find("A100-40G") != std::string::npos;
    out.corpora = corpora;
    for (JsonObject& one : o.objects("configs")) {
      out.configurations.push_back(read_foreign(one, small));
    }
    for (const char* known : {"zero", "micro_batch_size", "execution_order",
                              "token_range", "note"}) {
      o.raw(known);
    }
  } else {
    if (o.text("format") != "troupe.hotspa/1") {
      findings.error(o.where("format"), "expected \"troupe.hotspa/1\"");
    }
    out.source = o.text("source", "");
    out.global_batch = o.integer("global_batch", {1, 1 << 20}, 512);
    for (JsonObject& one : o.objects("corpora")) {
      out.corpora.push_back(read_law(one));
    }
    for (JsonObject& one : o.objects("configurations")) {
      out.configurations.push_back(read_configuration(one));
    }
  }
  o.finish();
  if (!findings.ok()) return fail(findings.to_error());
  return out;
}

Result<strategy::Plan> hot_plan(const HotConfiguration& configuration,
                                std::span<const BucketRows> buckets,
                                const models::Model& model,
                                const clusters::Cluster& cluster) {
  strategy::Plan plan =
      empty_plan(model, cluster, configuration.bounds.front());
  bool replicas = false;
  for (std::size_t i = 0; i < configuration.strategies.size(); ++i) {
    const Grid& grid = configuration.strategies[i];
    const BucketRows& bucket = buckets[configuration.bucket(i)];
    // Whoever keeps the states updates; others only run for their documents.
    if (i > 0 && bucket.rows == 0) continue;
    TRY_DO(check_grid(grid, model, cluster));
    strategy::Phase phase = phase_of(grid, model.layers);
    phase.name = fmt::format("{} up to {}", to_string(grid), bucket.high);
    phase.rule = {strategy::PhaseRule::Kind::seq_len, bucket.low, bucket.high,
                  ""};
    deal_rows(phase, bucket.rows, bucket.high);
    replicas = replicas || grid.dp > 1;
    plan.strategy.phases.push_back(std::move(phase));
  }
  plan.strategy.zero = replicas ? strategy::Zero::one : strategy::Zero::none;
  TRY_DO(check_plan(plan));
  return plan;
}

Result<HotResult> perform_hotspa(const HotConfiguration& configuration,
                                 const LengthLaw& corpus,
                                 const HotSetting& setting) {
  const auto lengths =
      typical_batch(corpus, setting.global_batch, configuration.bounds.front());
  HotResult out;
  out.buckets = pack_in_buckets(lengths, configuration.bounds);
  TRY(const strategy::Plan plan,
      hot_plan(configuration, out.buckets, setting.model, setting.cluster));
  std::vector<std::size_t> phases(plan.strategy.phases.size());
  for (std::size_t p = 0; p < phases.size(); ++p) phases[p] = p;
  const auto order = reshard::execution_order(phases);
  std::vector<schedule::Schedule> schedules;
  for (const std::size_t p : order) {
    TRY(auto lowered, schedule::lower(plan.strategy, plan.strategy.phases[p],
                                      plan.model, plan.cluster));
    schedules.push_back(std::move(lowered));
  }
  TRY(out.hot,
      perform_step(plan, order, schedules, setting.costs, setting.options));
  for (const PhaseTime& phase : out.hot.phases) {
    out.memory = std::max(out.memory, phase.memory + setting.reserve);
  }
  out.fits = (out.hot.over_memory + setting.reserve).v <= 0;
  const std::vector<std::int64_t> one{configuration.bounds.front(), 0};
  const BucketRows rows = pack_in_buckets(lengths, one).front();
  TRY(out.statics, all_statics(rows, setting));
  out.best = fastest(out.statics);
  for (std::size_t i = 0; i < configuration.strategies.size(); ++i) {
    const std::size_t b = configuration.bucket(i);
    if (out.buckets[b].rows == 0) continue;
    TRY(const auto list, all_statics(out.buckets[b], setting));
    TRY(const StaticStep chosen,
        static_step(configuration.strategies[i], out.buckets[b], setting));
    const int best = fastest(list);
    const StaticStep& least =
        best < 0 ? chosen : list[static_cast<std::size_t>(best)];
    out.choices.push_back(
        {b, chosen.grid, least.grid, chosen.step, least.step, chosen.fits});
  }
  return out;
}

}  // namespace troupe::runs
