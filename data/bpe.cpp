#include "data/bpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

namespace troupe::data {
namespace {

/// Longer words are rare; more words than these are not kept.
constexpr std::size_t kLongestKept = 64, kMostKept = std::size_t{1} << 20;
constexpr std::int32_t kGone = -2;

}  // namespace

/// A symbol for every byte.
Result<void> Bpe::begin(std::string_view word) {
  if (word.size() > std::numeric_limits<std::int32_t>::max()) {
    return fail(Fault::input, "a word of more than 2 GiB");
  }
  symbols_.clear();
  candidates_.clear();
  const auto size = static_cast<std::int32_t>(word.size());
  for (std::int32_t i = 0; i < size; ++i) {
    const auto byte =
        static_cast<unsigned char>(word[static_cast<std::size_t>(i)]);
    const std::int32_t token =
        model_.bytes[byte] >= 0 ? model_.bytes[byte] : model_.unknown;
    if (token < 0) {
      return fail(Fault::input,
                  fmt::format("byte 0x{:02X} has no token in the vocabulary, "
                              "and there is no unk_token",
                              byte));
    }
    symbols_.push_back({token, i - 1, i + 1 < size ? i + 1 : -1});
  }
  for (std::int32_t i = 0; i + 1 < size; ++i) propose(i);
  return {};
}

/// The symbol at `at` and the one after it, when a merge knows them.
void Bpe::propose(std::int32_t at) {
  if (at < 0) return;
  const Symbol& left = symbols_[static_cast<std::size_t>(at)];
  if (left.after < 0) return;
  const std::uint64_t pair = BpeModel::pair_of(
      left.token, symbols_[static_cast<std::size_t>(left.after)].token);
  const auto it = model_.merges.find(pair);
  if (it == model_.merges.end()) return;
  candidates_.push_back({it->second.rank, at, pair});
  std::push_heap(candidates_.begin(), candidates_.end());
}

/// Performs the first candidate, unless its symbols are others by now.
void Bpe::merge() {
  std::pop_heap(candidates_.begin(), candidates_.end());
  const Candidate next = candidates_.back();
  candidates_.pop_back();
  Symbol& left = symbols_[static_cast<std::size_t>(next.at)];
  if (left.token == kGone || left.after < 0) return;
  Symbol& right = symbols_[static_cast<std::size_t>(left.after)];
  if (BpeModel::pair_of(left.token, right.token) != next.pair) return;
  left.token = model_.merges.at(next.pair).token;
  left.after = right.after;
  right.token = kGone;
  if (left.after >= 0) {
    symbols_[static_cast<std::size_t>(left.after)].before = next.at;
  }
  propose(left.before);
  propose(next.at);
}

Result<void> Bpe::encode(std::string_view word,
                         std::vector<std::int32_t>& out) {
  if (word.empty()) return {};
  if (const auto it = seen_.find(word); it != seen_.end()) {
    const auto first =
        kept_.begin() + static_cast<std::ptrdiff_t>(it->second.first);
    out.insert(out.end(), first,
               first + static_cast<std::ptrdiff_t>(it->second.count));
    return {};
  }
  const std::size_t before = out.size();
  const auto whole = model_.whole.empty()
                         ? model_.whole.end()
                         : model_.whole.find(std::string(word));
  if (whole != model_.whole.end()) {
    out.push_back(whole->second);
  } else {
    TRY_DO(begin(word));
    while (!candidates_.empty()) merge();
    for (std::int32_t i = 0; i >= 0;) {
      const Symbol& symbol = symbols_[static_cast<std::size_t>(i)];
      out.push_back(symbol.token);
      i = symbol.after;
    }
  }
  if (word.size() <= kLongestKept && seen_.size() < kMostKept) {
    seen_.emplace(word, Kept{kept_.size(), out.size() - before});
    kept_.insert(kept_.end(), out.begin() + static_cast<std::ptrdiff_t>(before),
                 out.end());
  }
  return {};
}

}  // namespace troupe::data
