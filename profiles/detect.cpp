#include "profiles/detect.h"

#include "profiles/own_format.h"
#include "profiles/readers.h"

namespace troupe::profiles {
namespace {

/// The table of Sailor has nothing but numbers as keys, twice.
bool looks_like_sailor(const Json& json) {
  if (json.empty()) return false;
  for (const auto& [batch, degrees] : json.items()) {
    int number = 0;
    if (!from_text(batch, number) || !degrees.is_object()) return false;
  }
  return true;
}

/// Two lines of as many numbers: sizes and bandwidths.
bool looks_like_messages(std::string_view text, std::string_view name) {
  if (!name.starts_with("p2p_")) return false;
  std::vector<std::string> cells;
  double number = 0;
  split_csv(text.substr(0, text.find('\n')), cells);
  return cells.size() > 1 && from_text(cells[0], number) &&
         from_text(cells[1], number);
}

/// Text of nccl-tests begins with its parameters or its ranks; lines of the
/// launcher may stand before.
bool looks_like_nccl_tests(std::string_view text) {
  const std::string_view head = text.substr(0, std::size_t{1} << 20);
  const auto has = [&](std::string_view mark) {
    return head.find(mark) != std::string_view::npos;
  };
  return has("algbw") && has("busbw") && (has("nThread") || has("Rank"));
}

}  // namespace

bool is_json(Format format) {
  switch (format) {
    case Format::own_json:
    case Format::scheme_pool:
    case Format::layer_profiles:
    case Format::simumax:
    case Format::sailor_layers:
    case Format::galvatron:
      return true;
    case Format::automatic:
    case Format::own_csv:
    case Format::vidur_compute:
    case Format::vidur_network:
    case Format::vtrain_allreduce:
    case Format::kineto:
    case Format::nsys:
    case Format::nccl_tests:
    case Format::sailor_operators:
    case Format::sailor_collectives:
    case Format::sailor_messages:
      return false;
  }
  return false;
}

Format format_of_json(const Json& json) {
  if (!json.is_object()) return Format::automatic;
  const auto said = json.find("format");
  if (said != json.end() && said->is_string() &&
      said->get_ref<const std::string&>() == kJsonFormat) {
    return Format::own_json;
  }
  if (json.contains("strategies") && json.contains("memory_regression")) {
    return Format::scheme_pool;
  }
  if (json.contains("layer_profiles")) return Format::layer_profiles;
  if (json.contains("accelerator") && json.contains("networks")) {
    return Format::simumax;
  }
  if (looks_like_galvatron(json)) return Format::galvatron;
  return looks_like_sailor(json) ? Format::sailor_layers : Format::automatic;
}

Format format_of_text(std::string_view text, std::string_view name) {
  const std::string_view first = text.substr(0, text.find('\n'));
  if (first.starts_with(kCsvMark)) return Format::own_csv;
  if (first.starts_with("size(B),count,type,time(ns)")) {
    return Format::vtrain_allreduce;
  }
  if (first.find("num_tensor_parallel_workers") != std::string_view::npos) {
    return Format::vidur_compute;
  }
  if (first.find("devices_per_node") != std::string_view::npos &&
      first.find("time_stats.") != std::string_view::npos) {
    return Format::vidur_network;
  }
  if (first.starts_with("op_name,forward-compute,")) {
    return Format::sailor_operators;
  }
  if (first.starts_with("data_size(MB),time(ms)")) {
    return Format::sailor_collectives;
  }
  if (looks_like_messages(text, name)) return Format::sailor_messages;
  return looks_like_nccl_tests(text) ? Format::nccl_tests : Format::automatic;
}

}  // namespace troupe::profiles
