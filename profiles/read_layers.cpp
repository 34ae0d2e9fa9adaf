// Layer profiles of FASOP and AMP (one JSON of many), and of Sailor (one file
// per model and GPU).
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "base/text.h"
#include "profiles/readers.h"

namespace troupe::profiles {
namespace {

using Shape = ProfiledModel;

/// Shapes of the profiled models. Sources: FASOP's and AMP's model settings;
/// Sailor's llm_info.json, from whose parameter counts they follow; Llama 2.
constexpr Shape kShapes[] = {
    {"gpt2XL", 1600, 16, 100, 6400, false, 50257, 1024},
    {"bert", 1024, 16, 64, 4096, false, 30522, 512},
    {"T5", 1024, 32, 128, 3072, false, 30522, 512},
    {"gpt2_345m", 1024, 16, 64, 4096, false, 50257, 1024},
    {"gpt2_345m_amp", 1024, 16, 64, 4096, false, 52256, 1024},
    {"OPT-350", 1024, 16, 64, 4096, false, 50304, 2048},
    {"GPT-Neo-2.7", 2560, 20, 128, 10240, false, 50304, 2048},
    {"OPT-30", 7168, 56, 128, 28672, false, 50304, 2048},
    {"LLAMA-3-8", 4096, 32, 128, 16384, true, 50304, 8192},
    {"llama2-7b", 4096, 32, 128, 11008, true, 32000, 2048}};

}  // namespace

const ProfiledModel* profiled_model(std::string_view name) {
  for (const Shape& shape : kShapes) {
    if (shape.name == name) return &shape;
  }
  return nullptr;
}

LayerKey profiled_key(const ProfiledModel& s, Part part, int tp,
                      int micro_batch, kernels::DType dtype) {
  LayerKey key{.part = part,
               .hidden = s.hidden,
               .tp = tp,
               .micro_batch = micro_batch,
               .seq_len = s.seq_len,
               .dtype = dtype};
  if (part == Part::layer) {
    key.heads = s.heads;
    key.kv_heads = s.heads;
    key.head_dim = s.head_dim;
    key.ffn = s.ffn;
    key.gated = s.gated;
  } else {
    key.vocab = s.vocab;
  }
  return key;
}

namespace {

struct Kind {
  Part part = Part::layer;
  bool cross = false;
  bool operator==(const Kind&) const = default;
};

std::optional<Kind> kind_of(std::string_view type) {
  if (type == "transformer" || type == "encoder") return Kind{};
  if (type == "decoder") return Kind{.cross = true};
  if (type == "embedding" || type == "embed") return Kind{Part::embedding};
  if (type == "post_process" || type == "logits") return Kind{Part::head};
  return {};
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  const std::size_t n = values.size();
  return n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

/// Relative standard deviation around the mean.
double spread_of(const std::vector<double>& values) {
  double sum = 0, squares = 0;
  for (const double v : values) sum += v;
  const double mean = sum / static_cast<double>(values.size());
  for (const double v : values) squares += (v - mean) * (v - mean);
  const double spread =
      std::sqrt(squares / static_cast<double>(values.size())) / mean;
  return std::isfinite(spread) ? spread : 0;
}

/// One step of the scaling file: the factor is measured at exactly this
/// micro-batch.
struct Factor {
  int micro_batch;
  double factor;
};

/// Factors of a model, GPU and layer type, as far as they were measured;
/// its rules ("factor = mbs") are assumptions and not used.
std::vector<Factor> factors(const Json& scaling, std::string_view model,
                            std::string_view gpu, std::string_view type) {
  std::vector<Factor> found;
  const auto table =
      scaling.is_object() ? scaling.find("table") : scaling.end();
  if (!scaling.is_object() || table == scaling.end() || !table->is_array()) {
    return found;
  }
  const auto names = [](const Json& entry, const char* key,
                        std::string_view name) {
    const auto at = entry.find(key);
    if (at == entry.end() || !at->is_string()) return false;
    const std::string list = "|" + at->get<std::string>() + "|";
    return list.find(fmt::format("|{}|", name)) != std::string::npos;
  };
  for (const Json& entry : *table) {
    if (!entry.is_object() || !names(entry, "model", model) ||
        !names(entry, "gpu", gpu) || !names(entry, "layer", type)) {
      continue;
    }
    const auto steps = entry.find("steps");
    if (steps == entry.end() || !steps->is_array()) continue;
    for (const Json& step : *steps) {
      if (!step.is_array() || step.size() != 2 || !step[1].is_number()) {
        continue;
      }
      const auto batch = whole_number(step[0]);
      const double factor = step[1].get<double>();
      const bool power = batch && (*batch & (*batch - 1)) == 0;
      if (power && *batch > 1 && *batch <= 1024 && factor >= 1) {
        found.push_back({static_cast<int>(*batch), factor});
      }
    }
  }
  return found;
}

struct Profile {
  std::string model, gpu, date, note, source;
  int tp = 1;
  int micro_batch = 1;
  std::vector<double> values;
  std::vector<std::string> types;
};

/// The profile, or why it is not used.
std::optional<std::string> read_profile(const Json& json, Profile& p) {
  Findings findings;
  JsonObject object(json, "", findings);
  p.model = object.text("model");
  p.gpu = object.text("gpu");
  p.tp = object.small("tp", {1, 1024});
  p.micro_batch = object.small("micro_batch", {1, 1 << 20}, 1);
  p.date = object.text("date", "");
  p.note = object.text("note", "");
  p.source = object.text("source", "");
  if (!findings.ok()) return findings.to_error().message;
  const auto given = [&](const char* key, std::string_view expected) {
    return object.text(key, std::string(expected)) == expected;
  };
  if (!given("unit", "s")) return "unit is not s";
  if (!given("direction", "forward")) return "direction is not forward";
  const Json* values = object.raw("values");
  const Json* types = object.raw("layer_types");
  if (values == nullptr || !values->is_array() || values->empty()) {
    return "values is not a list";
  }
  if (types == nullptr || !types->is_array()) {
    return "layer_types is unknown: which value is which layer?";
  }
  if (types->size() != values->size()) {
    return "layer_types and values differ in length";
  }
  for (std::size_t i = 0; i < values->size(); ++i) {
    if (!(*values)[i].is_number() || !(*types)[i].is_string()) {
      return fmt::format("value or type {} is of the wrong kind", i);
    }
    p.values.push_back((*values)[i].get<double>());
    p.types.push_back((*types)[i].get<std::string>());
  }
  for (const char* word : {"superseded", "unreliable"}) {
    if (p.note.find(word) != std::string::npos) {
      return fmt::format("{} {} tp {} of {}: {}", p.model, p.gpu, p.tp, p.date,
                         p.note);
    }
  }
  return {};
}

/// Median per layer type, and the larger micro-batches that were measured.
void add_profile(const Profile& p, const Shape& shape,
                 const std::string& device, const Json& scaling,
                 const std::string& where, Gather& gather) {
  std::vector<std::string> done;
  for (const std::string& type : p.types) {
    const auto kind = kind_of(type);
    if (!kind || std::ranges::find(done, type) != done.end()) continue;
    done.push_back(type);
    std::vector<double> values;
    for (std::size_t i = 0; i < p.values.size(); ++i) {
      if (p.types[i] == type) values.push_back(p.values[i]);
    }
    if (kind->part != Part::layer) values.resize(1);
    LayerRow row{.device = device,
                 .key = profiled_key(shape, kind->part, p.tp, p.micro_batch,
                                     kernels::DType::fp16),
                 .time_s = median(values),
                 .spread = spread_of(values),
                 .samples = static_cast<int>(values.size())};
    row.key.cross = kind->cross;
    const auto larger = factors(scaling, p.model, p.gpu, type);
    gather.add(row, where);
    for (const Factor& f : larger) {
      LayerRow scaled = row;
      scaled.key.micro_batch = p.micro_batch * f.micro_batch;
      scaled.time_s = row.time_s * f.factor;
      scaled.scaled = true;
      gather.add(std::move(scaled), where);
    }
  }
}

struct Sailor {
  const Foreign& file;
  Gather& gather;
  const Shape& shape;
  std::string device;
};

struct SailorRow {
  LayerRow row;
  std::string place;
};

/// A row this much slower than one of a larger micro-batch holds the warm-up
/// of its program: its first steps were measured with it. Times are whole
/// microseconds: a few of them say nothing.
constexpr double kWarmUp = 1.25;
constexpr double kWarmUpSeconds = 1e-5;

void add_without_warm_ups(const std::vector<SailorRow>& rows, Gather& gather) {
  const auto family = [](LayerKey key) {
    key.micro_batch = 0;
    return key;
  };
  std::map<LayerKey, std::vector<const LayerRow*>> families;
  for (const SailorRow& r : rows) {
    families[family(r.row.key)].push_back(&r.row);
  }
  for (const SailorRow& r : rows) {
    const LayerRow* faster = nullptr;
    for (const LayerRow* other : families[family(r.row.key)]) {
      if (other->key.micro_batch > r.row.key.micro_batch && other->time_s > 0 &&
          r.row.time_s > kWarmUp * other->time_s &&
          r.row.time_s > other->time_s + kWarmUpSeconds) {
        faster = other;
      }
    }
    if (faster == nullptr) {
      gather.add(r.row, r.place);
      continue;
    }
    gather.reject(
        r.place,
        fmt::format("{:g} s are longer than the {:g} s of "
                    "micro-batch {}: its warm-up was measured",
                    r.row.time_s, faster->time_s, faster->key.micro_batch));
  }
}

void read_sailor(const Sailor& in, int micro_batch, int tp, const Json& layers,
                 const std::string& where, std::vector<SailorRow>& rows) {
  if (!layers.is_object() || layers.size() < 3) {
    return in.gather.reject(where, "expected an object of 3 layers or more");
  }
  const std::string last = std::to_string(layers.size() - 1);
  const std::pair<std::string, Part> wanted[] = {
      {"0", Part::embedding}, {"1", Part::layer}, {last, Part::head}};
  for (const auto& [name, part] : wanted) {
    const std::string place = fmt::format("{}/{}", where, name);
    const auto at = layers.find(name);
    if (at == layers.end() || !at->is_array() || at->size() != 3 ||
        !(*at)[0].is_number() || !(*at)[1].is_number()) {
      in.gather.reject(place, "expected [forward, backward, update]");
      continue;
    }
    LayerRow row{.device = in.device,
                 .key = profiled_key(in.shape, part, tp, micro_batch,
                                     kernels::DType::fp32),
                 .time_s = (*at)[0].get<double>()};
    rows.push_back({row, place});
    row.key.backward = true;
    row.time_s = (*at)[1].get<double>();
    rows.push_back({row, place});
  }
}

}  // namespace

Result<void> read_layer_profiles(const Json& json, const Json& scaling,
                                 const Foreign& file, Gather& gather) {
  const Json* given = member(&json, "layer_profiles");
  if (given == nullptr || !given->is_array()) {
    return fail(Fault::input, file.path + ": /layer_profiles: expected a list");
  }
  const Json& list = *given;
  Source source = file.source("layer profiles");
  source.kind = "measured";
  source.note =
      "forward, tensor-parallel collectives inside; rows marked scaled are "
      "micro-batch 1 times a measured factor";
  gather.begin(std::move(source));
  // A profile marked "head" is the corrected one of its (model, gpu, tp).
  std::map<std::string, std::string> used;
  for (const bool head : {true, false}) {
    for (std::size_t i = 0; i < list.size(); ++i) {
      const std::string where =
          fmt::format("{}: /layer_profiles/{}", file.path, i);
      Profile p;
      const auto problem = read_profile(list[i], p);
      if (head != (p.date == "head")) continue;
      if (problem) {
        gather.reject(where, *problem);
        continue;
      }
      const Shape* shape = profiled_model(p.model);
      if (shape == nullptr) {
        gather.reject(where, "unknown model '" + excerpt(p.model) + "'");
        continue;
      }
      const auto device = file.device(p.gpu);
      if (!device) {
        gather.reject(where, device.error().message);
        continue;
      }
      const std::string key = fmt::format("{} {} {}", p.model, p.gpu, p.tp);
      if (const auto [at, is_new] = used.emplace(key, p.date); !is_new) {
        gather.reject(where, fmt::format("{} is given again; the one of {} is "
                                         "used",
                                         key, at->second));
        continue;
      }
      add_profile(p, *shape, *device, scaling, where, gather);
    }
  }
  return {};
}

Result<void> read_sailor_layers(const Json& json, const Foreign& file,
                                Gather& gather) {
  const std::filesystem::path path(file.path);
  const std::string model = path.parent_path().parent_path().filename();
  const Shape* shape = profiled_model(model);
  if (shape == nullptr) {
    return fail(Fault::input,
                fmt::format("{}: the folder two above names no known model "
                            "(OPT-350, GPT-Neo-2.7, OPT-30, LLAMA-3-8)",
                            file.path));
  }
  TRY(std::string device, file.device(file.folder()));
  Source source = file.source("sailor");
  source.name = fmt::format("sailor layers {} {} ({})", model, file.folder(),
                            file.hash.substr(0, 8));
  source.kind = "measured";
  source.note = "fp32, forward and backward; all layers repeat one";
  gather.begin(std::move(source));
  const Sailor in{file, gather, *shape, std::move(device)};
  std::vector<SailorRow> rows;
  for (const auto& [batch, degrees] : json.items()) {
    for (const auto& [degree, layers] : degrees.items()) {
      int micro_batch = 0, tp = 0;
      const std::string where =
          fmt::format("{}: /{}/{}", file.path, excerpt(batch), excerpt(degree));
      if (!from_text(batch, micro_batch) || !from_text(degree, tp)) {
        gather.reject(where, "expected numbers for micro-batch and tp");
        continue;
      }
      read_sailor(in, micro_batch, tp, layers, where, rows);
    }
  }
  add_without_warm_ups(rows, gather);
  return {};
}

}  // namespace troupe::profiles
