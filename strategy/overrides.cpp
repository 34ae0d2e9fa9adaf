#include "strategy/overrides.h"

#include <fmt/format.h>

#include <charconv>
#include <optional>

#include "base/text.h"

namespace troupe::strategy {
namespace {

constexpr std::size_t kDeepest = 32;

std::vector<std::string> split(const std::string& path) {
  std::vector<std::string> out(1);
  for (const char c : path) {
    if (c == '.') {
      out.emplace_back();
    } else {
      out.back() += c;
    }
  }
  return out;
}

std::optional<std::size_t> index_of(const std::string& word) {
  std::size_t out = 0;
  const char* end = word.data() + word.size();
  const auto [p, e] = std::from_chars(word.data(), end, out);
  if (e != std::errc{} || p != end) return {};
  return out;
}

}  // namespace

void apply_override(Json& json, const Override& change,
                    const std::string& where, Findings& findings) {
  const auto& [path, text] = change;
  const auto complain = [&](const std::string& what) {
    findings.error(where, fmt::format("cannot set {}={}: {}", excerpt(path),
                                      excerpt(text), what));
  };
  const std::vector<std::string> steps = split(path);
  if (steps.size() > kDeepest) return complain("too many steps");
  Json* at = &json;
  for (const std::string& step : steps) {
    if (step.empty()) return complain("an empty step in the path");
    if (at->is_null()) *at = Json::object();
    if (at->is_object()) {
      at = &(*at)[step];
    } else if (at->is_array()) {
      const auto index = index_of(step);
      if (!index || *index >= at->size()) {
        return complain(
            fmt::format("'{}' is not one of the {} elements "
                        "(from 0)",
                        excerpt(step), at->size()));
      }
      at = &(*at)[*index];
    } else {
      return complain(
          fmt::format("'{}' is inside a plain value", excerpt(step)));
    }
  }
  auto value = parse_json(text, "value");
  *at = value ? *std::move(value) : Json(text);
}

}  // namespace troupe::strategy
