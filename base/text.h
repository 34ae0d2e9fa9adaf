// Small things about words: spelling suggestions and human-readable numbers.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/units.h"

namespace troupe {

/// The candidate closest to `word` by edit distance, letter case ignored, or
/// empty when none is within a third of its length (at least 2 edits for
/// words of 4 or more) or shares a letter with it.
std::string closest(std::string_view word,
                    std::span<const std::string> candidates);

/// " (did you mean 'x'?)" or empty.
std::string did_you_mean(std::string_view word,
                         std::span<const std::string> candidates);

/// "a, b, c".
std::string join(std::span<const std::string> words,
                 std::string_view separator = ", ");

/// "1 stage", "0 stages", "2 micro-batches", "3 strategies": the number with
/// the English plural of a regular noun.
std::string counted(std::int64_t number, std::string_view noun);

/// "1.25 s", "3.4 ms", "12 us": three significant digits.
std::string human(Time time);
/// "12.3 GiB", "512 MiB", "17 B".
std::string human(Bytes bytes);
/// "12.3 PFLOP", with the prefix that leaves one to three digits.
std::string human_count(double value, std::string_view unit);

/// `text` cut to at most `most` bytes with "..." at the end, control characters
/// shown as '?': for echoing hostile input in a message.
std::string excerpt(std::string_view text, std::size_t most = 60);

}  // namespace troupe
