// One layout for each tensor of a model, as files hold them: ours, and those
// of HSPMD and HotSPa.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "strategy/ds_config.h"
#include "strategy/layouts.h"

namespace troupe::strategy {

struct TensorLayout {
  std::string name;
  std::vector<std::int64_t> shape;
  Annotation annotation;
  bool operator==(const TensorLayout&) const = default;
};

/// "compute", "gradient" or "optimizer".
std::string_view name_of(Use use);

/// All parameters of a phase, as `read_tensor_layouts` takes them.
Json layouts_json(const Plan& plan, const Phase& phase);

/// Whether `json` is what `troupe annotate --json` prints.
bool holds_layouts(const Json& json);
/// The layouts of one phase, by name or by number from 0.
///
/// Errors: input, all problems together, with their JSON paths.
Result<std::vector<TensorLayout>> read_tensor_layouts(const Json& json,
                                                      const std::string& file,
                                                      const std::string& phase,
                                                      Use use);

/// The entries of a ds_parallel_config as tensors of `model`, a block's for
/// each of its layers: "layers.3.attn.qkv", "wte". Products have the shape
/// that those systems store, input by output, with all of query, key and
/// value (or gate and up) in one. Inputs and labels are left out.
///
/// Errors: input, for entries that no such model has, layers beyond it, a
///         tensor without entry.
Result<std::vector<TensorLayout>> tensor_layouts(const DsConfig& config,
                                                 const models::Model& model);

}  // namespace troupe::strategy
