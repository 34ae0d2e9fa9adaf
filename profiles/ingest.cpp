#include "profiles/ingest.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/file.h"
#include "base/text.h"
#include "clusters/kinds.h"
#include "profiles/devices.h"
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
    {Format::sailor_layers, "sailor-layers"}};

bool is_json(Format format) {
  return format == Format::own_json || format == Format::scheme_pool ||
         format == Format::layer_profiles || format == Format::simumax ||
         format == Format::sailor_layers;
}

/// The table of Sailor has nothing but numbers as keys, twice.
bool looks_like_sailor(const Json& json) {
  if (json.empty()) return false;
  for (const auto& [batch, degrees] : json.items()) {
    int number = 0;
    if (!from_text(batch, number) || !degrees.is_object()) return false;
  }
  return true;
}

Format format_of_json(const Json& json) {
  if (!json.is_object()) return Format::automatic;
  if (json.contains("format")) return Format::own_json;
  if (json.contains("strategies") && json.contains("memory_regression")) {
    return Format::scheme_pool;
  }
  if (json.contains("layer_profiles")) return Format::layer_profiles;
  if (json.contains("accelerator") && json.contains("networks")) {
    return Format::simumax;
  }
  return looks_like_sailor(json) ? Format::sailor_layers : Format::automatic;
}

Format format_of_text(std::string_view text) {
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
  return Format::automatic;
}

Error unknown_format(const std::string& path) {
  return {Fault::input,
          path +
              ": no known format; expected one of profiles/FORMAT.md "
              "('# troupe profiles 1' CSV, JSON, scheme pool, layer "
              "profiles, Vidur, vTrain, SimuMax, Sailor)"};
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
    case Format::automatic:
    case Format::own_csv:
    case Format::vidur_compute:
    case Format::vidur_network:
    case Format::vtrain_allreduce:
      break;
  }
  return fail(unknown_format(file.path));
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
    case Format::automatic:
    case Format::own_json:
    case Format::scheme_pool:
    case Format::layer_profiles:
    case Format::simumax:
    case Format::sailor_layers:
      break;
  }
  return fail(unknown_format(file.path));
}

Result<void> read_any(const std::filesystem::path& path,
                      const IngestOptions& options, Gather& gather) {
  TRY(const std::string text, read_file(path));
  const Foreign file{path.string(), content_hash(text), options};
  const auto first = text.find_first_not_of(" \t\r\n");
  const bool json_text =
      first != std::string::npos && (text[first] == '{' || text[first] == '[');
  const std::size_t already = gather.sections.size();
  if (options.format == Format::automatic ? json_text
                                          : is_json(options.format)) {
    TRY(const Json json, parse_json(text, file.path));
    if (!json.is_object()) return fail(unknown_format(file.path));
    const Format found = options.format == Format::automatic
                             ? format_of_json(json)
                             : options.format;
    TRY_DO(read_json_format(found, json, file, gather));
  } else {
    const Format found = options.format == Format::automatic
                             ? format_of_text(text)
                             : options.format;
    TRY_DO(read_text_format(found, text, file, gather));
  }
  if (!options.source.empty() && gather.sections.size() == already + 1) {
    gather.sections.back().source.name = options.source;
  }
  return {};
}

Result<std::vector<DeviceName>> devices_of(const Database& database) {
  TRY(std::vector<DeviceName> known, database.devices());
  TRY(const clusters::KindTable shipped, clusters::shipped_kinds());
  for (const std::string& name : shipped.names()) known.push_back({name, ""});
  return known;
}

Result<IngestReport> store(Database& database, const Gather& gather) {
  TRY(const Written written, database.store(gather.sections));
  IngestReport report{.inserted = written.inserted,
                      .unchanged = written.unchanged,
                      .rejected = gather.rejected + written.conflicts,
                      .rejections = gather.first};
  for (const std::string& conflict : written.first_conflicts) {
    if (report.rejections.size() >= Gather::kMostShown) break;
    report.rejections.push_back(conflict);
  }
  return report;
}

}  // namespace

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
  return fail(Fault::input,
              fmt::format("{}: device '{}' is not known; say which it is with "
                          "--device",
                          path, excerpt(foreign)));
}

Result<IngestReport> ingest(Database& database,
                            const std::filesystem::path& path,
                            const IngestOptions& options) {
  TRY(const std::vector<DeviceName> known, devices_of(database));
  Gather gather(known);
  TRY_DO(read_any(path, options, gather));
  return store(database, gather);
}

Result<IngestReport> ingest_shipped(Database& database) {
  const std::filesystem::path folder = data_root() / "profiles" / "data";
  std::error_code error;
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (entry.path().extension() == ".csv") files.push_back(entry.path());
  }
  if (error) {
    return fail(Fault::input,
                fmt::format("{}: {}", folder.string(), error.message()));
  }
  std::ranges::sort(files);
  TRY(const std::vector<DeviceName> known, devices_of(database));
  Gather gather(known);
  for (const auto& file : files) TRY_DO(read_any(file, {}, gather));
  return store(database, gather);
}

}  // namespace troupe::profiles
