#include "base/utf8.h"

namespace troupe {
namespace {

struct ByteRange {
  unsigned char least, most;
  bool holds(char c) const {
    const auto byte = static_cast<unsigned char>(c);
    return byte >= least && byte <= most;
  }
};

/// What may follow as the second byte.
ByteRange second_of(unsigned char first) {
  switch (first) {
    case 0xE0:
      return {0xA0, 0xBF};
    case 0xED:
      return {0x80, 0x9F};
    case 0xF0:
      return {0x90, 0xBF};
    case 0xF4:
      return {0x80, 0x8F};
    default:
      return {0x80, 0xBF};
  }
}

}  // namespace

std::size_t character_size(std::string_view text) {
  if (text.empty()) return 0;
  const auto first = static_cast<unsigned char>(text[0]);
  if (first < 0x80) return 1;
  if (first < 0xC2 || first > 0xF4) return 0;
  const std::size_t size = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  if (text.size() < size || !second_of(first).holds(text[1])) return 0;
  for (std::size_t i = 2; i < size; ++i) {
    if (!ByteRange{0x80, 0xBF}.holds(text[i])) return 0;
  }
  return size;
}

std::size_t first_invalid(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t size = character_size(text.substr(at));
    if (size == 0) return at;
    at += size;
  }
  return std::string_view::npos;
}

}  // namespace troupe
