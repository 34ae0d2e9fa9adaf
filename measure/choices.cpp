#include "measure/choices.h"

#include <map>
#include <sstream>

#include "base/file.h"

namespace troupe::measure {
namespace {

constexpr int kKeyFields = 4;

/// The first fields of a line, or all of one that has fewer.
std::string key_of(const std::string& line) {
  std::size_t end = 0;
  for (int field = 0; field < kKeyFields; ++field) {
    end = line.find(';', end);
    if (end == std::string::npos) return line;
    ++end;
  }
  return line.substr(0, end);
}

void take(const std::string& text, std::map<std::string, std::string>& lines) {
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    if (!line.empty()) lines[key_of(line)] = line;
  }
}

Result<std::string> contents_of(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return std::string();
  return read_file(path, Bytes{std::int64_t{64} << 20});
}

}  // namespace

std::filesystem::path choices_path(const std::filesystem::path& database,
                                   const MachineInfo& machine) {
  if (database == ":memory:") return {};
  std::filesystem::path path = database;
  // Every part of the versions counts, not only the first 40 characters.
  std::string libraries;
  for (std::size_t at = 0; at < machine.libraries.size(); at += 40) {
    libraries = device_slug(libraries, machine.libraries.substr(at, 40));
  }
  path += ".choices-" + machine.device + "-" + libraries;
  return path;
}

Result<void> load_choices(const std::filesystem::path& path, Machine& machine) {
  if (path.empty()) return {};
  TRY(const std::string text, contents_of(path));
  if (text.empty()) return {};
  return machine.load_choices(text);
}

Result<void> save_choices(const std::filesystem::path& path,
                          const Machine& machine) {
  if (path.empty()) return {};
  const std::string chosen = machine.choices();
  if (chosen.empty()) return {};
  TRY(const std::string old, contents_of(path));
  std::map<std::string, std::string> lines;
  take(old, lines);
  take(chosen, lines);
  std::string text;
  for (const auto& [key, line] : lines) text += line + "\n";
  return text == old ? Result<void>() : write_file(path, text);
}

}  // namespace troupe::measure
