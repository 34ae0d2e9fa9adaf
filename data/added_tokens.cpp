#include "data/added_tokens.h"

#include <algorithm>

namespace troupe::data {

AddedTokens::AddedTokens(
    std::vector<std::pair<std::string, std::int32_t>> tokens)
    : sorted_(std::move(tokens)) {
  std::ranges::sort(sorted_);
  const auto again = std::ranges::unique(
      sorted_, {}, &std::pair<std::string, std::int32_t>::first);
  sorted_.erase(again.begin(), again.end());
  for (const auto& [text, token] : sorted_) {
    begins_[static_cast<unsigned char>(text[0])] = true;
  }
}

/// Narrows the texts to those that agree with one byte more, and again.
std::optional<AddedTokens::Found> AddedTokens::longest_at(
    std::string_view text, std::size_t at) const {
  std::optional<Found> out;
  auto first = sorted_.begin();
  auto last = sorted_.end();
  for (std::size_t size = 0; first != last; ++size) {
    if (first->first.size() == size) {  // the shortest is the first
      out = {at, size, first->second};
      ++first;
    }
    if (at + size >= text.size()) break;
    const auto byte = static_cast<unsigned char>(text[at + size]);
    const auto next = [size](const auto& entry) {
      return static_cast<unsigned char>(entry.first[size]);
    };
    first = std::ranges::lower_bound(first, last, byte, {}, next);
    last = std::ranges::upper_bound(first, last, byte, {}, next);
  }
  return out;
}

std::optional<AddedTokens::Found> AddedTokens::find(std::string_view text,
                                                    std::size_t from) const {
  if (sorted_.empty()) return {};
  for (std::size_t at = from; at < text.size(); ++at) {
    if (!begins_[static_cast<unsigned char>(text[at])]) continue;
    if (auto found = longest_at(text, at)) return found;
  }
  return {};
}

}  // namespace troupe::data
