#include "base/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

namespace troupe {
namespace {

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

/// Levenshtein's, letter case ignored.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t keep = diagonal + (lower(a[i]) == lower(b[j]) ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({keep, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

/// Three significant digits, more before the point, no trailing zeros.
std::string three_digits(double value) {
  const double size = std::abs(value);
  const int decimals = size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2;
  std::string out = fmt::format("{:.{}f}", value, decimals);
  if (size != 0 && size < 0.9995) out = fmt::format("{:.3g}", value);
  if (out.find('.') != std::string::npos && out.find('e') == out.npos) {
    out.erase(out.find_last_not_of('0') + 1);
    if (out.back() == '.') out.pop_back();
  }
  return out;
}

}  // namespace

std::string closest(std::string_view word,
                    std::span<const std::string> candidates) {
  if (word.size() > 200) return {};
  const std::size_t limit =
      word.size() < 4 ? 1 : std::max<std::size_t>(2, word.size() / 3);
  std::string best;
  std::size_t best_distance = limit + 1;
  for (const std::string& c : candidates) {
    if (c.size() > word.size() + limit) continue;
    const std::size_t d = edit_distance(word, c);
    // Nothing is close to a word that shares no letter with it.
    if (d >= std::max(word.size(), c.size())) continue;
    if (d < best_distance) {
      best = c;
      best_distance = d;
    }
  }
  return best;
}

std::string did_you_mean(std::string_view word,
                         std::span<const std::string> candidates) {
  const std::string best = closest(word, candidates);
  return best.empty() ? "" : fmt::format(" (did you mean '{}'?)", best);
}

std::string join(std::span<const std::string> words,
                 std::string_view separator) {
  return fmt::format("{}", fmt::join(words, separator));
}

std::string counted(std::int64_t number, std::string_view noun) {
  const auto ends = [&](std::string_view end) { return noun.ends_with(end); };
  if (number == 1) return fmt::format("1 {}", noun);
  if (ends("s") || ends("x") || ends("ch") || ends("sh")) {
    return fmt::format("{} {}es", number, noun);
  }
  const bool vowel = noun.size() > 1 &&
                     std::string_view("aeiou").find(noun[noun.size() - 2]) !=
                         std::string_view::npos;
  if (ends("y") && !vowel) {
    return fmt::format("{} {}ies", number, noun.substr(0, noun.size() - 1));
  }
  return fmt::format("{} {}s", number, noun);
}

std::string human(Time time) {
  const double s = to_seconds(time);
  const double size = std::abs(s);
  // The bounds are where rounding to three digits reaches the next unit.
  if (size >= 0.9995) return three_digits(s) + " s";
  if (size >= 0.9995e-3) return three_digits(s * 1e3) + " ms";
  if (size >= 0.9995e-6) return three_digits(s * 1e6) + " us";
  return three_digits(s * 1e9) + " ns";
}

std::string human(Bytes bytes) {
  static constexpr std::array kUnits{"B", "KiB", "MiB", "GiB", "TiB"};
  double v = static_cast<double>(bytes.v);
  std::size_t unit = 0;
  while (std::abs(v) >= 1024 && unit + 1 < kUnits.size()) {
    v /= 1024;
    ++unit;
  }
  return fmt::format("{} {}", three_digits(v), kUnits[unit]);
}

std::string human_count(double value, std::string_view unit) {
  static constexpr std::array kPrefix{"", "k", "M", "G", "T", "P", "E"};
  std::size_t prefix = 0;
  while (std::abs(value) >= 999.5 && prefix + 1 < kPrefix.size()) {
    value /= 1000;
    ++prefix;
  }
  return fmt::format("{} {}{}", three_digits(value), kPrefix[prefix], unit);
}

std::string excerpt(std::string_view text, std::size_t most) {
  std::string out;
  std::size_t end = std::min(most, text.size());
  // Not in the middle of a UTF-8 character.
  for (int back = 0; back < 3 && end > 0 && end < text.size(); ++back) {
    if ((static_cast<unsigned char>(text[end]) & 0xC0) != 0x80) break;
    --end;
  }
  for (const char c : text.substr(0, end)) {
    out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  }
  if (text.size() > most) out += "...";
  return out;
}

}  // namespace troupe
