#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/text.h"
#include "profiles/dates.h"
#include "profiles/own_format.h"

namespace troupe::profiles {
namespace {

std::string_view trim(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

template <typename Row>
std::vector<std::string> columns_of(bool required_only = false) {
  std::vector<std::string> names;
  Row row;
  fields(row, [&](std::string_view name, auto&, Need need) {
    if (!required_only || need == Need::required) names.emplace_back(name);
  });
  return names;
}

/// Reads the lines one by one; knows the source, table and columns at hand.
class CsvReader {
 public:
  CsvReader(const std::string& file, const std::string& hash, Gather& gather)
      : file_(file), hash_(hash), gather_(gather) {}

  Result<void> line(std::string_view text) {
    ++number_;
    text = trim(text);
    if (text.empty() || text.starts_with("##")) return {};
    if (text.front() == '#') return directive(trim(text.substr(1)));
    if (table_.empty()) {
      return fail(Fault::input, where() + ": a row before '# table: NAME'");
    }
    if (!split_csv(text, cells_)) {
      gather_.reject(where(), "a quote is not closed");
      return {};
    }
    if (columns_.empty()) return header();
    TRY_DO(flush_source());
    row();
    return {};
  }

 private:
  std::string where() const { return fmt::format("{}:{}", file_, number_); }

  Result<void> directive(std::string_view text) {
    if (text.starts_with("troupe profiles")) return version(text);
    const auto colon = text.find(':');
    if (colon == std::string_view::npos) {
      return fail(Fault::input,
                  where() + ": expected '# name: value' (a comment is '##')");
    }
    const std::string name(trim(text.substr(0, colon)));
    const std::string value(trim(text.substr(colon + 1)));
    if (name == "table") return table(value);
    if (name == "device") return device(value);
    if (name == "source") {
      if (value.empty()) return fail(Fault::input, where() + ": no name");
      source_ = Source{.file = file_, .file_hash = hash_};
      begun_ = false;
      table_.clear();
      devices_.clear();
    }
    if (!source_) {
      return fail(Fault::input, where() + ": expected '# source: NAME' first");
    }
    bool known = false;
    std::vector<std::string> names = {"table", "device"};
    fields(*source_, [&](std::string_view field, std::string& member, Need) {
      names.emplace_back(field);
      if (field != name || field == "file" || field == "file_hash") return;
      member = value;
      known = true;
    });
    if (!known) {
      return fail(Fault::input,
                  fmt::format("{}: unknown '{}'{}", where(), excerpt(name),
                              did_you_mean(name, names)));
    }
    return name == "date" ? check_date(value) : Result<void>{};
  }

  Result<void> check_date(const std::string& value) const {
    if (value.empty() || is_date(value)) return {};
    return fail(Fault::input, fmt::format("{}: date '{}' is no ISO 8601 date "
                                          "such as 2026-05-03 or 2026-05",
                                          where(), excerpt(value)));
  }

  Result<void> version(std::string_view text) {
    int version = 0;
    const auto number =
        trim(text.substr(std::string_view("troupe profiles").size()));
    if (!from_text(number, version) || version < 1 ||
        version > kFormatVersion) {
      return fail(Fault::input,
                  fmt::format("{}: format version '{}' is not known; expected "
                              "{}",
                              where(), excerpt(number), kFormatVersion));
    }
    return {};
  }

  Result<void> table(const std::string& name) {
    const std::vector<std::string> names = {"operators", "layers", "stages",
                                            "collectives", "copies"};
    if (std::ranges::find(names, name) == names.end()) {
      return fail(Fault::input,
                  fmt::format("{}: unknown table '{}'{}; known: "
                              "{}",
                              where(), excerpt(name), did_you_mean(name, names),
                              join(names)));
    }
    if (!source_) {
      return fail(Fault::input, where() + ": expected '# source: NAME' first");
    }
    table_ = name;
    columns_.clear();
    return {};
  }

  Result<void> device(std::string_view value) {
    const auto space = value.find(' ');
    DeviceName name{std::string(value.substr(0, space)), ""};
    if (space != std::string_view::npos) {
      name.architecture = trim(value.substr(space));
    }
    if (name.name.empty()) return fail(Fault::input, where() + ": no name");
    devices_.push_back(std::move(name));
    if (begun_) gather_.declare(devices_.back());
    return {};
  }

  Result<void> flush_source() {
    if (begun_) return {};
    gather_.begin(*source_);
    for (const DeviceName& device : devices_) gather_.declare(device);
    begun_ = true;
    return {};
  }

  Result<void> header() {
    if (table_ == "operators") return header_of<OperatorRow>();
    if (table_ == "layers") return header_of<LayerRow>();
    if (table_ == "stages") return header_of<StageRow>();
    if (table_ == "copies") return header_of<CopyRow>();
    return header_of<CollectiveRow>();
  }

  template <typename Row>
  Result<void> header_of() {
    const auto names = columns_of<Row>();
    for (const std::string& cell : cells_) {
      if (std::ranges::find(names, cell) == names.end()) {
        return fail(Fault::input,
                    fmt::format("{}: unknown column '{}'{}", where(),
                                excerpt(cell), did_you_mean(cell, names)));
      }
      if (std::ranges::count(cells_, cell) > 1) {
        return fail(Fault::input, fmt::format("{}: column '{}' twice", where(),
                                              excerpt(cell)));
      }
    }
    for (const std::string& name : columns_of<Row>(true)) {
      if (std::ranges::find(cells_, name) == cells_.end()) {
        return fail(Fault::input,
                    fmt::format("{}: column '{}' is missing", where(), name));
      }
    }
    columns_ = cells_;
    return {};
  }

  void row() {
    if (table_ == "operators") return row_of<OperatorRow>();
    if (table_ == "layers") return row_of<LayerRow>();
    if (table_ == "stages") return row_of<StageRow>();
    if (table_ == "copies") return row_of<CopyRow>();
    row_of<CollectiveRow>();
  }

  template <typename Row>
  void row_of() {
    if (cells_.size() != columns_.size()) {
      return gather_.reject(
          where(), fmt::format("{} values for {} columns", cells_.size(),
                               columns_.size()));
    }
    Row row;
    std::string problem;
    fields(row, [&](std::string_view name, auto& value, Need need) {
      const auto at = std::ranges::find(columns_, name);
      if (at == columns_.end()) return;
      const std::string& cell =
          cells_[static_cast<std::size_t>(at - columns_.begin())];
      if (cell.empty() && need == Need::optional) return;
      if (!from_text(cell, value) && problem.empty()) {
        problem = fmt::format("{} is '{}'", name, excerpt(cell));
      }
    });
    if (!problem.empty()) return gather_.reject(where(), problem);
    gather_.add(std::move(row), where());
  }

  const std::string& file_;
  const std::string& hash_;
  Gather& gather_;
  int number_ = 0;
  std::optional<Source> source_;
  bool begun_ = false;
  std::vector<DeviceName> devices_;
  std::string table_;
  std::vector<std::string> columns_;
  std::vector<std::string> cells_;
};

std::string one_line(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 32) c = ' ';
  }
  return text;
}

std::string quoted(const std::string& text) {
  if (text.find_first_of(",\"\n\r#") == std::string::npos &&
      trim(text) == text) {
    return text;
  }
  std::string result = "\"";
  for (const char c : one_line(text)) {
    if (c == '"') result += '"';
    result += c;
  }
  return result + '"';
}

template <typename Row>
void write_rows(const std::vector<Row>& rows, std::string& text) {
  if (rows.empty()) return;
  text += fmt::format("# table: {}\n{}\n", kTable<Row>,
                      join(columns_of<Row>(), ","));
  for (const Row& row : rows) {
    bool first = true;
    fields(row, [&](std::string_view, const auto& value, Need) {
      if (!first) text += ',';
      first = false;
      text += quoted(to_text(value));
    });
    text += '\n';
  }
}

}  // namespace

bool split_csv(std::string_view line, std::vector<std::string>& cells) {
  cells.clear();
  std::string cell;
  bool quoted = false;
  for (std::size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (quoted) {
      if (c != '"') {
        cell += c;
      } else if (i + 1 < line.size() && line[i + 1] == '"') {
        cell += line[++i];
      } else {
        quoted = false;
      }
    } else if (c == '"' && cell.empty()) {
      quoted = true;
    } else if (c == ',') {
      cells.emplace_back(trim(cell));
      cell.clear();
    } else {
      cell += c;
    }
  }
  cells.emplace_back(trim(cell));
  return !quoted;
}

Result<void> read_own_csv(std::string_view text, const std::string& file,
                          const std::string& hash, Gather& gather) {
  CsvReader reader(file, hash, gather);
  while (!text.empty()) {
    const auto end = text.find('\n');
    TRY_DO(reader.line(text.substr(0, end)));
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return {};
}

std::string write_own_csv(const std::vector<Section>& sections) {
  std::string text = fmt::format("{} {}\n", kCsvMark, kFormatVersion);
  for (const Section& section : sections) {
    fields(section.source,
           [&](std::string_view name, const std::string& value, Need) {
             if (name == "file" || name == "file_hash" || value.empty()) return;
             text += fmt::format("# {}: {}\n", name, one_line(value));
           });
    for (const DeviceName& device : section.devices) {
      text +=
          fmt::format("# device: {} {}\n", device.name, device.architecture);
    }
    write_rows(section.operators, text);
    write_rows(section.layers, text);
    write_rows(section.stages, text);
    write_rows(section.collectives, text);
    write_rows(section.copies, text);
  }
  return text;
}

}  // namespace troupe::profiles
