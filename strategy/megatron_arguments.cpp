#include "strategy/megatron_arguments.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <vector>

#include "base/text.h"

namespace troupe::strategy {
namespace {

/// The words of a shell command; a comment ends at its line.
std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> out;
  std::string word;
  bool begun = false;
  char quote = 0;
  const auto end_word = [&] {
    if (begun) out.push_back(std::move(word));
    word.clear();
    begun = false;
  };
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const bool blank = c == ' ' || c == '\t' || c == '\n' || c == '\r';
    if (c == '\\' && i + 1 < text.size() && text[i + 1] == '\n') {
      ++i;
      end_word();
    } else if (quote) {
      // Arguments inside a quoted shell variable are arguments too.
      if (c == quote) {
        quote = 0;
      } else if (blank) {
        end_word();
      } else {
        word += c;
        begun = true;
      }
    } else if (c == '"' || c == '\'') {
      quote = c;
    } else if (c == '#' && !begun) {
      while (i + 1 < text.size() && text[i + 1] != '\n') ++i;
    } else if (blank || c == '(' || c == ')') {
      end_word();
    } else {
      word += c;
      begun = true;
    }
  }
  end_word();
  return out;
}

Json value_of(const std::string& word) {
  std::int64_t whole = 0;
  double real = 0;
  const char* end = word.data() + word.size();
  if (const auto [p, e] = std::from_chars(word.data(), end, whole);
      e == std::errc{} && p == end) {
    return whole;
  }
  if (const auto [p, e] = std::from_chars(word.data(), end, real);
      e == std::errc{} && p == end && std::isfinite(real)) {
    return real;
  }
  return word;
}

bool is_name(const std::string& word) {
  return word.size() > 2 && word[0] == '-' && word[1] == '-';
}

}  // namespace

Result<Json> parse_arguments(std::string_view text, std::string_view name) {
  Json out = Json::object();
  std::vector<std::string> words = words_of(text);
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (!is_name(words[i])) continue;
    std::string key = words[i].substr(2);
    Json value = true;
    if (const std::size_t equals = key.find('='); equals != key.npos) {
      value = value_of(key.substr(equals + 1));
      key.resize(equals);
    } else if (i + 1 < words.size() && !is_name(words[i + 1])) {
      value = value_of(words[++i]);
    }
    for (char& c : key) c = c == '_' ? '-' : c;
    if (value.is_string() &&
        value.get<std::string>().find('$') != std::string::npos) {
      // A shell variable only matters where the number is needed; the reader
      // that needs it says so.
      value = excerpt(value.get<std::string>());
    }
    if (out.contains(key) && out[key] != value) {
      return fail(Fault::input,
                  fmt::format("{}: --{} is given twice, as {} and {}", name,
                              excerpt(key), out[key].dump(), value.dump()));
    }
    out[key] = std::move(value);
  }
  if (out.empty()) {
    return fail(Fault::input, fmt::format("{}: no arguments such as "
                                          "--tensor-model-parallel-size 8",
                                          name));
  }
  return out;
}

}  // namespace troupe::strategy
