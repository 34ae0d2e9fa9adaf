#include "profiles/any_format.h"

#include <fmt/format.h>

#include "base/file.h"
#include "base/text.h"
#include "clusters/kinds.h"
#include "profiles/described.h"
#include "profiles/detect.h"
#include "profiles/devices.h"
#include "profiles/gunzip.h"
#include "profiles/kineto_events.h"
#include "profiles/own_format.h"
#include "profiles/readers.h"

namespace troupe::profiles {
namespace {

constexpr std::pair<Format, std::string_view> kFormats[] = {
    {Format::automatic, "auto"},
    {Format::own_csv, "csv"},
    {Format::own_json, "json"},
    {Format::scheme_pool, "scheme-pool"},
    {Format::layer_profiles, "layer-profiles"},
    {Format::vidur_compute, "vidur-compute"},
    {Format::vidur_network, "vidur-network"},
    {Format::vtrain_allreduce, "vtrain-allreduce"},
    {Format::simumax, "simumax"},
    {Format::sailor_layers, "sailor-layers"},
    {Format::kineto, "kineto"},
    {Format::nsys, "nsys"},
    {Format::nccl_tests, "nccl-tests"},
    {Format::galvatron, "galvatron"},
    {Format::sailor_operators, "sailor-operators"},
    {Format::sailor_collectives, "sailor-collectives"},
    {Format::sailor_messages, "sailor-messages"}};

/// Traces are large; all else is read as a whole.
constexpr Bytes kLargestTrace{std::int64_t{1} << 30};
constexpr std::size_t kLargestText = std::size_t{256} << 20;
constexpr std::string_view kSqlite{"SQLite format 3\0", 16};

Error unknown_format(const std::string& path) {
  return {Fault::input,
          path +
              ": no known format; expected one of profiles/FORMAT.md "
              "('# troupe profiles 1' CSV, JSON, scheme pool, layer "
              "profiles, Vidur, vTrain, SimuMax, Sailor, Galvatron, PyTorch "
              "profiler, Nsight Systems, nccl-tests)"};
}

Result<void> read_json_format(Format format, const Json& json,
                              const Foreign& file, Gather& gather) {
  switch (format) {
    case Format::own_json:
      return read_own_json(json, file.path, file.hash, gather);
    case Format::scheme_pool:
      return read_scheme_pool(json, file, gather);
    case Format::layer_profiles: {
      // The factors to larger micro-batches lie beside the profiles.
      const auto beside = std::filesystem::path(file.path).parent_path() /
                          "micro_batch_scaling.json";
      Json scaling;
      if (std::error_code none; std::filesystem::exists(beside, none)) {
        TRY(scaling, read_json(beside));
      }
      return read_layer_profiles(json, scaling, file, gather);
    }
    case Format::simumax:
      return read_simumax(json, file, gather);
    case Format::sailor_layers:
      return read_sailor_layers(json, file, gather);
    case Format::galvatron:
      return json.begin().key().starts_with("layer")
                 ? read_galvatron_layers(json, file, gather)
                 : read_galvatron_collectives(json, file, gather);
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
      break;
  }
  const std::string_view what = described_in(json);
  if (what.empty()) return fail(unknown_format(file.path));
  return fail(Fault::input, fmt::format("{}: {}", file.path, what));
}

Result<void> read_text_format(Format format, std::string_view text,
                              const Foreign& file, Gather& gather) {
  switch (format) {
    case Format::own_csv:
      return read_own_csv(text, file.path, file.hash, gather);
    case Format::vidur_compute:
      return read_vidur_compute(text, file, gather);
    case Format::vidur_network:
      return read_vidur_network(text, file, gather);
    case Format::vtrain_allreduce:
      return read_vtrain_allreduce(text, file, gather);
    case Format::kineto:
      return read_kineto(text, file, gather);
    case Format::nccl_tests:
      return read_nccl_tests(text, file, gather);
    case Format::sailor_operators:
      return read_sailor_operators(text, file, gather);
    case Format::sailor_collectives:
      return read_sailor_collectives(text, file, gather);
    case Format::sailor_messages:
      return read_sailor_messages(text, file, gather);
    case Format::nsys:
      return fail(Fault::input, file.path + ": is no SQLite file");
    case Format::automatic:
    case Format::own_json:
    case Format::scheme_pool:
    case Format::layer_profiles:
    case Format::simumax:
    case Format::sailor_layers:
    case Format::galvatron:
      break;
  }
  const std::string_view what = described_in(text);
  if (what.empty()) return fail(unknown_format(file.path));
  return fail(Fault::input, fmt::format("{}: {}", file.path, what));
}

/// Other files say themselves who took part.
Result<void> check_ranks(Format format, const Foreign& file) {
  const IngestOptions& o = file.options;
  if (o.ranks == 0 && o.per_node == 0) return {};
  if (format == Format::nccl_tests) return {};
  return fail(Fault::input,
              fmt::format("{}: --ranks and --per-node are for what nccl-tests "
                          "prints; this is {}",
                          file.path,
                          format == Format::automatic
                              ? std::string_view("of no known format")
                              : name_of(format)));
}

/// By the option, else by the content.
Result<void> read_text(const std::string& text, const Foreign& file,
                       Gather& gather) {
  Format format = file.options.format;
  if (format == Format::automatic && looks_like_kineto(text)) {
    format = Format::kineto;
  }
  if (format == Format::kineto) {
    TRY_DO(check_ranks(format, file));
    return read_kineto(text, file, gather);
  }
  if (text.size() > kLargestText) {
    return fail(Fault::input, fmt::format("{}: is larger than {} MiB",
                                          file.path, kLargestText >> 20));
  }
  // A '[' may also be what mpirun puts before a line.
  const auto first = text.find_first_not_of(" \t\r\n");
  const bool json_text =
      first != std::string::npos &&
      (text[first] == '{' ||
       (text[first] == '[' &&
        format_of_text(text, file.name()) == Format::automatic));
  if (format == Format::automatic ? json_text : is_json(format)) {
    TRY(const Json json, parse_json(text, file.path));
    if (!json.is_object()) return fail(unknown_format(file.path));
    if (format == Format::automatic) format = format_of_json(json);
    TRY_DO(check_ranks(format, file));
    return read_json_format(format, json, file, gather);
  }
  if (format == Format::automatic) format = format_of_text(text, file.name());
  TRY_DO(check_ranks(format, file));
  return read_text_format(format, text, file, gather);
}

/// Files that are no measurements by themselves but lead to some.
Result<void> check_not_ours(std::string_view text, const std::string& path) {
  constexpr std::size_t kApplicationAt = 68;
  if (text.starts_with(kSqlite) && text.size() > kApplicationAt &&
      text.substr(kApplicationAt).starts_with("TRPF")) {
    return fail(Fault::input,
                fmt::format("{0}: is a profile database of ours; use it with "
                            "--profiles {0}, or take its rows out of it with: "
                            "troupe profiles export --profiles {0} -o rows.csv",
                            path));
  }
  for (const std::string_view report : {".nsys-rep", ".qdrep"}) {
    if (!path.ends_with(report) || text.starts_with(kSqlite)) continue;
    return fail(Fault::input,
                fmt::format("{0}: a report of Nsight Systems; export it with: "
                            "nsys export --type sqlite {0}",
                            path));
  }
  return {};
}

}  // namespace

Result<void> read_any(const std::filesystem::path& path,
                      const IngestOptions& options, Gather& gather) {
  TRY(std::string text, read_file(path, kLargestTrace));
  const Foreign file{path.string(), content_hash(text), options};
  TRY_DO(check_not_ours(text, file.path));
  if (text.starts_with(kSqlite)) {
    if (options.format != Format::automatic && options.format != Format::nsys) {
      return fail(Fault::input, file.path + ": is an SQLite file");
    }
    text = {};  // SQLite reads it again, in parts
    TRY_DO(check_ranks(Format::nsys, file));
    TRY_DO(read_nsys(file, gather));
  } else {
    if (is_gzip(text)) {
      TRY(text, gunzip(text, file.path, kLargestTrace));
    }
    TRY_DO(read_text(text, file, gather));
  }
  return {};
}

std::string_view name_of(Format format) {
  for (const auto& [value, name] : kFormats) {
    if (value == format) return name;
  }
  return "?";
}

std::optional<Format> parse_format(std::string_view name) {
  for (const auto& [value, spelling] : kFormats) {
    if (spelling == name) return value;
  }
  return {};
}

std::vector<std::string> format_names() {
  std::vector<std::string> names;
  for (const auto& [value, name] : kFormats) names.emplace_back(name);
  return names;
}

const Json* member(const Json* json, const char* key) {
  if (json == nullptr || !json->is_object()) return nullptr;
  const auto at = json->find(key);
  return at == json->end() ? nullptr : &*at;
}

std::string Foreign::name() const {
  return std::filesystem::path(path).filename().string();
}

std::string Foreign::folder() const {
  return std::filesystem::path(path).parent_path().filename().string();
}

Source Foreign::source(std::string_view project) const {
  return {
      .name = fmt::format("{}: {} ({})", project, name(), hash.substr(0, 8)),
      .file = path,
      .file_hash = hash};
}

Result<std::string> Foreign::device(std::string_view foreign) const {
  if (!options.device.empty()) return options.device;
  if (auto name = device_alias(foreign)) return *name;
  TRY(const clusters::KindTable kinds, clusters::shipped_kinds());
  return fail(Fault::input,
              fmt::format("{}: device '{}' is not known; say which it is with "
                          "--device KIND; known: {}",
                          path, excerpt(foreign), join(kinds.names())));
}

}  // namespace troupe::profiles
