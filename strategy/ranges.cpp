#include "strategy/ranges.h"

#include <fmt/format.h>

#include <charconv>
#include <optional>

#include "base/text.h"

namespace troupe::strategy {
namespace {

constexpr int kLargest = 1 << 30;

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\n\r");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\n\r") - first + 1);
}

std::optional<int> number(std::string_view text) {
  text = trimmed(text);
  int value = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < 0 ||
      value > kLargest) {
    return {};
  }
  return value;
}

}  // namespace

Result<std::vector<int>> parse_ranges(std::string_view text) {
  std::vector<int> out;
  if (trimmed(text).empty()) return out;
  for (;;) {
    const std::size_t comma = text.find(',');
    const std::string_view part = text.substr(0, comma);
    const std::size_t dash = part.find('-');
    const auto first = number(part.substr(0, dash));
    const auto last =
        dash == std::string_view::npos ? first : number(part.substr(dash + 1));
    if (!first || !last) {
      return fail(Fault::input,
                  fmt::format("expected numbers and ranges such as "
                              "\"0-7,16\", found \"{}\"",
                              excerpt(part)));
    }
    if (*last < *first) {
      return fail(Fault::input,
                  fmt::format("range {}-{} falls; write the smaller first",
                              *first, *last));
    }
    if (*last - *first >= kMostNumbers - static_cast<int>(out.size())) {
      return fail(Fault::input,
                  fmt::format("more than {} numbers", kMostNumbers));
    }
    for (int n = *first; n <= *last; ++n) out.push_back(n);
    if (comma == std::string_view::npos) return out;
    text.remove_prefix(comma + 1);
  }
}

std::string format_ranges(std::span<const int> numbers) {
  std::string out;
  for (std::size_t i = 0; i < numbers.size();) {
    std::size_t end = i;
    while (end + 1 < numbers.size() && numbers[end + 1] == numbers[end] + 1) {
      ++end;
    }
    if (!out.empty()) out += ',';
    out += end == i ? fmt::format("{}", numbers[i])
                    : fmt::format("{}-{}", numbers[i], numbers[end]);
    i = end + 1;
  }
  return out;
}

}  // namespace troupe::strategy
