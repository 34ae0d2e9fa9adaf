// A byte-level tokenizer.json made of pairs at random, and what byte pair
// encoding means, done plainly.
#pragma once

#include <rapidcheck/gtest.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"

namespace troupe::data {

/// How byte-level tokenizers spell a byte: U+0100 and on for the 68 that are
/// not visible in Latin-1, by their order.
inline std::string spelt(unsigned char byte) {
  const auto hidden = [](int b) {
    return b <= 0x20 || (b >= 0x7F && b <= 0xA0) || b == 0xAD;
  };
  int character = byte;
  if (hidden(byte)) {
    character = 0x100;
    for (int b = 0; b < byte; ++b) character += hidden(b) ? 1 : 0;
  }
  if (character < 0x80) return std::string(1, static_cast<char>(character));
  return {static_cast<char>(0xC0 + character / 64),
          static_cast<char>(0x80 + character % 64)};
}

struct SmallTokenizer {
  std::vector<std::string> tokens;  ///< by number
  std::vector<std::pair<std::string, std::string>> merges;
  bool ignores_merges = false, merges_as_lists = false;

  std::int32_t number(const std::string& token) const {
    const auto it = std::find(tokens.begin(), tokens.end(), token);
    return static_cast<std::int32_t>(it - tokens.begin());
  }

  Json json() const {
    Json vocab = Json::object();
    for (std::size_t i = 0; i < tokens.size(); ++i) vocab[tokens[i]] = i;
    Json pairs = Json::array();
    for (const auto& [a, b] : merges) {
      pairs.push_back(merges_as_lists ? Json{a, b} : Json(a + " " + b));
    }
    return {{"version", "1.0"},
            {"added_tokens",
             {{{"id", tokens.size()},
               {"content", "<|endoftext|>"},
               {"special", true},
               {"normalized", false}}}},
            {"normalizer", nullptr},
            {"pre_tokenizer",
             {{"type", "ByteLevel"},
              {"add_prefix_space", false},
              {"use_regex", false}}},
            {"model",
             {{"type", "BPE"},
              {"vocab", vocab},
              {"merges", pairs},
              {"ignore_merges", ignores_merges}}}};
  }

  /// As long as there is a pair that merges know: joins the leftmost of the
  /// lowest rank.
  std::vector<std::int32_t> encode(const std::string& word) const {
    std::vector<std::string> symbols;
    std::string whole;
    for (const char c : word) {
      symbols.push_back(spelt(static_cast<unsigned char>(c)));
      whole += symbols.back();
    }
    if (ignores_merges && std::ranges::count(tokens, whole) > 0) {
      return {number(whole)};
    }
    std::map<std::pair<std::string, std::string>, std::size_t> ranks;
    for (std::size_t r = 0; r < merges.size(); ++r) ranks[merges[r]] = r;
    while (true) {
      std::size_t best = merges.size();
      std::size_t at = 0;
      for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
        const auto it = ranks.find({symbols[i], symbols[i + 1]});
        if (it == ranks.end() || it->second >= best) continue;
        best = it->second;
        at = i;
      }
      if (best == merges.size()) break;
      symbols[at] += symbols[at + 1];
      symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    }
    std::vector<std::int32_t> out;
    for (const std::string& s : symbols) out.push_back(number(s));
    return out;
  }
};

/// All bytes, and pairs of tokens that are there, mostly of few letters.
inline SmallTokenizer random_tokenizer() {
  SmallTokenizer out;
  for (int b = 0; b < 256; ++b) {
    out.tokens.push_back(spelt(static_cast<unsigned char>(b)));
  }
  std::vector<std::string> parts;
  for (const char c : std::string("ab \xC3\xA9\xE2\x82\xAC")) {
    parts.push_back(spelt(static_cast<unsigned char>(c)));
  }
  const int count = *rc::gen::inRange(0, 40);
  for (int i = 0; i < count; ++i) {
    const std::string a = *rc::gen::elementOf(parts);
    const std::string b = *rc::gen::elementOf(parts);
    if (std::ranges::count(out.tokens, a + b) == 0) {
      out.tokens.push_back(a + b);
      parts.push_back(a + b);
    }
    if (std::ranges::count(out.merges, std::pair{a, b}) == 0) {
      out.merges.emplace_back(a, b);
    }
  }
  out.ignores_merges = *rc::gen::arbitrary<bool>();
  out.merges_as_lists = *rc::gen::arbitrary<bool>();
  return out;
}

/// Characters of one to four bytes, some of them many times.
inline std::string random_text(int most) {
  std::string out;
  const int count = *rc::gen::inRange(0, most);
  for (int i = 0; i < count; ++i) {
    const int kind = *rc::gen::inRange(0, 8);
    char32_t c = U'a';
    if (kind < 5) {
      c = *rc::gen::element(U'a', U'b', U' ', U'\u00E9', U'\u20AC');
    } else if (kind < 6) {
      c = *rc::gen::inRange<char32_t>(1, 0x80);
    } else {
      c = *rc::gen::inRange<char32_t>(0x80, 0x110000);
      if (c >= 0xD800 && c < 0xE000) c = U'\U0001F600';
    }
    if (c < 0x80) {
      out += static_cast<char>(c);
    } else if (c < 0x800) {
      out += {static_cast<char>(0xC0 | (c >> 6)),
              static_cast<char>(0x80 | (c & 63))};
    } else if (c < 0x10000) {
      out += {static_cast<char>(0xE0 | (c >> 12)),
              static_cast<char>(0x80 | ((c >> 6) & 63)),
              static_cast<char>(0x80 | (c & 63))};
    } else {
      out += {static_cast<char>(0xF0 | (c >> 18)),
              static_cast<char>(0x80 | ((c >> 12) & 63)),
              static_cast<char>(0x80 | ((c >> 6) & 63)),
              static_cast<char>(0x80 | (c & 63))};
    }
  }
  return out;
}

}  // namespace troupe::data
