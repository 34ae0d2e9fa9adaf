#include "profiles/export.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/text.h"
#include "profiles/own_format.h"

namespace troupe::profiles {
namespace {

Result<void> check_filter(const Filter& filter,
                          const std::vector<StoredSource>& sources,
                          const std::vector<DeviceName>& devices) {
  const auto check_name =
      [](const std::string& given, std::string_view what,
         const std::vector<std::string>& names) -> Result<void> {
    if (given.empty() || std::ranges::find(names, given) != names.end()) {
      return {};
    }
    return fail(Fault::input,
                fmt::format("no {} '{}' in the database{}", what,
                            excerpt(given), did_you_mean(given, names)));
  };
  std::vector<std::string> names;
  for (const StoredSource& s : sources) names.push_back(s.source.name);
  TRY_DO(check_name(filter.source, "source", names));
  names.clear();
  for (const DeviceName& d : devices) names.push_back(d.name);
  TRY_DO(check_name(filter.device, "device", names));
  return check_name(filter.table, "table",
                    {"operators", "layers", "stages", "collectives", "copies"});
}

template <typename Row>
Result<void> collect(const Database& database, const Filter& filter,
                     std::map<std::int64_t, Section>& sections) {
  if (!filter.table.empty() && filter.table != kTable<Row>) return {};
  TRY(std::vector<Stored<Row>> rows,
      database.select<Row>(filter.device, filter.source));
  for (Stored<Row>& stored : rows) {
    sections[stored.source].template rows<Row>().push_back(
        std::move(stored.row));
  }
  return {};
}

/// Declares every device of the section, so that another database that has
/// never heard of it takes the rows.
void declare_devices(Section& section, const std::vector<DeviceName>& devices) {
  std::set<std::string> used;
  const auto see = [&](const auto& rows) {
    for (const auto& row : rows) used.insert(row.device);
  };
  see(section.operators);
  see(section.layers);
  see(section.stages);
  see(section.collectives);
  see(section.copies);
  for (const DeviceName& device : devices) {
    if (used.contains(device.name)) section.devices.push_back(device);
  }
}

Result<std::vector<Section>> sections_of(const Database& database,
                                         const Filter& filter) {
  TRY(const std::vector<StoredSource> sources, database.sources());
  TRY(const std::vector<DeviceName> devices, database.devices());
  TRY_DO(check_filter(filter, sources, devices));
  std::map<std::int64_t, Section> by_source;
  TRY_DO(collect<OperatorRow>(database, filter, by_source));
  TRY_DO(collect<LayerRow>(database, filter, by_source));
  TRY_DO(collect<StageRow>(database, filter, by_source));
  TRY_DO(collect<CollectiveRow>(database, filter, by_source));
  TRY_DO(collect<CopyRow>(database, filter, by_source));
  std::vector<Section> sections;
  for (const StoredSource& s : sources) {
    const auto at = by_source.find(s.id);
    if (at == by_source.end()) continue;
    at->second.source = s.source;
    declare_devices(at->second, devices);
    sections.push_back(std::move(at->second));
  }
  return sections;
}

}  // namespace

Result<Json> list_sources(const Database& database, const Filter& filter) {
  TRY(const std::vector<StoredSource> sources, database.sources());
  TRY(const std::vector<DeviceName> devices, database.devices());
  TRY_DO(check_filter(filter, sources, devices));
  TRY(const std::vector<RowCount> counts, database.counts());
  const auto passes = [](const std::string& wanted, const std::string& name) {
    return wanted.empty() || wanted == name;
  };
  Json list = Json::array();
  for (const StoredSource& s : sources) {
    if (!passes(filter.source, s.source.name)) continue;
    Json entry = Json::object();
    fields(s.source, [&](std::string_view name, const std::string& value,
                         Need) { entry[std::string(name)] = value; });
    entry["rows"] = Json::object();
    for (const RowCount& c : counts) {
      if (c.source != s.id || !passes(filter.device, c.device) ||
          !passes(filter.table, c.table)) {
        continue;
      }
      entry["rows"][c.table][c.device] = c.rows;
    }
    const bool narrowed = !filter.device.empty() || !filter.table.empty();
    if (narrowed && entry["rows"].empty()) continue;
    list.push_back(std::move(entry));
  }
  return Json{{"database", database.path()}, {"sources", std::move(list)}};
}

Result<Json> show(const Database& database, const Filter& filter) {
  TRY(const std::vector<Section> sections, sections_of(database, filter));
  return write_own_json(sections);
}

Result<std::string> export_csv(const Database& database, const Filter& filter) {
  TRY(const std::vector<Section> sections, sections_of(database, filter));
  return write_own_csv(sections);
}

}  // namespace troupe::profiles
