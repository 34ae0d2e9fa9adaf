// UTF-8, where text must be characters and not only bytes.
#pragma once

#include <cstddef>
#include <string_view>

namespace troupe {

/// Bytes of the character that `text` begins with; 0 where none does
/// (overlong forms, surrogates and values over U+10FFFF are none).
///
/// Source: The Unicode Standard 15.0, table 3-7.
std::size_t character_size(std::string_view text);

/// Where the first byte is that belongs to no character; npos: nowhere.
std::size_t first_invalid(std::string_view text);

}  // namespace troupe
