#include "strategy/foreign.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>

#include "base/file.h"
#include "base/text.h"
#include "strategy/foreign_readers.h"
#include "strategy/megatron_arguments.h"
#include "strategy/python_literal.h"

namespace troupe::strategy {
namespace {

constexpr std::array<std::pair<const char*, Format>, 6> kFormats{
    {{"native", Format::native},
     {"hspmd", Format::hspmd},
     {"hotspa", Format::hotspa},
     {"hydraulis", Format::hydraulis},
     {"hexiscale", Format::hexiscale},
     {"megatron", Format::megatron}}};

/// Lists of cases of one file, with their JSON paths.
struct CaseList {
  std::vector<const Json*> cases;
  std::vector<std::string> paths;

  void add(const Json& list, const std::string& path) {
    if (!list.is_array()) return;
    for (std::size_t i = 0; i < list.size(); ++i) {
      cases.push_back(&list[i]);
      paths.push_back(fmt::format("{}/{}", path, i));
    }
  }
};

/// The key under which a format's files keep several cases.
CaseList case_list(Format format, const Json& json) {
  CaseList out;
  const auto from = [&](const char* key) {
    if (json.is_object() && json.contains(key)) {
      out.add(json[key], std::string("/") + key);
    }
  };
  switch (format) {
    case Format::native:
    case Format::megatron:
      break;
    case Format::hspmd:
      from("cases");
      from("strategies");
      from("configs");
      break;
    case Format::hotspa:
      from("configs");
      if (out.cases.empty() && json.is_object() &&
          json.contains("strategies") && json.contains("also_documented")) {
        from("strategies");
      }
      break;
    case Format::hydraulis:
      for (const char* set : {"CommonCrawl", "GitHub"}) {
        if (json.is_object() && json.contains(set) && json[set].is_object() &&
            json[set].contains("cases")) {
          out.add(json[set]["cases"], fmt::format("/{}/cases", set));
        }
      }
      from("lists");
      break;
    case Format::hexiscale:
      from("examples");
      break;
  }
  return out;
}

/// A case may carry its own number, which then is its name.
std::optional<std::int64_t> own_number(const Json& json) {
  if (!json.is_object() || !json.contains("case")) return {};
  return whole_number(json["case"]);
}

bool numbered(const CaseList& list) {
  std::vector<std::int64_t> numbers;
  for (const Json* json : list.cases) {
    const auto number = own_number(*json);
    if (!number) return false;
    numbers.push_back(*number);
  }
  std::sort(numbers.begin(), numbers.end());
  return std::adjacent_find(numbers.begin(), numbers.end()) == numbers.end();
}

/// Fields of a case that are Python texts become what they say.
Json unpacked(const Json& json) {
  Json out = json;
  if (!out.is_object()) return out;
  for (auto& [key, value] : out.items()) {
    if (!value.is_string()) continue;
    const std::string text = value.get<std::string>();
    const auto first = text.find_first_not_of(" \t\n");
    const bool literal =
        first != std::string::npos &&
        (text[first] == '[' || text[first] == '{' || text[first] == '(');
    if (text == "null" || text == "None") {
      value = nullptr;
    } else if (literal) {
      if (auto parsed = parse_python(text, key)) value = *std::move(parsed);
    }
  }
  return out;
}

/// Adds what an object says beside its lists of cases.
void surround(Json& around, const Json& object) {
  if (!object.is_object()) return;
  for (const auto& [key, value] : object.items()) {
    if (!value.is_array()) around[key] = value;
  }
}

}  // namespace

std::string_view name_of(Format format) {
  return kFormats[static_cast<std::size_t>(format)].first;
}

std::optional<Format> parse_format(std::string_view name) {
  if (name.empty()) return Format::native;
  for (const auto& [word, format] : kFormats) {
    if (word == name) return format;
  }
  return {};
}

Result<Json> parse_source(Format format, std::string_view text,
                          const std::string& file) {
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  const char c = first == std::string_view::npos ? '\0' : text[first];
  if (format == Format::megatron && c != '{') {
    return parse_arguments(text, file);
  }
  if (format == Format::native || c == '{') return parse_json(text, file);
  auto json = parse_json(text, file);
  if (json) return json;
  return parse_python(text, file);
}

Result<Case> choose_case(Format format, const Json& json,
                         const std::string& file, int index) {
  const CaseList list = case_list(format, json);
  if (list.cases.empty()) {
    if (index > 0) {
      return fail(Fault::input,
                  fmt::format("{} holds one strategy; there is no case {}",
                              file, index));
    }
    return Case{unpacked(json), file, Json::object()};
  }
  const bool by_number = numbered(list);
  std::vector<std::string> names;
  std::size_t found = list.cases.size();
  for (std::size_t i = 0; i < list.cases.size(); ++i) {
    const std::int64_t number = by_number
                                    ? own_number(*list.cases[i]).value_or(0)
                                    : static_cast<std::int64_t>(i);
    names.push_back(std::to_string(number));
    if (number == index) found = i;
  }
  if (index < 0 && list.cases.size() == 1) found = 0;
  if (found == list.cases.size()) {
    return fail(Fault::input,
                fmt::format("{} holds {}{}; choose one with --case: {}", file,
                            counted(std::ssize(names), "case"),
                            index < 0 ? std::string()
                                      : fmt::format(", no case {}", index),
                            excerpt(join(names), 200)));
  }
  Case out{unpacked(*list.cases[found]),
           fmt::format("{}: {}", file, list.paths[found]), Json::object()};
  const Json::json_pointer parent =
      Json::json_pointer(list.paths[found]).parent_pointer().parent_pointer();
  surround(out.around, json);
  if (json.contains("defaults")) surround(out.around, json["defaults"]);
  surround(out.around, json[parent]);
  if (out.json.is_object() && out.json.contains("strategy")) {
    surround(out.around, out.json);
    out.json = unpacked(Json(out.json["strategy"]));
    out.where += "/strategy";
  }
  return out;
}

Setting setting_of(Format format, const Case& chosen) {
  Setting out;
  switch (format) {
    case Format::native:
      break;
    case Format::hspmd:
      hspmd_setting(chosen, out);
      break;
    case Format::hotspa:
      hotspa_setting(chosen, out);
      break;
    case Format::hydraulis:
      hydraulis_setting(chosen, out);
      break;
    case Format::hexiscale:
      hexiscale_setting(chosen, out);
      break;
    case Format::megatron:
      megatron_setting(chosen, out);
      break;
  }
  return out;
}

Draft from_foreign(Format format, const Case& chosen, const std::string& file,
                   const models::Model& model,
                   const clusters::Cluster& cluster) {
  Draft draft;
  draft.places = Places(file);
  ForeignContext context{chosen, model, cluster, draft};
  draft.places.set("", context.own(), Follow::stop);
  switch (format) {
    case Format::native:
      check(false, "the native format is not foreign");
      break;
    case Format::hspmd:
      read_hspmd(context);
      break;
    case Format::hotspa:
      read_hotspa(context);
      break;
    case Format::hydraulis:
      read_hydraulis(context);
      break;
    case Format::hexiscale:
      read_hexiscale(context);
      break;
    case Format::megatron:
      read_megatron(context);
      break;
  }
  return draft;
}

std::optional<Format> guess_format(const Json& json) {
  const auto has = [&](const Json& value, const char* key) {
    return value.is_object() && value.contains(key);
  };
  const auto looks = [&](const Json& j) -> std::optional<Format> {
    if (has(j, "layers_num_list") || has(j, "cp_list")) return Format::hspmd;
    if (has(j, "micro_batch_num_list") || has(j, "rank_to_device_mapping")) {
      return Format::hspmd;
    }
    if (has(j, "hetero_configs")) return Format::hexiscale;
    if (has(j, "bucket_bounds")) return Format::hotspa;
    if (has(j, "pipeline_tuple") || has(j, "pipelines_tp_pp")) {
      return Format::hydraulis;
    }
    if (has(j, "tensor-model-parallel-size") ||
        has(j, "tensor_model_parallel_size")) {
      return Format::megatron;
    }
    return {};
  };
  if (json.is_array()) return Format::hydraulis;
  if (const auto whole = looks(json)) return whole;
  if (!json.is_object()) return {};
  for (const auto& [key, value] : json.items()) {
    if (!value.is_array()) continue;
    for (const Json& element : value) {
      if (const auto part = looks(element)) return part;
      if (!has(element, "strategy")) continue;
      if (const auto inner = looks(element["strategy"])) return inner;
    }
  }
  return {};
}

std::vector<GpuGroup> parse_groups(std::string_view text) {
  std::vector<GpuGroup> out;
  std::size_t at = 0;
  const auto skip = [&](std::string_view letters) {
    while (at < text.size() && letters.find(text[at]) != letters.npos) ++at;
  };
  while (at < text.size()) {
    GpuGroup group;
    const char* end = text.data() + text.size();
    const auto [p, e] = std::from_chars(text.data() + at, end, group.count);
    if (e != std::errc{} || group.count < 1 || group.count > kDegree.most) {
      return {};
    }
    at = static_cast<std::size_t>(p - text.data());
    skip(" *x");
    while (at < text.size() && text[at] != '+' && text[at] != ' ') {
      group.kind += static_cast<char>(
          std::tolower(static_cast<unsigned char>(text[at++])));
    }
    if (group.kind.empty()) return {};
    out.push_back(std::move(group));
    skip(" +");
  }
  return out;
}

std::string cluster_of(const std::vector<GpuGroup>& groups) {
  std::string mixed = "hspmd";
  std::string spelled;
  for (const auto& [said, count] : groups) {
    // A kind that says less than its shipped name.
    const std::string kind = said == "a100" ? "a100-sxm-80" : said;
    const bool ampere = kind.starts_with("a800") || kind.starts_with("a100");
    mixed += fmt::format("-{}x{}", kind, count);
    spelled += fmt::format("{}8 x {} per node, {} Gbit/s per GPU, {} GPUs",
                           spelled.empty() ? "" : " + ", kind,
                           ampere ? 200 : 400, count);
  }
  std::vector<std::string> names{mixed};
  if (groups.size() == 1) {
    const auto& [kind, count] = groups.front();
    names.push_back(fmt::format("{}-{}", kind, count));
    if (kind == "a100-sxm-40")
      names.push_back(fmt::format("a100-40-{}", count));
  }
  for (const std::string& name : names) {
    const bool plain = name.find_first_of("/.") == std::string::npos;
    if (plain && find_shipped(name, "clusters")) return name;
  }
  return spelled + ", rail-optimised";
}

std::string model_name(std::string_view system, const std::string& size) {
  const bool short_name =
      size.size() > 1 && size.size() < 6 && size.back() == 'b' &&
      std::isdigit(static_cast<unsigned char>(size.front()));
  return short_name ? fmt::format("{}-{}", system, size) : size;
}

std::vector<std::int64_t> whole_list(const Json& json, const std::string& where,
                                     Limits limits, Findings& findings) {
  std::vector<std::int64_t> out;
  if (!json.is_array()) {
    findings.error(where, "expected a list of whole numbers");
    return out;
  }
  for (std::size_t i = 0; i < json.size(); ++i) {
    const auto number = whole_number(json[i]);
    if (number && *number >= limits.least && *number <= limits.most) {
      out.push_back(*number);
      continue;
    }
    out.push_back(limits.least);
    findings.error(
        fmt::format("{}/{}", where, i),
        fmt::format("expected a whole number from {} to {}, found {}",
                    limits.least, limits.most,
                    excerpt(json[i].dump(-1, ' ', false,
                                         Json::error_handler_t::replace))));
  }
  return out;
}

std::vector<std::vector<std::int64_t>> whole_table(const Json& json,
                                                   const std::string& where,
                                                   Limits limits,
                                                   Findings& findings) {
  std::vector<std::vector<std::int64_t>> out;
  if (!json.is_array()) {
    findings.error(where, "expected a list of lists of whole numbers");
    return out;
  }
  for (std::size_t i = 0; i < json.size(); ++i) {
    out.push_back(
        whole_list(json[i], fmt::format("{}/{}", where, i), limits, findings));
  }
  return out;
}

void ignore(JsonObject& object, std::initializer_list<const char*> keys) {
  for (const char* key : keys) object.raw(key);
}

}  // namespace troupe::strategy
