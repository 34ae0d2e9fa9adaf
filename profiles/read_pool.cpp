#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "profiles/readers.h"

namespace troupe::profiles {
namespace {

/// The models whose pools are known, by hidden size and layers: the pools
/// say no more. Source: model tables of HotSPa, HSPMD and Hydraulis.
struct PoolModel {
  const char* name;
  int hidden, layers, heads, head_dim, ffn;
};
constexpr PoolModel kModels[] = {{"llama-7b", 4096, 32, 32, 128, 11008},
                                 {"llama-13b", 5120, 40, 40, 128, 13824},
                                 {"llama-32b", 6656, 60, 64, 104, 17920},
                                 {"llama-70b", 8192, 80, 64, 128, 28672}};

/// Devices by the memory a pool was limited to: 81252 MiB, 40536 MiB and
/// 97871 MiB are what nvidia-smi shows as usable.
constexpr std::pair<double, const char*> kByMemory[] = {
    {85198897152.0, "a800-sxm-80"},
    {42505076736.0, "a100-sxm-40"},
    {102625181696.0, "h20"}};

/// The sweep went up in steps of 128 tokens. A fit over fewer than four
/// lengths says nothing about a and b apart.
constexpr int kStep = 128;
constexpr int kLeastLongest = 4 * kStep;
/// The quadratic term is attention, whose FLOPs per device are the same in
/// all schemes: one that is 2.5 times the median of the pool is a bad fit.
constexpr double kOutlier = 2.5;

struct Pool {
  double hidden = 0, layers = 0, vocab = 0;
  double state_bytes = 0;  ///< B
  double sharded = 0;      ///< alpha
  double gap = 0, safe = 0, bound = 0;
  std::map<int, double> activation;  ///< A by tp
};

/// The longest micro-batch that fits when optimizer states are sharded away.
int longest(const Pool& p, int tp, int pp) {
  const auto a = p.activation.find(tp);
  if (a == p.activation.end()) return 0;
  const double states =
      (p.layers / pp * p.hidden * p.hidden / tp * p.state_bytes +
       p.hidden * p.vocab / tp * (pp > 1 ? 16 : 32)) *
      (1 - p.sharded);
  const double free = p.bound - p.safe - p.gap - states;
  const double tokens = free / (p.layers * p.hidden / tp * a->second);
  if (!(tokens > 0)) return 0;
  return static_cast<int>(std::min(tokens, 1e8)) / kStep * kStep;
}

Pool read_sizes(JsonObject& root, Findings& findings) {
  Pool p;
  if (auto m = root.object("model_config")) {
    p.hidden = m->small("H", {1, 1 << 20});
    p.layers = m->small("L", {1, 1 << 16});
    p.vocab = m->small("V", {0, 1 << 30});
  }
  if (auto m = root.object("memory_regression")) {
    p.state_bytes = m->real("B", kPositiveReal);
    p.sharded = m->real("alpha", {0, 1});
    p.safe = m->real("safe_bound", kNotNegativeReal);
    if (auto gap = m->object("gap")) {
      p.gap = gap->real("node", kNotNegativeReal);
    }
    if (auto a = m->object("A")) {
      for (int tp = 1; tp <= 1024; tp *= 2) {
        const std::string key = fmt::format("tp{}", tp);
        if (a->has(key)) p.activation[tp] = a->real(key, kPositiveReal);
      }
    }
  }
  if (auto c = root.object("cluster_config")) {
    p.bound = c->real("gpu_memory_bound", kPositiveReal);
  }
  if (p.activation.empty() && findings.ok()) {
    findings.error(root.where("memory_regression"), "A names no tp1, tp2, ...");
  }
  return p;
}

Result<std::string> device_of(const Pool& pool, const Foreign& file) {
  if (!file.options.device.empty()) return file.options.device;
  for (const auto& [bytes, name] : kByMemory) {
    if (std::abs(pool.bound - bytes) < 1e9) return std::string(name);
  }
  return fail(Fault::input,
              fmt::format("{}: which device has {:.0f} bytes? say it with "
                          "--device",
                          file.path, pool.bound));
}

Result<StageRow> stage_of(const Pool& pool, const Foreign& file) {
  for (const PoolModel& m : kModels) {
    if (m.hidden != pool.hidden || m.layers != pool.layers) continue;
    TRY(std::string device, device_of(pool, file));
    return StageRow{.device = std::move(device),
                    .model = m.name,
                    .hidden = m.hidden,
                    .layers = m.layers,
                    .vocab = static_cast<int>(pool.vocab),
                    .heads = m.heads,
                    .kv_heads = m.heads,
                    .head_dim = m.head_dim,
                    .ffn = m.ffn,
                    .min_seq = kStep};
  }
  return fail(Fault::input,
              fmt::format("{}: no known model has hidden size {} and {} "
                          "layers; give stage rows in our own format instead",
                          file.path, pool.hidden, pool.layers));
}

struct Scheme {
  int tp = 1, pp = 1;
  double a = 0, b = 0, c = 0;  ///< milliseconds
  std::string where;
  double attention() const { return a * tp * pp; }
};

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<long>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

void add_scheme(const Scheme& s, StageRow row, double usual, const Pool& pool,
                Gather& gather) {
  const std::string scheme = fmt::format("tp {} pp {}: ", s.tp, s.pp);
  if (s.a <= 0) {
    return gather.reject(s.where, scheme +
                                      "a is not positive: too few lengths were "
                                      "measured to fit a quadratic term");
  }
  if (s.attention() > kOutlier * usual) {
    return gather.reject(
        s.where, scheme + fmt::format("a x tp x pp is {:.3g}, {:.1f} times the "
                                      "median of the pool: an outlier",
                                      s.attention(), s.attention() / usual));
  }
  row.max_seq = longest(pool, s.tp, s.pp);
  if (row.max_seq < kLeastLongest) {
    return gather.reject(
        s.where, scheme + fmt::format("only {} tokens fit, too few to trust "
                                      "the fit",
                                      row.max_seq));
  }
  row.tp = s.tp;
  row.pp = s.pp;
  row.a = s.a * 1e-3;
  row.b = s.b * 1e-3;
  row.c = s.c * 1e-3;
  gather.add(std::move(row), s.where);
}

}  // namespace

Result<void> read_scheme_pool(const Json& json, const Foreign& file,
                              Gather& gather) {
  Findings findings;
  JsonObject root(json, file.path, findings);
  const Pool pool = read_sizes(root, findings);
  if (!findings.ok()) return fail(findings.to_error());
  const Json* list = member(&json, "strategies");
  if (list == nullptr || !list->is_array()) {
    return fail(Fault::input, file.path + ": /strategies: expected a list");
  }
  TRY(const StageRow row, stage_of(pool, file));

  Source source = file.source("scheme pool");
  source.kind = "fitted";
  source.note = "a s^2 + b s + c of one stage, forward and backward";
  gather.begin(std::move(source));
  std::vector<Scheme> schemes;
  std::vector<double> attention;
  for (std::size_t i = 0; i < list->size(); ++i) {
    Findings problems;
    Scheme s{.where = fmt::format("{}: /strategies/{}", file.path, i)};
    JsonObject object((*list)[i], s.where, problems);
    s.tp = object.small("tp", {1, 1 << 16});
    s.pp = object.small("pp", {1, 1 << 16});
    s.a = object.real("a", {});
    s.b = object.real("b", {});
    s.c = object.real("c", {});
    if (!problems.ok()) {
      gather.reject(s.where, problems.to_error().message);
      continue;
    }
    if (s.a > 0) attention.push_back(s.attention());
    schemes.push_back(std::move(s));
  }
  const double usual = median(std::move(attention));
  for (const Scheme& s : schemes) add_scheme(s, row, usual, pool, gather);
  return {};
}

}  // namespace troupe::profiles
