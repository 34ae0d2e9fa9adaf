#include "base/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <unordered_set>
#include <utility>

#include "base/file.h"
#include "base/text.h"

namespace troupe {
namespace {

constexpr int kDeepest = 64;

/// Reads text and notes how far, so that a problem which the parser reports
/// without a position still has one.
class CountingReader {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingReader(const char* at, const char** furthest)
      : at_(at), furthest_(furthest) {}
  reference operator*() const { return *at_; }
  CountingReader& operator++() {
    *furthest_ = ++at_;
    return *this;
  }
  CountingReader operator++(int) {
    CountingReader before = *this;
    ++*this;
    return before;
  }
  bool operator==(const CountingReader& other) const {
    return at_ == other.at_;
  }

 private:
  const char* at_;
  const char** furthest_;
};

/// Watches a parse for what the parser itself lets pass.
struct Watcher {
  const char** reached = nullptr;
  const char* problem_at = nullptr;
  std::vector<std::unordered_set<std::string>> keys;
  std::string problem;

  void found(std::string what) {
    if (!problem.empty()) return;
    problem = std::move(what);
    problem_at = *reached;
  }

  bool operator()(int depth, Json::parse_event_t event, Json& parsed) {
    using Event = Json::parse_event_t;
    if (depth > kDeepest) {
      found(fmt::format("nested deeper than {} levels", kDeepest));
    }
    if (event == Event::object_start) keys.emplace_back();
    if (event == Event::object_end && !keys.empty()) keys.pop_back();
    if (event == Event::key && !keys.empty()) {
      const std::string key = parsed.get<std::string>();
      if (!keys.back().insert(key).second) {
        found(
            fmt::format("key '{}' appears twice in one object", excerpt(key)));
      }
    }
    return problem.empty();
  }
};

/// Where a comment that starts at `i` ends; `i` itself when none starts.
std::size_t after_comment(std::string_view text, std::size_t i) {
  const std::string_view rest = text.substr(i);
  std::size_t end = i;
  if (rest.starts_with("//")) {
    end = text.find('\n', i);
  } else if (rest.starts_with("/*")) {
    end = text.find("*/", i + 2);
    if (end != text.npos) end += 2;
  }
  return std::min(end, text.size());
}

/// The nesting depth of the text, without parsing it.
int depth_of(std::string_view text) {
  int depth = 0;
  int deepest = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '/' && after_comment(text, i) > i) {
      i = after_comment(text, i) - 1;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      deepest = std::max(deepest, ++depth);
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return deepest;
}

std::string position(std::string_view text, std::size_t byte) {
  byte = std::min(byte, text.size());
  const std::string_view before = text.substr(0, byte);
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  const std::size_t start = before.rfind('\n');
  const std::size_t column =
      byte - (start == std::string_view::npos ? 0 : start + 1);
  return fmt::format("line {}, column {}", line,
                     std::max<std::size_t>(column, 1));
}

std::string shown(const Json& value) {
  return excerpt(value.dump(-1, ' ', false, Json::error_handler_t::replace));
}

}  // namespace

Result<Json> parse_json(std::string_view text, std::string_view name) {
  if (depth_of(text) > kDeepest) {
    return fail(Fault::input, fmt::format("{}: nested deeper than {} levels",
                                          name, kDeepest));
  }
  const char* const begin = text.data();
  const char* reached = begin;
  const auto place = [&](const char* at) {
    return position(text, static_cast<std::size_t>(at - begin));
  };
  Watcher watcher;
  watcher.reached = &reached;
  try {
    Json json = Json::parse(CountingReader(begin, &reached),
                            CountingReader(begin + text.size(), &reached),
                            std::ref(watcher), true, true);
    if (!watcher.problem.empty()) {
      return fail(Fault::input,
                  fmt::format("{}: {}: {}", name, place(watcher.problem_at),
                              watcher.problem));
    }
    return json;
  } catch (const Json::parse_error& e) {
    std::string what = e.what();
    if (const auto colon = what.find(": "); colon != std::string::npos) {
      what = what.substr(colon + 2);
    }
    return fail(Fault::input,
                fmt::format("{}: not valid JSON at {}: {}", name,
                            position(text, e.byte), excerpt(what, 160)));
  } catch (const Json::exception& e) {
    std::string what = e.what();
    if (const auto end = what.find("] "); end != std::string::npos) {
      what = what.substr(end + 2);
    }
    return fail(Fault::input, fmt::format("{}: not valid JSON at {}: {}", name,
                                          place(reached), excerpt(what, 160)));
  }
}

Result<Json> read_json(const std::filesystem::path& path) {
  TRY(const std::string text, read_file(path));
  return parse_json(text, path.string());
}

std::string to_text(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace);
}

std::optional<std::int64_t> whole_number(const Json& value) {
  if (value.is_number_unsigned()) {
    const auto u = value.get<std::uint64_t>();
    if (u >
        static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      return {};
    }
    return static_cast<std::int64_t>(u);
  }
  if (value.is_number_integer()) return value.get<std::int64_t>();
  if (value.is_number_float()) {
    const double d = value.get<double>();
    if (std::isfinite(d) && std::trunc(d) == d && std::abs(d) < 9e15) {
      return static_cast<std::int64_t>(d);
    }
  }
  return {};
}

JsonObject::JsonObject(const Json& value, std::string where, Findings& findings)
    : value_(&value), where_(std::move(where)), findings_(&findings) {
  static const Json empty = Json::object();
  if (!value.is_object()) {
    findings.error(where_,
                   fmt::format("expected an object, found {}", shown(value)));
    value_ = &empty;
  }
}

bool JsonObject::has(std::string_view key) const {
  return value_->find(key) != value_->end();
}

std::string JsonObject::where(std::string_view key) const {
  const bool rooted = where_.find(": /") != std::string::npos;
  return fmt::format("{}{}/{}", where_, rooted ? "" : ": ", key);
}

const Json* JsonObject::find(std::string_view key, bool optional) {
  known_.emplace_back(key);
  const auto it = value_->find(key);
  if (it != value_->end()) return &*it;
  if (!optional) {
    findings_->error(where(key), "missing; this key is required");
  }
  return nullptr;
}

const Json* JsonObject::raw(std::string_view key) { return find(key, true); }

void JsonObject::wrong(std::string_view key, std::string_view expected) {
  findings_->error(where(key), fmt::format("expected {}, found {}", expected,
                                           shown((*value_)[std::string(key)])));
}

std::int64_t JsonObject::integer(std::string_view key, Limits limits,
                                 std::optional<std::int64_t> fallback) {
  const Json* value = find(key, fallback.has_value());
  const std::int64_t otherwise = fallback.value_or(limits.least);
  if (!value) return otherwise;
  const auto number = whole_number(*value);
  if (!number || *number < limits.least || *number > limits.most) {
    wrong(key, fmt::format("a whole number from {} to {}", limits.least,
                           limits.most));
    return otherwise;
  }
  return *number;
}

int JsonObject::small(std::string_view key, Limits limits,
                      std::optional<int> fallback) {
  limits.most = std::min<std::int64_t>(limits.most, 1 << 30);
  std::optional<std::int64_t> wide;
  if (fallback) wide = *fallback;
  return static_cast<int>(integer(key, limits, wide));
}

double JsonObject::real(std::string_view key, RealLimits limits,
                        std::optional<double> fallback) {
  const Json* value = find(key, fallback.has_value());
  const double otherwise = fallback.value_or(limits.least);
  if (!value) return otherwise;
  const double d = value->is_number() ? value->get<double>() : NAN;
  if (!std::isfinite(d) || d < limits.least || d > limits.most) {
    const bool positive =
        limits.least > 0 && limits.least < 1e-200 && limits.most >= 1e300;
    wrong(key, positive ? std::string("a number above 0")
               : limits.least == 0 && limits.most >= 1e300
                   ? std::string("a number of 0 or more")
                   : fmt::format("a number from {} to {}", limits.least,
                                 limits.most));
    return otherwise;
  }
  return d;
}

bool JsonObject::boolean(std::string_view key, std::optional<bool> fallback) {
  const Json* value = find(key, fallback.has_value());
  if (!value) return fallback.value_or(false);
  if (!value->is_boolean()) {
    wrong(key, "true or false");
    return fallback.value_or(false);
  }
  return value->get<bool>();
}

std::string JsonObject::text(std::string_view key,
                             std::optional<std::string> fallback) {
  const Json* value = find(key, fallback.has_value());
  if (!value) return std::move(fallback).value_or("");
  if (!value->is_string()) {
    wrong(key, "a text");
    return std::move(fallback).value_or("");
  }
  return value->get<std::string>();
}

std::vector<std::int64_t> JsonObject::integers(std::string_view key,
                                               Limits limits, bool optional) {
  std::vector<std::int64_t> out;
  const Json* value = find(key, optional);
  if (!value) return out;
  if (!value->is_array()) {
    wrong(key, "a list of whole numbers");
    return out;
  }
  for (std::size_t i = 0; i < value->size(); ++i) {
    auto number = whole_number((*value)[i]);
    if (!number || *number < limits.least || *number > limits.most) {
      number.reset();
      findings_->error(
          fmt::format("{}/{}", where(key), i),
          fmt::format("expected a whole number from {} to {}, "
                      "found {}",
                      limits.least, limits.most, shown((*value)[i])));
    }
    out.push_back(number.value_or(limits.least));
  }
  return out;
}

std::vector<JsonObject> JsonObject::objects(std::string_view key,
                                            bool optional) {
  std::vector<JsonObject> out;
  const Json* value = find(key, optional);
  if (!value) return out;
  if (!value->is_array()) {
    wrong(key, "a list of objects");
    return out;
  }
  for (std::size_t i = 0; i < value->size(); ++i) {
    out.emplace_back((*value)[i], fmt::format("{}/{}", where(key), i),
                     *findings_);
  }
  return out;
}

std::optional<JsonObject> JsonObject::object(std::string_view key,
                                             bool optional) {
  const Json* value = find(key, optional);
  if (!value) return {};
  return JsonObject(*value, where(key), *findings_);
}

std::string JsonObject::choice_text(std::string_view key,
                                    std::span<const std::string> names,
                                    bool optional) {
  const Json* value = find(key, optional);
  if (!value) return {};
  const std::string given = value->is_string() ? value->get<std::string>() : "";
  if (std::find(names.begin(), names.end(), given) == names.end()) {
    wrong(key,
          fmt::format("one of {}{}", join(names), did_you_mean(given, names)));
  }
  return given;
}

/// The words in their order, each once.
static std::vector<std::string> once(const std::vector<std::string>& words) {
  std::vector<std::string> out;
  for (const std::string& w : words) {
    if (std::find(out.begin(), out.end(), w) == out.end()) out.push_back(w);
  }
  return out;
}

void JsonObject::finish() {
  for (const auto& [key, value] : value_->items()) {
    if (std::find(known_.begin(), known_.end(), key) != known_.end()) continue;
    findings_->error(
        where(excerpt(key)),
        fmt::format("unknown key{}; known here: {}", did_you_mean(key, known_),
                    join(once(known_))));
  }
}

}  // namespace troupe
