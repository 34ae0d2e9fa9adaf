#include "results/text.h"

#include <fmt/format.h>

#include <array>
#include <cmath>

#include "base/json.h"
#include "base/utf8.h"

namespace troupe::results {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

/// Calls `f` with each character of `text`; invalid bytes come as U+FFFD.
template <typename F>
void each_character(std::string_view text, F f) {
  while (!text.empty()) {
    const std::size_t length = character_size(text);
    f(length == 0 ? kReplacement : text.substr(0, length));
    text.remove_prefix(length == 0 ? 1 : length);
  }
}

bool is_control(std::string_view character) {
  const auto first = static_cast<unsigned char>(character[0]);
  if (first < 0x20 || first == 0x7F) return true;
  // U+0080 to U+009F; U+202A to U+202E and U+2066 to U+2069 reverse text.
  if (first == 0xC2) return static_cast<unsigned char>(character[1]) < 0xA0;
  return (character >= "\xE2\x80\xAA" && character <= "\xE2\x80\xAE") ||
         (character >= "\xE2\x81\xA6" && character <= "\xE2\x81\xA9");
}

}  // namespace

std::string valid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  each_character(text, [&](std::string_view c) { out += c; });
  return out;
}

std::string cell(std::string_view text, std::size_t most) {
  std::string out;
  std::size_t count = 0;
  std::size_t keep = 0;
  each_character(text, [&](std::string_view c) {
    if (count + 3 == most) keep = out.size();
    if (++count <= most) out += is_control(c) ? "?" : c;
  });
  if (count > most) out = out.substr(0, keep) + "...";
  return out;
}

std::size_t width_of(std::string_view text) {
  std::size_t width = 0;
  each_character(text, [&](std::string_view) { ++width; });
  return width;
}

std::string left(std::string_view text, std::size_t width) {
  std::string out(text);
  const std::size_t w = width_of(text);
  if (w < width) out.append(width - w, ' ');
  return out;
}

std::string right(std::string_view text, std::size_t width) {
  const std::size_t w = width_of(text);
  return std::string(w < width ? width - w : 0, ' ') + std::string(text);
}

std::string html(std::string_view text) {
  std::string out;
  out.reserve(text.size() + text.size() / 8);
  each_character(text, [&](std::string_view c) {
    switch (c[0]) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '\n':
        out += '\n';
        break;
      default:
        out += is_control(c) ? kReplacement : c;
    }
  });
  return out;
}

std::string csv_field(std::string_view text) {
  std::string valid = valid_utf8(text);
  const bool plain =
      valid.find_first_of(",\"\r\n") == std::string::npos &&
      (valid.empty() || (valid.front() != ' ' && valid.back() != ' '));
  if (plain) return valid;
  std::string out = "\"";
  for (const char c : valid) {
    if (c == '"') out += '"';
    out += c;
  }
  return out + '"';
}

std::string json_string(std::string_view text) {
  return Json(text).dump(-1, ' ', true, Json::error_handler_t::replace);
}

std::string thousands(std::int64_t value) {
  std::string digits = fmt::format("{}", value);
  const std::size_t start = value < 0 ? 1 : 0;
  for (std::size_t i = digits.size(); i > start + 3;) {
    i -= 3;
    digits.insert(i, ",");
  }
  return digits;
}

std::string percent(double share) {
  if (!std::isfinite(share)) return "-";
  return fmt::format("{:.1f} %", share * 100);
}

std::string short_count(double value) {
  if (!std::isfinite(value)) return "-";
  static constexpr std::array kPrefix{"", " k", " M", " G", " T", " P", " E"};
  std::size_t prefix = 0;
  // 999.5 would print as 1e+03 with three digits.
  while (std::abs(value) >= 999.5 && prefix + 1 < kPrefix.size()) {
    value /= 1000;
    ++prefix;
  }
  const double size = std::abs(value);
  const int decimals = size >= 100 || size == 0 ? 0 : size >= 10 ? 1 : 2;
  return fmt::format("{:.{}f}{}", value, decimals, kPrefix[prefix]);
}

std::string exact(double value) {
  if (!std::isfinite(value)) return "0";
  if (std::trunc(value) == value && std::abs(value) < 1e15) {
    return fmt::format("{}", static_cast<std::int64_t>(value));
  }
  return fmt::format("{}", value);
}

std::string fixed(double value, int digits) {
  if (!std::isfinite(value)) value = 0;
  std::string text = fmt::format("{:.{}f}", value, digits);
  if (text.find('.') != std::string::npos) {
    text.erase(text.find_last_not_of('0') + 1);
    if (text.back() == '.') text.pop_back();
  }
  return text == "-0" ? "0" : text;
}

}  // namespace troupe::results
