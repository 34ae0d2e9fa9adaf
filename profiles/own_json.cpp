#include <fmt/format.h>

#include "base/text.h"
#include "profiles/dates.h"
#include "profiles/own_format.h"

namespace troupe::profiles {
namespace {

void put(Json& object, std::string_view name, double value) {
  object[std::string(name)] = value;
}
void put(Json& object, std::string_view name, int value) {
  object[std::string(name)] = value;
}
void put(Json& object, std::string_view name, std::int64_t value) {
  object[std::string(name)] = value;
}
void put(Json& object, std::string_view name, bool value) {
  object[std::string(name)] = value;
}
template <typename T>
void put(Json& object, std::string_view name, const T& value) {
  object[std::string(name)] = to_text(value);
}

bool get(const Json& json, double& value) {
  if (!json.is_number()) return false;
  value = json.get<double>();
  return true;
}
bool get(const Json& json, std::int64_t& value) {
  const auto whole = whole_number(json);
  if (whole) value = *whole;
  return whole.has_value();
}
bool get(const Json& json, int& value) {
  const auto whole = whole_number(json);
  if (!whole || *whole != static_cast<int>(*whole)) return false;
  value = static_cast<int>(*whole);
  return true;
}
bool get(const Json& json, bool& value) {
  if (!json.is_boolean()) return false;
  value = json.get<bool>();
  return true;
}
template <typename T>
bool get(const Json& json, T& value) {
  return json.is_string() && from_text(json.get<std::string>(), value);
}

template <typename Row>
void read_row(const Json& json, const std::string& where, Gather& gather) {
  if (!json.is_object()) return gather.reject(where, "expected an object");
  Row row;
  std::string problem;
  std::size_t known = 0;
  fields(row, [&](std::string_view name, auto& value, Need need) {
    const auto at = json.find(std::string(name));
    if (at == json.end()) {
      if (need == Need::required && problem.empty()) {
        problem = fmt::format("{} is missing", name);
      }
      return;
    }
    ++known;
    if (!get(*at, value) && problem.empty()) {
      problem = fmt::format("{} has a wrong value", name);
    }
  });
  if (problem.empty() && known != json.size()) problem = "an unknown key";
  if (!problem.empty()) return gather.reject(where, problem);
  gather.add(std::move(row), where);
}

template <typename Row>
Result<void> read_table(const Json& source, const std::string& where,
                        Gather& gather) {
  const auto at = source.find(std::string(kTable<Row>));
  if (at == source.end()) return {};
  const std::string table = fmt::format("{}/{}", where, kTable<Row>);
  if (!at->is_array()) return fail(Fault::input, table + ": expected a list");
  for (std::size_t i = 0; i < at->size(); ++i) {
    read_row<Row>((*at)[i], fmt::format("{}/{}", table, i), gather);
  }
  return {};
}

Result<void> read_source(const Json& json, const std::string& file,
                         const std::string& hash, const std::string& where,
                         Gather& gather) {
  Findings findings;
  JsonObject object(json, where, findings);
  Source source;
  fields(source, [&](std::string_view name, std::string& value, Need need) {
    if (name == "file" || name == "file_hash") return;
    value = need == Need::required ? object.text(name) : object.text(name, "");
  });
  source.file = file;
  source.file_hash = hash;
  if (!source.date.empty() && !is_date(source.date)) {
    return fail(Fault::input,
                fmt::format("{}/date: '{}' is no ISO 8601 date such as "
                            "2026-05-03 or 2026-05",
                            where, excerpt(source.date)));
  }
  std::vector<DeviceName> devices;
  for (JsonObject& device : object.objects("devices", true)) {
    devices.push_back({device.text("name"), device.text("architecture", "")});
    device.finish();
  }
  for (const auto table :
       {kTable<OperatorRow>, kTable<LayerRow>, kTable<StageRow>,
        kTable<CollectiveRow>, kTable<CopyRow>}) {
    if (object.has(table)) object.raw(table);
  }
  object.finish();
  if (!findings.ok()) return fail(findings.to_error());
  gather.begin(std::move(source));
  for (DeviceName& device : devices) gather.declare(std::move(device));
  TRY_DO(read_table<OperatorRow>(json, where, gather));
  TRY_DO(read_table<LayerRow>(json, where, gather));
  TRY_DO(read_table<StageRow>(json, where, gather));
  TRY_DO(read_table<CollectiveRow>(json, where, gather));
  return read_table<CopyRow>(json, where, gather);
}

template <typename Row>
void write_table(const std::vector<Row>& rows, Json& source) {
  if (rows.empty()) return;
  Json list = Json::array();
  for (const Row& row : rows) {
    Json object = Json::object();
    fields(row, [&](std::string_view name, const auto& value, Need) {
      put(object, name, value);
    });
    list.push_back(std::move(object));
  }
  source[std::string(kTable<Row>)] = std::move(list);
}

}  // namespace

Result<void> read_own_json(const Json& json, const std::string& file,
                           const std::string& hash, Gather& gather) {
  Findings findings;
  JsonObject object(json, file, findings);
  object.text("format");
  const int version = object.small("version", kPositive);
  const Json* sources = object.raw("sources");
  object.finish();
  if (!findings.ok()) return fail(findings.to_error());
  if (version > kFormatVersion) {
    return fail(Fault::input,
                fmt::format("{}: format version {} is not known; expected {}",
                            file, version, kFormatVersion));
  }
  if (sources == nullptr || !sources->is_array()) {
    return fail(Fault::input, file + ": /sources: expected a list");
  }
  for (std::size_t i = 0; i < sources->size(); ++i) {
    TRY_DO(read_source((*sources)[i], file, hash,
                       fmt::format("{}: /sources/{}", file, i), gather));
  }
  return {};
}

Json write_own_json(const std::vector<Section>& sections) {
  Json list = Json::array();
  for (const Section& section : sections) {
    Json source = Json::object();
    fields(section.source,
           [&](std::string_view name, const std::string& value, Need) {
             if (name == "file" || name == "file_hash" || value.empty()) return;
             source[std::string(name)] = value;
           });
    for (const DeviceName& device : section.devices) {
      source["devices"].push_back(
          {{"name", device.name}, {"architecture", device.architecture}});
    }
    write_table(section.operators, source);
    write_table(section.layers, source);
    write_table(section.stages, source);
    write_table(section.collectives, source);
    write_table(section.copies, source);
    list.push_back(std::move(source));
  }
  return {{"format", "troupe profiles"},
          {"version", kFormatVersion},
          {"sources", std::move(list)}};
}

}  // namespace troupe::profiles
