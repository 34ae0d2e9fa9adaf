// What the SentencePiece library does not check of a model before it uses it.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace troupe::data {

/// Scores are numbers, and every way through the table of replaced characters
/// (a double-array trie and the texts it points to) stays in the table.
///
/// Errors: input, for what is not so and for fields that are cut off.
/// Source: google/sentencepiece, sentencepiece_model.proto; s-yata/darts-clone,
///         darts.h.
Result<void> check_sentencepiece(std::string_view content,
                                 const std::string& name);

}  // namespace troupe::data
