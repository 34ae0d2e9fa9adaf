// Text for readers and for machines: numbers with units, padding that counts
// characters instead of bytes, and escaping for HTML, CSV and JSON.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace troupe::results {

/// `text` with every byte that is not valid UTF-8 replaced by U+FFFD.
std::string valid_utf8(std::string_view text);

/// `text` for one terminal or table cell: valid UTF-8 with control characters
/// (escape sequences too) shown as '?', cut to `most` characters with "...".
std::string cell(std::string_view text, std::size_t most = 60);

/// Code points, not bytes.
std::size_t width_of(std::string_view text);
/// Padded with spaces to `width` characters; never cut.
std::string left(std::string_view text, std::size_t width);
std::string right(std::string_view text, std::size_t width);

/// For HTML and SVG text and double-quoted attributes: & < > " ' escaped,
/// invalid UTF-8 and control characters replaced.
std::string html(std::string_view text);

/// One CSV field as RFC 4180 wants it: quoted when it must be.
std::string csv_field(std::string_view text);

/// A JSON string with its quotes, ASCII only.
std::string json_string(std::string_view text);

/// "1,234,567".
std::string thousands(std::int64_t value);
/// 0.4512 as "45.1 %"; "-" when it is not finite.
std::string percent(double share);
/// "1.14 M", "823 k": three digits and a prefix; "-" when not finite.
std::string short_count(double value);
/// The shortest decimal that reads back as the same double; 0 when it is not
/// finite, so that no output ever holds NaN.
std::string exact(double value);
/// `value` with `digits` decimals, without trailing zeros: for coordinates.
std::string fixed(double value, int digits = 2);

}  // namespace troupe::results
