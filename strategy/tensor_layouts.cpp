#include "strategy/tensor_layouts.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>

#include "base/findings.h"
#include "base/text.h"
#include "strategy/annotation_json.h"

namespace troupe::strategy {
namespace {

constexpr std::array kUses{Use::compute, Use::gradient, Use::optimizer};

/// The phase that is wanted, of a list of {"phase", "parameters"}.
const Json* find_phase(const Json& phases, const std::string& wanted) {
  for (std::size_t i = 0; i < phases.size(); ++i) {
    if (wanted == std::to_string(i)) return &phases[i];
    if (!phases[i].is_object() || !phases[i].contains("phase")) continue;
    const Json& name = phases[i]["phase"];
    if (name.is_string() && name.get<std::string>() == wanted) {
      return &phases[i];
    }
  }
  return nullptr;
}

/// Tensors of a block and outside of blocks by the end of their path, with
/// the shapes that HSPMD stores.
struct Stored {
  const char* path;
  std::vector<std::int64_t> shape;
};

std::vector<Stored> stored_in_block(const models::Model& m) {
  const std::int64_t heads = std::int64_t{m.heads} * m.head_dim;
  const std::int64_t keys = std::int64_t{m.kv_heads} * m.head_dim;
  const std::int64_t up =
      (models::gated(m.activation) ? 2 : 1) * std::int64_t{m.ffn};
  return {{"rmsnorm1", {m.hidden}},
          {"attn.qkv", {m.hidden, heads + 2 * keys}},
          {"attn.dense", {heads, m.hidden}},
          {"rmsnorm2", {m.hidden}},
          {"mlp.dense_h_to_4h", {m.hidden, up}},
          {"mlp.dense_4h_to_h", {m.ffn, m.hidden}}};
}

std::vector<Stored> stored_outside(const models::Model& m) {
  return {{"wte", {m.vocab, m.hidden}},
          {"rmsnorm_final", {m.hidden}},
          {"lm_head", {m.hidden, m.vocab}}};
}

bool ends_with(const std::string& path, const std::string& end) {
  return path == end || path.ends_with("." + end);
}

}  // namespace

std::string_view name_of(Use use) {
  switch (use) {
    case Use::compute:
      return "compute";
    case Use::gradient:
      return "gradient";
    case Use::optimizer:
      return "optimizer";
  }
  return "";
}

Json layouts_json(const Plan& plan, const Phase& phase) {
  const Layouts layouts(plan.strategy, phase, plan.model);
  Json parameters = Json::array();
  for (const models::Parameter& p : models::parameter_list(plan.model)) {
    Json one{{"name", p.name}, {"shape", p.shape}};
    for (const Use use : kUses) {
      one[std::string(name_of(use))] = to_json(layouts.of(p, use));
    }
    parameters.push_back(std::move(one));
  }
  return {{"phase", phase.name}, {"parameters", std::move(parameters)}};
}

bool holds_layouts(const Json& json) {
  return json.is_object() && json.contains("phases") &&
         json["phases"].is_array() && !json["phases"].empty() &&
         json["phases"][0].is_object() &&
         json["phases"][0].contains("parameters");
}

Result<std::vector<TensorLayout>> read_tensor_layouts(const Json& json,
                                                      const std::string& file,
                                                      const std::string& phase,
                                                      Use use) {
  if (!holds_layouts(json)) {
    return fail(Fault::input,
                file + ": no layouts; expected what troupe annotate writes");
  }
  const Json* const found = find_phase(json["phases"], phase);
  if (found == nullptr || !found->is_object() ||
      !found->contains("parameters") || !(*found)["parameters"].is_array()) {
    return fail(Fault::input,
                fmt::format("{}: no layouts of phase {}; it has "
                            "{} phases, from 0",
                            file, excerpt(phase), json["phases"].size()));
  }
  Findings findings;
  std::vector<TensorLayout> out;
  std::set<std::string> names;
  const Json& list = (*found)["parameters"];
  for (std::size_t i = 0; i < list.size(); ++i) {
    const std::string where = fmt::format("{}: parameters/{}", file, i);
    JsonObject o(list[i], where, findings);
    TensorLayout& tensor = out.emplace_back();
    tensor.name = o.text("name", "");
    if (!names.insert(tensor.name).second) {
      findings.error(o.where("name"), "a name that is there twice");
    }
    tensor.shape = o.integers("shape", {1, kMostExtent});
    const std::string key(name_of(use));
    const Json* const raw = o.raw(key);
    if (raw == nullptr || tensor.shape.empty()) {
      findings.error(where, fmt::format("expected name, shape and {}", key));
      continue;
    }
    auto read = read_annotation(*raw, o.where(key), tensor.shape.size());
    if (!read) return fail(read.error());
    tensor.annotation = std::move(*read);
  }
  if (!findings.ok()) return fail(findings.to_error());
  return out;
}

Result<std::vector<TensorLayout>> tensor_layouts(const DsConfig& config,
                                                 const models::Model& model) {
  std::vector<TensorLayout> out;
  std::set<std::string> names;
  const auto add = [&](std::string name, const Stored& stored,
                       const DsEntry& entry) {
    if (!names.insert(name).second) return false;
    out.push_back({std::move(name), stored.shape, entry.annotation});
    return true;
  };
  const auto twice = [](const std::string& path) {
    return fail(Fault::input, path + ": a second entry for the same tensor");
  };
  for (const auto& [path, entry] : config.entries) {
    if (entry.placeholder) continue;
    bool known = false;
    for (const Stored& stored : stored_outside(model)) {
      if (!ends_with(path, stored.path)) continue;
      known = true;
      if (!add(stored.path, stored, entry)) return twice(path);
    }
    for (const auto& [block, layers] : config.blocks) {
      if (known || !path.starts_with(block + ".")) continue;
      if (layers.second > model.layers) {
        return fail(Fault::input,
                    fmt::format("{}: layer {}; model {} has {} layers", block,
                                layers.second - 1, model.name, model.layers));
      }
      for (const Stored& stored : stored_in_block(model)) {
        if (path != block + "." + stored.path) continue;
        known = true;
        for (int layer = layers.first; layer < layers.second; ++layer) {
          if (!add(fmt::format("layers.{}.{}", layer, stored.path), stored,
                   entry)) {
            return twice(path);
          }
        }
      }
    }
    if (!known) {
      return fail(
          Fault::input,
          fmt::format("{}: no such tensor; expected wte, rmsnorm_final, "
                      "lm_head, or in blocks rmsnorm1, attn.qkv, "
                      "attn.dense, rmsnorm2, mlp.dense_h_to_4h, "
                      "mlp.dense_4h_to_h",
                      path));
    }
  }
  const std::size_t expected =
      stored_outside(model).size() +
      stored_in_block(model).size() * static_cast<std::size_t>(model.layers);
  if (out.size() != expected) {
    return fail(Fault::input,
                fmt::format("layouts of {} tensors; model {} has {}",
                            out.size(), model.name, expected));
  }
  return out;
}

}  // namespace troupe::strategy
