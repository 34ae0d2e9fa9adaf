// Documents as tokens.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "data/tokenizer.h"

namespace troupe::data {

/// Documents, each ended by a token of its own.
struct Corpus {
  std::vector<std::vector<std::int32_t>> documents;
  std::int32_t vocabulary = kByteVocabulary;  ///< tokens are below it
};

std::int64_t token_count(const Corpus& corpus);

/// Cuts `text` into documents at empty lines, and those into tokens.
///
/// Errors: input, for a text without a document; those of the tokenizer, with
///         the line on which the document begins.
Result<Corpus> make_corpus(std::string_view text, const std::string& name,
                           const Tokenizer& tokenizer);

/// The same, a token for each byte.
Result<Corpus> byte_corpus(std::string_view text, const std::string& name);

/// Errors: input, as read_file (at most 1 GiB).
Result<std::string> read_text(const std::filesystem::path& path);

/// A small text of our own, for runs without a file; as bytes.
std::string_view sample_text();
const Corpus& sample_corpus();

}  // namespace troupe::data
