// Tokens that are found in a text before it is cut into words.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace troupe::data {

/// Finds the leftmost and there the longest of some texts.
class AddedTokens {
 public:
  AddedTokens() = default;
  /// Of a text that is there twice one token counts.
  ///
  /// Requires: texts that are not empty.
  explicit AddedTokens(
      std::vector<std::pair<std::string, std::int32_t>> tokens);

  struct Found {
    std::size_t first = 0, size = 0;
    std::int32_t token = 0;
  };
  std::optional<Found> find(std::string_view text, std::size_t from) const;

 private:
  std::optional<Found> longest_at(std::string_view text, std::size_t at) const;

  std::vector<std::pair<std::string, std::int32_t>> sorted_;
  std::array<bool, 256> begins_ = {};  // by byte: some text begins with it
};

}  // namespace troupe::data
