// Reads strategies as other systems write them (FORMAT.md tells how each is
// understood, and what is assumed where a file is silent).
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "base/result.h"
#include "clusters/cluster.h"
#include "models/model.h"
#include "strategy/draft.h"

namespace troupe::strategy {

enum class Format : std::uint8_t {
  native,
  hspmd,      ///< HSPMD's packed lists and elastic strategy files
  hotspa,     ///< HotSPa's lists of (dp, tp, pp) by length bucket
  hydraulis,  ///< Hydraulis' lists of (cp, tp, pp) pipelines
  hexiscale,  ///< HexiScale's hetero_configs and layer_partitions
  megatron,   ///< command-line arguments of Megatron-LM
};
std::string_view name_of(Format format);
/// By name; "" is native.
std::optional<Format> parse_format(std::string_view name);

/// The text of a file as JSON: JSON itself, a Python literal, or arguments.
///
/// Errors: input, with the place.
[[nodiscard]] Result<Json> parse_source(Format format, std::string_view text,
                                        const std::string& file);

/// One strategy of a foreign file: the whole, or one of its cases.
struct Case {
  Json json;          ///< with lists that were Python texts unpacked
  std::string where;  ///< "file" or "file: /cases/5"
  Json around;        ///< what the file says of all its cases
};

/// Chooses case `index` (-1: the only one).
///
/// Errors: input, when there are several and none was chosen, or it is not
///         there, listing what is.
[[nodiscard]] Result<Case> choose_case(Format format, const Json& json,
                                       const std::string& file, int index);

/// Model and cluster that a case names or implies: names, objects or short
/// forms as `models::parse_model` and `clusters::parse_cluster` take them;
/// null when nothing is known.
struct Setting {
  Json model;
  Json cluster;
  Findings findings;
};
Setting setting_of(Format format, const Case& chosen);

/// The strategy of a case on a model and a cluster; `file` names it in
/// messages. The strategy's own `model` and `cluster` are left empty.
Draft from_foreign(Format format, const Case& chosen, const std::string& file,
                   const models::Model& model,
                   const clusters::Cluster& cluster);

/// Which foreign format a JSON value looks like, for a hint.
std::optional<Format> guess_format(const Json& json);

}  // namespace troupe::strategy
