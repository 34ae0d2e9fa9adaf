// How byte-level tokenizers spell bytes: each as one visible character.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace troupe::data {

/// Model:  the visible characters of Latin-1 stand for themselves, the other
///         68 bytes are U+0100, U+0101, ... in their order: a blank is U+0120.
/// Source: openai/gpt-2, `bytes_to_unicode` of src/encoder.py.
const std::string& spelling_of(unsigned char byte);

/// The bytes of a spelt token; nothing when a character stands for none.
std::optional<std::string> bytes_of(std::string_view spelt);

}  // namespace troupe::data
