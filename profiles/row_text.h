// Rows as text, for messages: what tells them apart, and what they say.
#pragma once

#include <fmt/format.h>

#include <concepts>
#include <string>
#include <string_view>

#include "profiles/rows.h"

namespace troupe::profiles {

/// Columns that are no part of a table's key (profiles/FORMAT.md).
template <typename Row>
bool is_value(std::string_view name) {
  if constexpr (std::same_as<Row, StageRow>) {
    for (const std::string_view value :
         {"heads", "kv_heads", "head_dim", "ffn", "gated", "time_s", "a", "b",
          "c", "max_seq"}) {
      if (name == value) return true;
    }
    return false;
  }
  return name == "time_s" || name == "spread" || name == "samples" ||
         name == "scaled";
}

template <typename Row>
std::string key_text(const Row& row) {
  std::string text(kTable<Row>);
  fields(row, [&](std::string_view name, const auto& value, Need) {
    if (!is_value<Row>(name)) text += ' ' + to_text(value);
  });
  return text;
}

template <typename Row>
std::string value_text(const Row& row) {
  std::string text;
  fields(row, [&](std::string_view name, const auto& value, Need) {
    if (!is_value<Row>(name)) return;
    if (!text.empty()) text += ' ';
    text += fmt::format("{}={}", name, to_text(value));
  });
  return text;
}

}  // namespace troupe::profiles
