#include "data/byte_level.h"

#include <array>
#include <map>

#include "base/utf8.h"

namespace troupe::data {
namespace {

bool stands_for_itself(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
}

std::string utf8_of(int character) {
  if (character < 0x80) return {static_cast<char>(character)};
  return {static_cast<char>(0xC0 | (character >> 6)),
          static_cast<char>(0x80 | (character & 0x3F))};
}

struct Spellings {
  std::array<std::string, 256> of_byte;
  std::map<std::string, char, std::less<>> of_character;

  Spellings() {
    int next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const auto i = static_cast<std::size_t>(byte);
      of_byte[i] = utf8_of(stands_for_itself(byte) ? byte : next++);
      of_character[of_byte[i]] = static_cast<char>(byte);
    }
  }
};

const Spellings& spellings() {
  static const Spellings out;
  return out;
}

}  // namespace

const std::string& spelling_of(unsigned char byte) {
  return spellings().of_byte[byte];
}

std::optional<std::string> bytes_of(std::string_view spelt) {
  std::string out;
  while (!spelt.empty()) {
    const std::size_t size = character_size(spelt);
    const auto it = spellings().of_character.find(spelt.substr(0, size));
    if (size == 0 || it == spellings().of_character.end()) return {};
    out += it->second;
    spelt.remove_prefix(size);
  }
  return out;
}

}  // namespace troupe::data
