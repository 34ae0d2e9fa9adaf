// Byte pair encoding of words: pairs of neighbours become one, the pair that
// was learnt first before all others.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "data/mixed.h"

namespace troupe::data {

struct BpeModel {
  struct Merge {
    std::int32_t rank = 0;   ///< lower ones first
    std::int32_t token = 0;  ///< what the pair becomes
  };
  struct HashPair {
    std::size_t operator()(std::uint64_t pair) const { return mixed(pair); }
  };
  std::array<std::int32_t, 256> bytes = {};  ///< tokens, or -1
  std::unordered_map<std::uint64_t, Merge, HashPair> merges = {};
  /// Words that are tokens whatever merges say (`ignore_merges`).
  std::unordered_map<std::string, std::int32_t> whole = {};
  std::int32_t unknown = -1;  ///< for bytes without a token, or -1

  static std::uint64_t pair_of(std::int32_t left, std::int32_t right) {
    return (static_cast<std::uint64_t>(static_cast<std::uint32_t>(left))
            << 32) |
           static_cast<std::uint32_t>(right);
  }
};

/// Keeps the tokens of words seen before.
class Bpe {
 public:
  explicit Bpe(BpeModel model) : model_(std::move(model)) {}

  /// Appends the tokens of a word, in O(n log n).
  ///
  /// Errors: input, for a byte that has no token.
  /// Source: Sennrich, Haddow, Birch, Neural machine translation of rare
  ///         words with subword units, ACL 2016.
  Result<void> encode(std::string_view word, std::vector<std::int32_t>& out);

 private:
  struct Symbol {
    std::int32_t token, before, after;
  };
  struct Candidate {
    std::int32_t rank, at;
    std::uint64_t pair;
    bool operator<(const Candidate& o) const {  // the first comes out first
      return rank != o.rank ? rank > o.rank : at > o.at;
    }
  };
  struct HashText {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const {
      return std::hash<std::string_view>{}(text);
    }
  };
  struct Kept {
    std::size_t first = 0, count = 0;
  };

  Result<void> begin(std::string_view word);
  void propose(std::int32_t at);
  void merge();

  BpeModel model_;
  std::vector<Symbol> symbols_;        // of the word, linked
  std::vector<Candidate> candidates_;  // a heap
  std::unordered_map<std::string, Kept, HashText, std::equal_to<>> seen_;
  std::vector<std::int32_t> kept_;
};

}  // namespace troupe::data
