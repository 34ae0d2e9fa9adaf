#include "profiles/described.h"

#include "profiles/readers.h"

namespace troupe::profiles {
namespace {

bool any_key(const Json& json, std::string_view beginning) {
  for (const auto& [key, value] : json.items()) {
    if (key.starts_with(beginning)) return true;
  }
  return false;
}

/// {a: {b: {...}}}: the first value that many levels down, or null.
const Json* first_at(const Json& json, int levels) {
  const Json* at = &json;
  for (int i = 0; i < levels && at != nullptr; ++i) {
    at = at->is_object() && !at->empty() ? &*at->begin() : nullptr;
  }
  return at;
}

/// [[c2, c1, c0], peak]: a fitted bandwidth.
bool is_fit(const Json* json) {
  return json != nullptr && json->is_array() && json->size() == 2 &&
         (*json)[0].is_array() && (*json)[1].is_number();
}

bool has_fits(const Json& json) {
  for (int levels = 2; levels <= 6; ++levels) {
    if (is_fit(first_at(json, levels))) return true;
  }
  return false;
}

}  // namespace

std::string_view described_in(const Json& json) {
  if (json.contains("matrix") && json.contains("networks")) {
    return "a Calculon system: assumed peaks and efficiencies, nothing "
           "measured; describe such a device as a kind in a cluster file "
           "(clusters/FORMAT.md)";
  }
  if (json.contains("all-reduce-implementation") ||
      json.contains("scheduling-policy")) {
    return "an ASTRA-sim system: choices of algorithms, nothing measured; a "
           "strategy or cluster file says the same here";
  }
  if (json.contains("attn_heads") && json.contains("num_blocks")) {
    return "a Calculon model, no measurement; write it as a model file "
           "(models/README.md)";
  }
  if (json.contains("overlap_coe")) {
    return "Galvatron's overlap coefficient: a slowdown of computation beside "
           "a collective, without sizes; there is no row for it";
  }
  if (any_key(json, "allreduce_size_") || any_key(json, "pp_size_")) {
    return "Galvatron's bandwidths: without the size of the message they are "
           "no measurement of a collective; describe the links in a cluster "
           "file (clusters/FORMAT.md)";
  }
  const Json* inner = first_at(json, 1);
  if (inner != nullptr && inner->is_object() && any_key(*inner, "layernum[")) {
    return "Galvatron's memory profile: memory, not time; there is no row for "
           "it";
  }
  if (has_fits(json)) {
    return "bandwidths of Sailor's networks, fitted by polynomials between "
           "zones: describe the links in a cluster file (clusters/FORMAT.md)";
  }
  return {};
}

std::string_view described_in(std::string_view text) {
  const std::string_view first = text.substr(0, text.find('\n'));
  if (first.starts_with("Size,1 Node(NVLinkx)")) {
    return "SimAI's ratios of nominal bandwidth: neither the nominal bandwidth "
           "nor the source of the measurement is in it; describe the links in "
           "a cluster file (clusters/FORMAT.md)";
  }
  if (first.starts_with("HYBRID_TRANSFORMER")) {
    return "a SimAI workload: generated, not measured";
  }
  if (first.starts_with("train_iter:")) {
    return "SimAI's operator times: neither the model nor the GPU is in the "
           "file, so their sizes are not known";
  }
  if (text.find("busbw:") != std::string_view::npos &&
      text.find("allreduce,:") != std::string_view::npos) {
    return "SimAI's bus bandwidths: without the size of the message they are "
           "no measurement of a collective; describe the links in a cluster "
           "file (clusters/FORMAT.md)";
  }
  if (first.starts_with("topology:")) {
    return "an ASTRA-sim network: a description, nothing measured; write it as "
           "a cluster file (clusters/FORMAT.md)";
  }
  if (first.starts_with(",Timestamp,")) {
    return "Sailor's trace of available GPUs, no measurement; write it as "
           "events of a strategy's phases";
  }
  return {};
}

}  // namespace troupe::profiles
