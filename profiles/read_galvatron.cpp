// Galvatron's profiles: times of collectives by size, times of layers.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/text.h"
#include "profiles/readers.h"

namespace troupe::profiles {
namespace {

using clusters::Collective;

constexpr std::int64_t kMegabyte = std::int64_t{1} << 20;

/// Reads the literal parts of a pattern and the numbers between them:
/// "allreduce_size_{}_{}MB_time". False for any other text.
bool scan(std::string_view text, std::string_view pattern,
          std::initializer_list<int*> numbers) {
  auto next = numbers.begin();
  while (!pattern.empty()) {
    if (!pattern.starts_with("{}")) {
      if (text.empty() || text.front() != pattern.front()) return false;
      text.remove_prefix(1);
      pattern.remove_prefix(1);
      continue;
    }
    const auto end =
        std::min(text.find_first_not_of("0123456789"), text.size());
    if (next == numbers.end() || end == 0 ||
        !from_text(text.substr(0, end), **next++)) {
      return false;
    }
    text.remove_prefix(end);
    pattern.remove_prefix(2);
  }
  return text.empty();
}

struct Key {
  Collective collective{};
  int ranks = 0;
  int megabytes = 0;
};

std::optional<Key> collective_key(std::string_view text) {
  Key key;
  if (scan(text, "allreduce_size_{}_{}MB_time", {&key.ranks, &key.megabytes})) {
    key.collective = Collective::all_reduce;
    return key;
  }
  if (scan(text, "all2all_size_{}_{}MB_time", {&key.ranks, &key.megabytes})) {
    key.collective = Collective::all_to_all;
    return key;
  }
  return {};
}

/// GPUs per node of "..._1nodes_8gpus_per_node.json"; 0 when not said.
int node_of(std::string_view name) {
  const auto end = name.find("gpus_per_node");
  if (end == std::string_view::npos) return 0;
  const auto begin = name.substr(0, end).find_last_of('_');
  int gpus = 0;
  if (begin == std::string_view::npos ||
      !from_text(name.substr(begin + 1, end - begin - 1), gpus)) {
    return 0;
  }
  return gpus;
}

Source source_of(const Foreign& file, std::string_view note) {
  Source source = file.source("galvatron");
  source.kind = "measured";
  source.licence = "Apache-2.0 (PKU-DAIR)";
  source.citation = "https://github.com/PKU-DAIR/Hetu-Galvatron";
  source.note = note;
  return source;
}

/// The name of the model within "computation_profiling_bf16_MODEL_all.json".
std::string model_of(std::string_view name, kernels::DType& dtype) {
  const std::string_view begin = "computation_profiling_";
  if (!name.starts_with(begin)) return {};
  name.remove_prefix(begin.size());
  const auto bar = name.find('_');
  if (bar == std::string_view::npos || !from_text(name.substr(0, bar), dtype)) {
    return {};
  }
  name.remove_prefix(bar + 1);
  for (const std::string_view mark : {"_seqlen", "_all.json", ".json"}) {
    name = name.substr(0, name.find(mark));
  }
  return std::string(name);
}

}  // namespace

bool looks_like_galvatron(const Json& json) {
  for (const auto& [key, value] : json.items()) {
    int a = 0, b = 0, c = 0;
    return collective_key(key) ||
           scan(key, "layernum[{}]_bsz{}_seq{}", {&a, &b, &c});
  }
  return false;
}

Result<void> read_galvatron_collectives(const Json& json, const Foreign& file,
                                        Gather& gather) {
  const int node = node_of(file.name());
  if (node < 1) {
    return fail(Fault::input,
                file.path +
                    ": the name must end in Ngpus_per_node: the size of a node "
                    "is not in the file");
  }
  TRY(const std::string device, file.device("not named"));
  gather.begin(source_of(file, "collectives through PyTorch and NCCL"));
  for (const auto& [text, value] : json.items()) {
    const std::string where = fmt::format("{}: /{}", file.path, excerpt(text));
    const auto key = collective_key(text);
    if (!key || !value.is_number()) {
      gather.reject(where, "expected a time in ms of a collective");
      continue;
    }
    gather.add(CollectiveRow{.device = device,
                             .collective = key->collective,
                             .ranks = key->ranks,
                             .per_node = std::min(key->ranks, node),
                             .bytes = key->megabytes * kMegabyte,
                             .time_s = rounded(value.get<double>() * 1e-3, 6)},
               where);
  }
  return {};
}

Result<void> read_galvatron_layers(const Json& json, const Foreign& file,
                                   Gather& gather) {
  kernels::DType dtype{};
  const std::string model = model_of(file.name(), dtype);
  const ProfiledModel* shape = profiled_model(model);
  if (shape == nullptr) {
    return fail(Fault::input,
                fmt::format("{}: the name must be computation_profiling_DTYPE_"
                            "MODEL_all.json with a known model (llama2-7b)",
                            file.path));
  }
  TRY(const std::string device, file.device("not named"));
  gather.begin(source_of(file,
                         "forward; a layer is the difference between two "
                         "numbers of layers"));
  // By length and batch: time in ms by number of layers.
  std::map<std::pair<int, int>, std::map<int, double>> times;
  int derived = 0;
  for (const auto& [text, value] : json.items()) {
    int layers = 0, batch = 0, length = 0;
    const std::string where = fmt::format("{}: /{}", file.path, excerpt(text));
    if (text.starts_with("layertype_")) {
      ++derived;
    } else if (!scan(text, "layernum[{}]_bsz{}_seq{}",
                     {&layers, &batch, &length}) ||
               !value.is_number()) {
      gather.reject(where, "expected a time in ms of layernum[N]_bszN_seqN");
    } else {
      times[{length, batch}][layers] = value.get<double>();
    }
  }
  if (derived > 0) {
    gather.reject(file.path,
                  fmt::format("{} times of layertype_N: derived from "
                              "those of layernum[N]",
                              derived));
  }
  for (const auto& [key, by_layers] : times) {
    const auto [length, batch] = key;
    const std::string where =
        fmt::format("{}: bsz {}, seq {}", file.path, batch, length);
    const auto& [least, least_ms] = *by_layers.begin();
    const auto& [most, most_ms] = *by_layers.rbegin();
    if (most == least) {
      gather.reject(where,
                    "one number of layers: nothing to tell a layer from "
                    "the embedding and the head");
      continue;
    }
    LayerRow row{.device = device,
                 .key = profiled_key(*shape, Part::layer, 1, batch, dtype)};
    row.key.seq_len = length;
    row.time_s = rounded((most_ms - least_ms) / (most - least) * 1e-3, 6);
    gather.add(std::move(row), where);
  }
  return {};
}

}  // namespace troupe::profiles
