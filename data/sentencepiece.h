// SentencePiece models (.model): BPE and unigram, as of Llama 2.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "data/tokenizer.h"

namespace troupe::data {

/// A document ends with `end_token`; empty: the model's eos.
///
/// Errors: as read_tokenizer.
Result<Tokenizer> read_sentencepiece(const std::filesystem::path& path,
                                     std::string_view content,
                                     const std::string& end_token);

}  // namespace troupe::data
