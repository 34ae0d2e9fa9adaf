// Reading JSON that people write: every problem is reported with its file,
// its JSON path, the value, what was expected and, for a misspelt key, what
// was probably meant. Several problems are reported together.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/findings.h"
#include "base/result.h"

namespace troupe {

using Json = nlohmann::json;

/// Parses text (comments allowed). `name` stands for the file in messages.
///
/// Errors: input, with line and column, for bad syntax, repeated keys or
///         numbers that overflow; for nesting over 64 levels.
Result<Json> parse_json(std::string_view text, std::string_view name);
Result<Json> read_json(const std::filesystem::path& path);

/// Stable text: two spaces of indentation, keys sorted.
std::string to_text(const Json& json);

/// Inclusive limits of an integer.
struct Limits {
  std::int64_t least = std::numeric_limits<std::int64_t>::min();
  std::int64_t most = std::numeric_limits<std::int64_t>::max();
};
inline constexpr Limits kPositive{1, std::int64_t{1} << 40};
inline constexpr Limits kNotNegative{0, std::int64_t{1} << 40};

/// Limits of a real number; NaN and infinity are never accepted.
struct RealLimits {
  double least = -std::numeric_limits<double>::max();
  double most = std::numeric_limits<double>::max();
};
inline constexpr RealLimits kPositiveReal{1e-300, 1e300};
inline constexpr RealLimits kNotNegativeReal{0.0, 1e300};

/// One JSON object being read. Each getter marks its key as known; `finish`
/// reports the others. After a problem a getter returns its fallback (or the
/// least allowed value), so that reading goes on and finds the next one.
class JsonObject {
 public:
  /// Reports a finding when `value` is not an object.
  JsonObject(const Json& value, std::string where, Findings& findings);

  bool has(std::string_view key) const;
  /// Where `key` is, for messages: "file.json: /phases/0/dp".
  std::string where(std::string_view key) const;
  const std::string& where() const { return where_; }
  Findings& findings() const { return *findings_; }

  /// Without a fallback the key is required.
  std::int64_t integer(std::string_view key, Limits limits,
                       std::optional<std::int64_t> fallback = {});
  int small(std::string_view key, Limits limits,
            std::optional<int> fallback = {});
  double real(std::string_view key, RealLimits limits,
              std::optional<double> fallback = {});
  bool boolean(std::string_view key, std::optional<bool> fallback = {});
  std::string text(std::string_view key,
                   std::optional<std::string> fallback = {});
  /// A list of integers; missing gives an empty list when `optional`.
  std::vector<std::int64_t> integers(std::string_view key, Limits limits,
                                     bool optional = false);
  /// The elements of a list of objects; missing gives an empty list when
  /// `optional`.
  std::vector<JsonObject> objects(std::string_view key, bool optional = false);
  std::optional<JsonObject> object(std::string_view key, bool optional = false);
  /// The value as it is (marked known), or null when missing.
  const Json* raw(std::string_view key);

  /// One of a closed set of words.
  template <typename Enum>
  Enum choice(std::string_view key,
              std::span<const std::pair<const char*, Enum>> words,
              std::optional<Enum> fallback = {}) {
    std::vector<std::string> names;
    for (const auto& [word, value] : words) names.emplace_back(word);
    const std::string given = choice_text(key, names, fallback.has_value());
    for (const auto& [word, value] : words) {
      if (given == word) return value;
    }
    return fallback ? *fallback : words.front().second;
  }

  /// Reports every key that no getter asked for.
  void finish();

 private:
  std::string choice_text(std::string_view key,
                          std::span<const std::string> names, bool optional);
  const Json* find(std::string_view key, bool optional);
  void wrong(std::string_view key, std::string_view expected);

  const Json* value_;
  std::string where_;
  Findings* findings_;
  std::vector<std::string> known_;
};

/// A whole number from `value`, also from a real without fraction such as
/// 1e3; nothing when it is not one or overflows.
std::optional<std::int64_t> whole_number(const Json& value);

}  // namespace troupe
